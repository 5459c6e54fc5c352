"""Workloads with batches, a training step and an evaluation of their own, trained by Tangent's loop."""

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from packs import CPU, OPTIMIZERS
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from studies.catalog import MetricCard, WorkloadCard
from studies.training_settings import TrainingSettings
from studies.trials import CheckResult
from workers.pack_protocol import EpochReport, Member, Outcome, Pack
from workers.training import train_pack
from workers.workload_check import check_workload
from workers.workload_errors import CannotTrain
from workers.workloads import LoopWorkload, SplitName, loop_workload, to_device

__all__: list[str] = []


class Pictures(Dataset[dict[str, Tensor]]):
    """Pictures of two classes, flipped and shifted at random."""

    def __init__(self, examples: int, *, augments: bool) -> None:
        generator = torch.Generator().manual_seed(examples)
        self.labels = torch.arange(examples) % 2
        self.pictures = torch.randn(examples, 1, 4, 4, generator=generator) + self.labels[:, None, None, None]
        self.augments = augments

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture = self.pictures[index]
        if self.augments:
            picture = picture.flip(-1) if random.random() < 0.5 else picture
            noise = float(np.random.normal(0.0, 0.01))  # noqa: NPY002 # users draw from it
            picture = picture + noise + 0.01 * torch.randn(1)
        return {"picture": picture, "label": self.labels[index]}


class Loop(LoopWorkload):
    """A network with batch normalisation on batches of a DataLoader."""

    card = WorkloadCard(
        name="pictures",
        title="Pictures",
        description="Pictures of two classes.",
        source="made",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.9,
        epochs=4,
        batch_size=8,
        examples={"train": 44, "validation": 20, "test": 20},
        parameters=16 * 4 + 4 + 4 + 4 + 4 * 2 + 2,
        epoch_s=0.05,
    )
    loaders = 0

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2)
        )

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        del epoch
        return DataLoader(
            Pictures(44, augments=True), batch_size=batch_size, shuffle=True, num_workers=self.loaders
        )

    def training_step(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {
            "loss": functional.cross_entropy(model(batch["picture"]), batch["label"], label_smoothing=0.1)
        }

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, float | Tensor]:
        pictures = Pictures(20 if split == "validation" else 21, augments=False)
        correct, loss = 0, torch.zeros(())
        for batch in DataLoader(pictures, batch_size=16):
            batch = to_device(batch, device)
            outputs = model(batch["picture"])
            correct += int((outputs.argmax(1) == batch["label"]).sum())
            loss += functional.cross_entropy(outputs, batch["label"], reduction="sum")
        return {"accuracy": correct / len(pictures), "loss": loss / len(pictures)}


class LoopWithWorkers(Loop):
    loaders = 2


def pack_of(workload: LoopWorkload, folder: Path | None = None, **changes: Any) -> Pack:
    entry = OPTIMIZERS["adamp"]
    fields: dict[str, Any] = {
        "pack_id": "pack",
        "workload": workload.card.name,
        "optimizer": "adamp",
        "members": tuple(
            Member(trial_id=f"trial-{n}", attempt=1, parameters=entry.card.defaults | {"lr": lr}, seed=3)
            for n, lr in enumerate((0.02, 0.005))
        ),
        "from_epoch": 0,
        "to_epoch": 4,
        "epochs": 4,
        "training": TrainingSettings(batch_size=8, schedule="cosine"),
        "maximize": True,
        "checkpoints": str(folder) if folder else None,
    }
    return Pack(**fields | changes)


def trained(workload: LoopWorkload, pack: Pack) -> list[EpochReport]:
    return list(train_pack(pack, workload=workload, entry=OPTIMIZERS["adamp"], data=None, device=CPU))


def numbers(reports: list[EpochReport]) -> list[dict[str, Any]]:
    return [
        member.measurement.model_dump(exclude={"elapsed_s"})
        for report in reports
        for member in report.members
    ]


def test_trials_are_trained_one_by_one_to_a_value_of_the_cards_metric() -> None:
    reports = trained(Loop(), pack_of(Loop()))
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    width = reports[0].stack_width
    assert width is not None
    assert (width.width, width.reason is not None) == (1, True)
    for member in reports[-1].members:
        assert member.outcome is not None
        assert member.outcome.value is not None
        assert member.outcome.test_value is not None
        assert 0.5 < member.outcome.value <= 1
        assert member.measurement.validation_loss is not None


