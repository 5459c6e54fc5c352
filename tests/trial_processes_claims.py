"""Two processes that train one trial; run by test_trial_processes.py, prints what each found as JSON."""

import json
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from packs import OPTIMIZERS
from scripts_of_processes import script_claims
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers import training
from workers.checkpoints import CheckpointNotSaved
from workers.pack_protocol import EpochReport, Member, Pack
from workers.solo import Solo
from workers.training import train_pack
from workers.trial_processes import trial_processes
from workers.workload_errors import CannotTrain
from workers.workloads import LoopWorkload, SplitName

__all__: list[str] = []

CPU = torch.device("cpu")


class Rows(LoopWorkload):
    """A small network on rows of numbers, of which one parameter is used in no step."""

    card = WorkloadCard(
        name="rows",
        title="Rows",
        description="Rows of numbers.",
        source="made",
        metric="error",
        unit="fraction",
        direction="minimize",
        target=0.1,
        epochs=4,
        batch_size=8,
        examples={"train": 32, "validation": 16, "test": 16},
        parameters=8 * 6 + 6 + 6 * 2 + 2 + 1,
        epoch_s=0.05,
    )

    def __init__(self, *, dropout: float = 0.0) -> None:
        self.dropout = dropout
        self.drawn: list[float] = []

    def build_model(self) -> nn.Module:
        model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Dropout(self.dropout), nn.Linear(6, 2))
        model.register_parameter("unused", nn.Parameter(torch.zeros(1)))
        return model

    def batch(self, rows: Tensor) -> dict[str, Any]:
        inputs = (rows[:, None] * torch.arange(1, 9)).float().sin()
        return {"inputs": inputs, "labels": rows % 2, "name": "rows"}

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:  # noqa: ARG002
        for rows in torch.randperm(32).split(batch_size):
            yield self.batch(rows)

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        # It is the model that `build_model` has returned.
        assert isinstance(model, nn.Sequential)
        self.drawn.append(float(torch.rand(())))
        return functional.cross_entropy(model(batch["inputs"]), batch["labels"])

    def evaluate(
        self,
        model: nn.Module,
        split: SplitName,
        *,
        device: torch.device,  # noqa: ARG002
    ) -> Mapping[str, float | Tensor]:
        batch = self.batch(torch.arange(100, 116 if split == "validation" else 132))
        outputs = model(batch["inputs"])
        wrong = (outputs.argmax(1) != batch["labels"]).double().mean()
        return {"error": wrong, "loss": functional.cross_entropy(outputs, batch["labels"])}


class OwnShare(Rows):
    """The same batches, of which each process makes its own share."""

    splits_batches = True

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:  # noqa: ARG002
        own = batch_size // self.world_size
        for rows in torch.randperm(32).split(batch_size):
            yield self.batch(rows[self.rank * own :][:own])


class Diverging(Rows):
    """Its loss is not finite in the second process's share of the third batch."""

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        loss = super().training_step(model, batch)
        return loss * math.nan if len(self.drawn) == 3 and trial_processes().rank == 1 else loss


def pack(*, processes: int, optimizer: str = "adamp", **changes: Any) -> Pack:
    entry = OPTIMIZERS[optimizer]
    member = {"trial_id": "one", "attempt": 1, "parameters": entry.card.defaults | {"lr": 0.02}, "seed": 5}
    fields: dict[str, Any] = {
        "pack_id": "pack",
        "workload": "rows",
        "optimizer": optimizer,
        "members": (Member(**member | changes.pop("member", {})),),
        "from_epoch": 0,
        "to_epoch": 4,
        "epochs": 4,
        "training": TrainingSettings(batch_size=8, schedule="cosine"),
        "maximize": False,
        "processes": processes,
    }
    return Pack(**fields | changes)


def trained(workload: LoopWorkload, of: Pack) -> list[EpochReport]:
    return list(train_pack(of, workload=workload, entry=OPTIMIZERS[of.optimizer], data=None, device=CPU))


