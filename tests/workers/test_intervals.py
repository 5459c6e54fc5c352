"""Budgets in steps: intervals replace epochs, whatever the length of a pass over the data."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, rungs, shortened, story, train
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers.batch_order import BatchOrder
from workers.pack_protocol import EpochReport, Pack
from workers.seeding import epoch_order
from workers.training import train_pack
from workers.workload_errors import CannotTrain
from workers.workloads import LoopWorkload, SplitName

__all__: list[str] = []

MLP = WORKLOADS["digits-mlp"]


def test_intervals_take_the_batches_of_the_passes_in_their_order() -> None:
    order = BatchOrder(examples=22, batch_size=4, accumulation_steps=2, interval_steps=4)
    found = torch.cat([order.rows(7, epoch=interval) for interval in (1, 2, 3)])
    passes = [epoch_order(7, epoch=number, examples=22)[:20].view(5, 4) for number in range(1, 6)]
    assert order.steps == 4
    assert torch.equal(found, torch.cat(passes)[:24])


@pytest.mark.parametrize("width", [1, 2])
def test_tensors_resume_within_a_pass(width: int, tmp_path: Path) -> None:
    data = shortened(data_of(MLP), 100, 40)
    members = [member("adamw", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(
        MLP, "adamw", *members, epochs=4, batch_size=16, interval_steps=4, width=width, schedule="linear"
    )
    whole, parts = train(pack, data=data), rungs(pack, tmp_path, 1, 3, data=data)
    assert [story(whole, str(n)) for n in range(2)] == [story(parts, str(n)) for n in range(2)]
    assert whole[-1].members[0].measurement.lr == pytest.approx(0.01 / 16)


def test_an_interval_as_long_as_an_epoch_is_one() -> None:
    data = shortened(data_of(MLP), 100, 40)
    pack = pack_of(MLP, "adamw", member("adamw"), epochs=3, batch_size=16)
    intervals = pack.model_copy(update={"interval_steps": 6})
    assert story(train(pack, data=data)) == story(train(intervals, data=data))


class Passes(LoopWorkload):
    """Shuffled and disturbed batches, 5 a pass."""

    card = WorkloadCard(
        name="passes",
        title="Passes",
        description="Two classes.",
        source="made",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.9,
        epochs=4,
        batch_size=4,
        examples={"train": 22, "validation": 8, "test": 8},
        parameters=10,
        epoch_s=0.05,
    )

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))

    def examples(self, number: int) -> TensorDataset:
        targets = torch.arange(number) % 2
        generator = torch.Generator().manual_seed(number)
        return TensorDataset(torch.randn(number, 4, generator=generator) + targets[:, None], targets)

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        def disturbed(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
            inputs = torch.stack([one for one, _ in parts])
            return inputs + 0.1 * torch.randn(inputs.shape) + 0.01 * epoch, torch.stack([b for _, b in parts])

        return DataLoader(self.examples(22), batch_size=batch_size, shuffle=True, collate_fn=disturbed)

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return functional.cross_entropy(model(inputs), targets)

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, float | Tensor]:
        del split, device
        inputs, targets = self.examples(8).tensors
        outputs = model(inputs)
        return {
            "accuracy": (outputs.argmax(1) == targets).float().mean(),
            "loss": functional.cross_entropy(outputs, targets),
        }


class Numbers(Iterator[Any]):
    """An endless stream that counts what was read of it."""

    def __init__(self, *, length: int | None = None) -> None:
        self.position, self.length = 0, length

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.position == self.length:
            raise StopIteration
        Stream.read += 1
        self.position += 1
        generator = torch.Generator().manual_seed(self.position)
        targets = torch.arange(4) % 2
        return torch.randn(4, 4, generator=generator) + targets[:, None], targets


class NumbersWithState(Numbers):
    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = state["position"]


class Stream(Passes):
    """Batches without an end."""

    read = 0
    kind: type[Numbers] = Numbers
    length: int | None = None

    def steps_per_epoch(self, batch_size: int) -> int | None:
        del batch_size
        return None

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        del batch_size, epoch
        return self.kind(length=self.length)


class StreamWithState(Stream):
    kind = NumbersWithState


def loop_pack(workload: LoopWorkload, **changes: Any) -> Pack:
    fields: dict[str, Any] = {
        "pack_id": "pack",
        "workload": workload.card.name,
        "optimizer": "adamw",
        "members": (member("adamw", lr=0.01, seed=3),),
        "from_epoch": 0,
        "to_epoch": 4,
        "epochs": 4,
        "interval_steps": 3,
        "training": TrainingSettings(batch_size=4, schedule="cosine", accumulation_steps=2),
        "maximize": True,
    }
    return Pack(**fields | changes)


def trained(workload: LoopWorkload, pack: Pack) -> list[EpochReport]:
    return list(train_pack(pack, workload=workload, entry=OPTIMIZERS["adamw"], data=None, device=CPU))


def resumed(workload: LoopWorkload, folder: Path, *, at: int) -> list[EpochReport]:
    """Return the reports of a trial that stops after an interval and continues in another pack."""
    pack = loop_pack(workload, to_epoch=at, checkpoints=str(folder))
    first = trained(workload, pack)
    continued = pack.members[0].model_copy(update={"checkpoint": first[-1].members[0].checkpoint})
    return first + trained(workload, loop_pack(workload, from_epoch=at, members=(continued,)))


@pytest.mark.parametrize(
    "workload", [Passes(), Stream(), StreamWithState()], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("at", [1, 2])
def test_batches_resume_within_a_pass_bit_for_bit(workload: LoopWorkload, at: int, tmp_path: Path) -> None:
    assert story(resumed(workload, tmp_path, at=at)) == story(trained(workload, loop_pack(workload)))


def test_a_stream_with_a_state_is_not_read_again(tmp_path: Path) -> None:
    for workload, read in ((Stream(), 24 + 12), (StreamWithState(), 24)):
        Stream.read = 0
        resumed(workload, tmp_path, at=2)
        assert Stream.read == read


def test_a_stream_without_an_end_needs_a_budget_of_steps() -> None:
    with pytest.raises(CannotTrain) as raised:
        trained(Stream(), loop_pack(Stream(), interval_steps=None))
    assert getattr(raised.value.function, "__name__", "") == "steps_per_epoch"


def test_a_stream_that_ends_early_names_where_it_ended() -> None:
    workload = Stream()
    workload.length = 13
    with pytest.raises(CannotTrain, match="got 13") as raised:
        trained(workload, loop_pack(workload))
    assert getattr(raised.value.function, "__name__", "") == "train_batches"


def test_a_pass_that_ends_early_names_where_it_ended() -> None:
    class TooLong(Passes):
        def steps_per_epoch(self, batch_size: int) -> int:
            del batch_size
            return 7

    with pytest.raises(CannotTrain, match="expected 7 batches of 4 in pass 1"):
        trained(TooLong(), loop_pack(TooLong()))