def test_a_trial_depends_on_its_seed_alone_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(Loop(), pack_of(Loop()))
    random.random()
    torch.rand(1)
    first = trained(Loop(), pack_of(Loop(), tmp_path, to_epoch=2))
    members = tuple(
        member.model_copy(update={"checkpoint": report.checkpoint})
        for member, report in zip(pack_of(Loop()).members, first[-1].members, strict=True)
    )
    rest = trained(Loop(), pack_of(Loop(), tmp_path, from_epoch=2, members=members))
    assert numbers(first) + numbers(rest) == numbers(whole)


def test_worker_processes_of_a_loader_draw_from_the_trials_seed() -> None:
    pack = pack_of(LoopWithWorkers(), to_epoch=1, epochs=1)
    assert numbers(trained(LoopWithWorkers(), pack)) == numbers(trained(LoopWithWorkers(), pack))


class OwnStep(Loop):
    """Parts that tests replace."""

    def __init__(self, **parts: Any) -> None:
        for name, part in parts.items():
            setattr(self, name, part)


def returning(value: object) -> Callable[..., object]:
    """Return a function of any arguments."""
    return lambda *_arguments, **_options: value


MISTAKES: dict[str, dict[str, Any]] = {
    "training_step": {"training_step": lambda model, batch: {"accuracy": model(batch["picture"]).mean()}},
    "a vector": {"training_step": lambda model, batch: model(batch["picture"])},
    "no gradient": {"training_step": lambda model, batch: model(batch["picture"]).mean().detach()},
    "too few batches": {"steps_per_epoch": returning(7)},
    "no step": {"steps_per_epoch": returning(0)},
    "another metric": {"evaluate": returning({"f1": 1.0})},
    "no mapping": {"evaluate": returning(0.5)},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_workload_is_named(mistake: str) -> None:
    workload = OwnStep(**MISTAKES[mistake])
    with pytest.raises(CannotTrain) as raised:
        trained(workload, pack_of(workload))
    assert raised.value.function in MISTAKES[mistake].values() or mistake == "too few batches"
    assert "expected" in str(raised.value)


def test_without_a_validation_loss_a_trial_is_judged_by_its_metric() -> None:
    workload = OwnStep(evaluate=returning({"accuracy": 0.75}))
    member = trained(workload, pack_of(workload))[-1].members[0]
    assert member.measurement.validation_loss is None
    assert member.outcome is not None
    assert (member.outcome.state, member.outcome.value) == ("completed", 0.75)


def test_a_metric_of_nan_fails_the_trial_and_does_not_blame_the_learning_rate() -> None:
    workload = OwnStep(evaluate=returning({"accuracy": float("nan")}))
    outcome = trained(workload, pack_of(workload))[-1].members[0].outcome
    assert outcome is not None
    assert outcome.state == "failed"
    assert outcome.reason is not None
    assert "lr" not in outcome.reason


class Averaged:
    """A metric with the protocol of torchmetrics, which keeps what it has seen until it is reset."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, value: float) -> None:
        self.seen.append(value)

    def compute(self) -> Tensor:
        return torch.tensor(sum(self.seen) / len(self.seen))

    def reset(self) -> None:
        self.seen.clear()


ERROR = MetricCard(name="error", unit="none", direction="minimize")
TWO = Loop.card.model_copy(update={"metrics": (ERROR,)})


def outcome_of(found: list[EpochReport]) -> Outcome:
    """Return the outcome of the first member."""
    outcome = found[-1].members[0].outcome
    assert outcome is not None
    return outcome


def test_a_loop_may_return_numbers_tensors_and_metrics_that_compute_themselves() -> None:
    kept, epochs = Averaged(), iter(range(100))

    def evaluate(*_arguments: object, **_options: object) -> Mapping[str, Any]:
        kept.update(float(next(epochs)))
        return {"accuracy": torch.tensor(0.5), "error": kept, "loss": 1}

    workload = OwnStep(card=TWO, evaluate=evaluate)
    found = trained(workload, pack_of(workload, members=pack_of(workload).members[:1]))
    # Each evaluation starts with an empty metric, so that none counts what an earlier one saw.
    assert [report.members[0].measurement.metrics for report in found] == [{"error": n} for n in range(4)]
    assert (outcome_of(found).value, outcome_of(found).test_value, outcome_of(found).test_metrics) == (
        0.5,
        0.5,
        {"error": 4.0},
    )


def in_second_epoch(**metrics: Any) -> Any:
    """Return an evaluation that is sound in the first epoch only."""
    sound = {"accuracy": 0.5, "error": 0.1}
    epochs = iter([sound, metrics])
    return lambda *_arguments, **_options: next(epochs)


WRONG_METRICS = {
    "'error' is missing": in_second_epoch(accuracy=0.5),
    "'f1' is not on the card": in_second_epoch(accuracy=0.5, error=0.1, f1=0.2),
    "got a tensor of shape": in_second_epoch(accuracy=0.5, error=torch.zeros(2)),
    "got a str": in_second_epoch(accuracy=0.5, error="0.1"),
}


@pytest.mark.parametrize("mistake", WRONG_METRICS)
def test_what_a_loop_returns_is_checked_in_every_epoch(mistake: str) -> None:
    evaluate = WRONG_METRICS[mistake]
    workload = OwnStep(card=TWO, evaluate=evaluate)
    with pytest.raises(CannotTrain, match=mistake) as raised:
        trained(workload, pack_of(workload, members=pack_of(workload).members[:1]))
    assert raised.value.function is evaluate


def test_an_infinite_further_metric_is_recorded_as_none_and_ends_no_trial() -> None:
    workload = OwnStep(card=TWO, evaluate=returning({"accuracy": 0.5, "error": float("inf")}))
    found = trained(workload, pack_of(workload))
    assert found[0].members[0].measurement.metrics == {"error": None}
    outcome = outcome_of(found)
    assert (outcome.state, outcome.test_metrics) == ("completed", {"error": None})
    assert "error is inf" in (outcome.reason or "")


class Pair(NamedTuple):
    one: Tensor
    other: tuple[Tensor, int]


def test_batches_of_any_shape_are_moved() -> None:
    batch = {"a": [torch.zeros(2), "text"], "b": Pair(torch.ones(1), (torch.ones(2), 3))}
    moved = to_device(batch, torch.device("meta"))
    assert (
        moved["a"][0].device.type == moved["b"].one.device.type == moved["b"].other[0].device.type == "meta"
    )
    assert (moved["a"][1], moved["b"].other[1], type(moved["b"])) == ("text", 3, Pair)


def results(workload: LoopWorkload) -> dict[str, CheckResult]:
    return {result.check: result for result in check_workload(workload, device=CPU)}


def test_the_check_finds_nothing_in_a_sound_loop() -> None:
    found = results(Loop())
    assert [result for result in found.values() if result.status == "error"] == []
    assert found["resuming"].status == found["validation metric"].status == "ok"


def test_the_check_finds_state_that_a_checkpoint_does_not_hold() -> None:
    seen = 0

    def step(model: nn.Module, batch: Any) -> Tensor:
        nonlocal seen
        seen += 1
        return functional.cross_entropy(model(batch["picture"]) * (1 + 0.01 * seen), batch["label"])

    assert results(OwnStep(training_step=step))["same training twice"].status == "error"


def test_the_check_finds_a_metric_outside_its_unit() -> None:
    workload = OwnStep(evaluate=returning({"accuracy": 97.0}))
    assert results(workload)["validation metric"].status == "error"


def test_an_error_names_the_function_of_the_workload_that_raised_it() -> None:
    class Broken(Loop):
        def training_step(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
            del model
            return batch["no such field"]

    *_, last = check_workload(Broken(), device=CPU)
    assert last.status == "error"
    assert last.sentence.startswith("training_step of workload 'pictures' raised KeyError")


def test_each_batch_of_an_evaluation_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[int | None] = []
    monkeypatch.setattr("workers.solo.note", lambda _, step: signs.append(step))
    monkeypatch.setattr(loop_workload, "note_again", lambda: signs.append(None))
    pack = pack_of(Loop(), epochs=1, to_epoch=1)
    pack = pack.model_copy(update={"members": pack.members[:1]})
    trained(Loop(), pack)
    assert signs == [1, 2, 3, 4, 5, *[5, None, None] * 2]
