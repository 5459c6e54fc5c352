"""One pack's training: pure PyTorch, yields a report after each epoch; knows neither Ray nor SQL.

An engine trains the members; what their numbers mean (which epoch counts, who has diverged, what is told) is decided here, once for every engine.
"""

__all__ = ["Engine", "OneByOne", "train_pack"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from workers.optimizers import OptimizerEntry
from workers.pack import EpochReport, Measurement, MemberReport, Outcome, Pack
from workers.solo import EpochResult, Solo
from workers.workloads import Data, Workload


class Engine(Protocol):
    """Trains the members of one pack, which it names by their place in it."""

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Return each living member's result of one more epoch, in the order of `alive`; epochs count from 1."""
        ...

    def test(self, index: int) -> float:
        """Return a member's test metric after the epoch just trained."""
        ...


class OneByOne:
    """The plain engine: one member after the other."""

    def __init__(self, pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device) -> None:
        self._solos = [Solo(member, pack=pack, workload=workload, entry=entry, data=data, device=device) for member in pack.members]

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Return each living member's result of one more epoch, in the order of `alive`."""
        return [self._solos[index].train_epoch(epoch) for index in alive]

    def test(self, index: int) -> float:
        """Return a member's test metric after the epoch just trained."""
        return self._solos[index].test()


def train_pack(pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device) -> Iterator[EpochReport]:
    """Return an iterator that trains a pack and gives a report after each epoch, with one part for each member that was alive when the epoch began.

    A member's last part holds its outcome: `completed` at the pack's last epoch, or `diverged` as soon as its training loss, weights or
    validation values are not finite; the iterator ends when no member is left. What a member does depends on its own parameters and seed
    alone, and torch's global generators are left as they were.

    Args:
        pack: what to train; its workload and optimizer must be the ones given here.
        workload: the workload.
        entry: the optimizer.
        data: the workload's data, on `device`.
        device: where to train.

    Raises:
        ValueError: the pack does not begin at epoch 0, ends after the trial's last epoch, or its batch holds more examples than the training split.

    Whatever a workload or an optimizer raises about its configuration passes through.
    """
    if pack.from_epoch != 0:
        raise ValueError(f"a pack must begin at epoch 0, got {pack.from_epoch}; train it from the start")
    if pack.to_epoch > pack.epochs:
        raise ValueError(f"a pack must end by its trials' last epoch, {pack.epochs}, got {pack.to_epoch}; lower to_epoch")
    if pack.batch_size > len(data.train):
        raise ValueError(f"{pack.workload} has {len(data.train)} training examples, got a batch size of {pack.batch_size}; lower it")
    return _reports(pack, OneByOne(pack, workload=workload, entry=entry, data=data, device=device))


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """The validation value that counts so far, and the test value beside it."""

    value: float
    epoch: int
    test_value: float


def _reports(pack: Pack, engine: Engine) -> Iterator[EpochReport]:
    objectives: dict[int, _Objective] = {}
    alive = list(range(len(pack.members)))
    for epoch in range(1, pack.to_epoch + 1):
        results = engine.train_epoch(epoch, alive=alive)
        parts: list[MemberReport] = []
        survivors: list[int] = []
        for index, result in zip(alive, results, strict=True):
            outcome = None
            if result.divergence is not None:
                outcome = Outcome(state="diverged", reason=result.divergence)
            else:
                survivors.append(index)
                if _counts(pack, result, epoch=epoch, before=objectives.get(index)):
                    objectives[index] = _Objective(value=result.validation_metric, epoch=epoch, test_value=engine.test(index))
                if epoch == pack.to_epoch:
                    best = objectives[index]
                    outcome = Outcome(state="completed", value=best.value, best_epoch=best.epoch, test_value=_finite(best.test_value))
            member = pack.members[index]
            parts.append(
                MemberReport(trial_id=member.trial_id, attempt=member.attempt, measurement=_measurement(result, epoch=epoch), outcome=outcome)
            )
        yield EpochReport(pack_id=pack.pack_id, epoch=epoch, members=tuple(parts))
        alive = survivors
        if not alive:
            return


def _counts(pack: Pack, result: EpochResult, *, epoch: int, before: _Objective | None) -> bool:
    """Return whether this epoch's validation value is the one that counts as far as is known; of equals the first counts."""
    if pack.objective_at == "last":
        return epoch == pack.to_epoch
    if before is None:
        return True
    return result.validation_metric > before.value if pack.maximize else result.validation_metric < before.value


def _measurement(result: EpochResult, *, epoch: int) -> Measurement:
    return Measurement(
        epoch=epoch,
        elapsed_s=result.elapsed_s,
        lr=_finite(result.lr),
        train_loss=_finite(result.train_loss),
        validation_loss=_finite(result.validation_loss),
        validation_metric=_finite(result.validation_metric),
        weight_norm=_finite(result.weight_norm),
        effective_step=_finite(result.effective_step),
        projected_fraction=_finite(result.projected_fraction),
        gradient_cosine=_finite(result.gradient_cosine),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