def numbers(reports: list[EpochReport]) -> list[list[float | None]]:
    return [
        [m.train_loss, m.validation_loss, m.validation_metric, m.weight_norm, m.gradient_cosine]
        for m in (report.members[0].measurement for report in reports)
    ]


def resumed(folder: Path, **changes: Any) -> list[list[float | None]]:
    """Return the numbers of a trial that stops after two epochs and continues from its checkpoint."""
    first = trained(Rows(), pack(processes=2, to_epoch=2, checkpoints=str(folder), **changes))
    url = trial_processes().from_main(lambda: first[-1].members[0].checkpoint)
    rest = pack(processes=2, from_epoch=2, checkpoints=str(folder), member={"checkpoint": url}, **changes)
    return numbers(first) + numbers(trained(Rows(), rest))


def state_elements() -> dict[str, int]:
    """Return how many elements of state an optimizer keeps here, whole and sharded."""
    found: dict[str, int] = {}
    for shards in (False, True):
        of = pack(processes=2, optimizer="adamw", shard_optimizer=shards)
        solo = Solo(of.members[0], pack=of, workload=Rows(), entry=OPTIMIZERS["adamw"], data=None, device=CPU)
        solo.train_epoch(1)
        optimizer: Any = solo._optimizer
        own = optimizer.optim if shards else optimizer
        found["sharded" if shards else "whole"] = sum(
            value.numel()
            for state in own.state.values()
            for value in state.values()
            if isinstance(value, Tensor) and value.dim() > 0
        )
    return found


def refusal(workload: LoopWorkload, **changes: Any) -> str:
    try:
        trained(workload, pack(processes=2, **changes))
    except CannotTrain as error:
        return str(error)
    return ""


def unsaved() -> str:
    """Return how a trial ends that cannot save its checkpoint at a rung, and tries again for a moment."""
    of = pack(processes=2, to_epoch=1, checkpoints="/dev/null/checkpoints")
    with patch.object(training, "_SAVE_WITHIN_S", 0.05), patch.object(training, "_SAVE_AGAIN_S", 0.01):
        try:
            trained(Rows(), of)
        except CheckpointNotSaved:
            return "not saved"
    return ""


def claims(folder: Path) -> Iterator[tuple[str, Any]]:
    for optimizer in ("adamp", "adamw", "muon"):
        yield optimizer, numbers(trained(Rows(), pack(processes=2, optimizer=optimizer)))
        yield (
            f"{optimizer} sharded",
            numbers(trained(Rows(), pack(processes=2, optimizer=optimizer, shard_optimizer=True))),
        )
    yield "own share", numbers(trained(OwnShare(), pack(processes=2)))
    yield "resumed", resumed(folder / "whole")
    yield "resumed sharded", resumed(folder / "sharded", shard_optimizer=True)
    yield "state", state_elements()
    noisy = Rows(dropout=0.5)
    yield "noisy", numbers(trained(noisy, pack(processes=2)))
    yield "drawn", noisy.drawn
    yield "repeated", numbers(trained(Rows(dropout=0.5), pack(processes=2)))
    [diverged] = trained(Diverging(), pack(processes=2))
    yield "diverged", diverged.members[0].outcome is not None and diverged.members[0].outcome.state
    yield "unsaved", unsaved()
    yield "uneven", refusal(Rows(), training=TrainingSettings(batch_size=7))


def check(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {**dict(claims(Path(folder))), **dict(script_claims(Path(folder)))}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    alone = {
        optimizer: numbers(trained(Rows(), pack(processes=1, optimizer=optimizer)))
        for optimizer in ("adamp", "adamw", "muon")
    }
    with tempfile.TemporaryDirectory() as folder:
        alone |= dict(script_claims(Path(folder)))
        start_processes(check, (folder,), nprocs=2, start_method="fork")
        found = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]
    json.dump({"alone": alone, "together": found}, sys.stdout)
