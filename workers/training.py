"""One pack's training: pure PyTorch, yields a report after each epoch; knows neither Ray nor SQL.

An engine trains the members; what their numbers mean (which epoch counts, who has diverged, what is told and
what is kept) is decided here, once for every engine.
"""

__all__ = ["Engine", "OneByOne", "train_pack"]

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from studies.trials import Measurement
from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, checkpoint_url, load, save
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import EpochReport, Member, MemberReport, Outcome, Pack, StackWidth
from workers.results import EpochResult
from workers.solo import Solo
from workers.stacked.engine import Stacks
from workers.stacked.width_tuning import WidthTuner
from workers.workloads import Data, Workload

_log = logging.getLogger("tangent.training")
# So often a pack leaves its members' states, where its folder is known, unless that would take more than one
# part in so many of its time. A pack whose epochs are shorter can finish the present one when it is asked to
# leave, and machines that are leaving are several times as slow.
_LEAVE_EVERY_S = 1.5
_LEAVE_SHARE = 10

State = Mapping[str, Any]
"""A member's state as an engine's `checkpoint` returns it."""


class Engine(Protocol):
    """Trains the members of one pack, which it names by their place in it."""

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Return each living member's result of one more epoch, in the order of `alive`.

        Epochs count from 1.
        """
        ...

    def test(self, members: Sequence[int]) -> list[float]:
        """Return these members' test metrics after the epoch just trained."""
        ...

    def checkpoint(self, member: int) -> State:
        """Return a member's state after the epoch just trained, which any engine can take up."""
        ...


class OneByOne:
    """The plain engine: one member after the other."""

    def __init__(
        self,
        pack: Pack,
        *,
        workload: Workload,
        entry: OptimizerEntry,
        data: Data,
        device: torch.device,
        states: Sequence[State | None],
    ) -> None:
        self._solos = [
            Solo(member, pack=pack, workload=workload, entry=entry, data=data, device=device, state=state)
            for member, state in zip(pack.members, states, strict=True)
        ]

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Return each living member's result of one more epoch, in the order of `alive`."""
        return [self._solos[member].train_epoch(epoch) for member in alive]

    def test(self, members: Sequence[int]) -> list[float]:
        """Return these members' test metrics after the epoch just trained."""
        return [self._solos[member].test() for member in members]

    def checkpoint(self, member: int) -> State:
        """Return a member's state after the epoch just trained."""
        return self._solos[member].checkpoint()


def train_pack(
    pack: Pack,
    *,
    workload: Workload,
    entry: OptimizerEntry,
    data: Data,
    device: torch.device,
    fits: WidthTuner | None = None,
    is_leaving: Callable[[], bool] = lambda: False,
) -> Iterator[EpochReport]:
    """Return an iterator that trains a pack and gives a report after each epoch.

    A report has one part for each member that was alive when the epoch began.

    A member's last part holds its outcome: `completed` at its trial's last epoch, or `diverged` as soon as
    its training loss, weights or validation values are not finite; the iterator ends when no member is left.
    Where the pack ends before the trial's last epoch, the last part holds the URL of the member's checkpoint
    instead. A pack that begins there goes on from it: with the same engine and members bit for bit as if it
    had never stopped. What a member does depends on its own parameters and seed alone, and torch's global
    generators are left as they were.

    Where the pack names a folder, states are left there every few seconds as well, after an epoch, with that
    epoch's report; a state that cannot be left then is no fault.

    Args:
        pack: what to train; its workload and optimizer must be the ones given here.
        workload: the workload.
        entry: the optimizer.
        data: the workload's data, on `device`.
        device: where to train.
        fits: what this worker has measured so far, which is used and added to; measured anew where it is left
            out.
        is_leaving: asked after each epoch, and again when the next is asked for: whether to leave all states
            now and train no further. In the second case the last report is given again, with the checkpoints;
            none, where no epoch was trained.

    Members are stacked where the optimizer has a batched form, a trial run of two members says the same
    stacked and alone, and it pays; how many at once the pack says, or is measured first, which takes a second
    or so. What was measured, or had to be lowered because memory ran out, comes with the next report.

    Raises:
        ValueError: the pack's batch holds more examples than the training split.
        CheckpointUnusable: a member's checkpoint is missing, torn, or another's.
        CheckpointNotSaved: from the iterator, where a member's state could not be left.

    Whatever a workload or an optimizer raises about its configuration passes through.
    """
    if pack.batch_size > len(data.train):
        raise ValueError(
            f"{pack.workload} has {len(data.train)} training examples, got a batch "
            f"size of {pack.batch_size}; lower it"
        )
    states = [_state(member, pack) for member in pack.members]
    objectives = {
        index: _Objective(**state["objective"])
        for index, state in enumerate(states)
        if state and state["objective"]
    }
    fits = fits or WidthTuner()
    fit = fits.fit(pack, workload=workload, entry=entry, data=data, device=device)
    engine: OneByOne | Stacks
    if fit.width == 1 or len(pack.members) == 1:
        engine = OneByOne(pack, workload=workload, entry=entry, data=data, device=device, states=states)
    else:
        engine = Stacks(
            pack,
            workload=workload,
            entry=entry,
            data=data,
            device=device,
            states=states,
            width=fit.width,
            compiled=fits.compiled,
        )
    return _with_fits(_reports(pack, engine, objectives, is_leaving), engine, fit, pack=pack, fits=fits)


def _with_fits(
    reports: Iterator[EpochReport], engine: Engine, fit: StackWidth, *, pack: Pack, fits: WidthTuner
) -> Iterator[EpochReport]:
    """Return the reports with the fit beside the first, and wherever it changed.

    It is beside the first where the pack did not say its width or could not have it.
    """
    told = None if fit.width != pack.width else fit
    for report in reports:
        if isinstance(engine, Stacks) and engine.ran_out_with is not None and engine.width < fit.width:
            fit = fits.lower(fit, pack, width=engine.width, ran_out_with=engine.ran_out_with)
        yield report if fit == told else report.model_copy(update={"fit": fit})
        told = fit


def _state(member: Member, pack: Pack) -> State | None:
    if member.checkpoint is None:
        return None
    state = load(member.checkpoint)
    found = (state.get("trial_id"), state.get("epoch"))
    if found != (member.trial_id, pack.from_epoch):
        raise CheckpointUnusable(
            f"expected the state of trial {member.trial_id} after epoch "
            f"{pack.from_epoch} at {member.checkpoint}, got that of {found[0]} after "
            f"epoch {found[1]}; train the trial from its start"
        )
    return state


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """The validation value that counts so far, and the test value beside it."""

    value: float
    epoch: int
    test_value: float


def _reports(
    pack: Pack, engine: Engine, objectives: dict[int, _Objective], is_leaving: Callable[[], bool]
) -> Iterator[EpochReport]:
    alive = list(range(len(pack.members)))
    report: EpochReport | None = None
    left_at, left_in_s = time.monotonic(), 0.0
    for epoch in range(pack.from_epoch + 1, pack.to_epoch + 1):
        if is_leaving():
            if report is not None and not all(
                member.checkpoint for member in report.members if member.outcome is None
            ):
                yield _with_checkpoints(report, _left_early(pack, alive, engine, objectives, epoch=epoch - 1))
            return
        results = dict(zip(alive, engine.train_epoch(epoch, alive=alive), strict=True))
        alive = [index for index in alive if results[index].divergence is None]
        counting = [
            index
            for index in alive
            if _counts(pack, results[index], epoch=epoch, before=objectives.get(index))
        ]
        for index, test_value in zip(counting, engine.test(counting), strict=True):
            objectives[index] = _Objective(
                value=results[index].validation_metric, epoch=epoch, test_value=test_value
            )
        report = EpochReport(
            pack_id=pack.pack_id,
            epoch=epoch,
            members=tuple(
                MemberReport(
                    trial_id=pack.members[index].trial_id,
                    attempt=pack.members[index].attempt,
                    measurement=_measurement(result, epoch=epoch),
                    outcome=_outcome(pack, result, epoch=epoch, objective=objectives.get(index)),
                )
                for index, result in results.items()
            ),
        )
        started = time.monotonic()
        if epoch == pack.to_epoch < pack.epochs:
            report = _with_checkpoints(
                report,
                {
                    pack.members[i].trial_id: _left(pack, i, engine, objectives.get(i), epoch=epoch)
                    for i in alive
                },
            )
        elif epoch < pack.epochs and (
            is_leaving() or started - left_at > max(_LEAVE_EVERY_S, _LEAVE_SHARE * left_in_s)
        ):
            report = _with_checkpoints(report, _left_early(pack, alive, engine, objectives, epoch=epoch))
            left_at = time.monotonic()
            left_in_s = left_at - started
        yield report
        if not alive:
            return


def _with_checkpoints(report: EpochReport, urls: Mapping[str, str]) -> EpochReport:
    members = tuple(
        member.model_copy(update={"checkpoint": urls.get(member.trial_id)}) for member in report.members
    )
    return report.model_copy(update={"members": members})


def _left_early(
    pack: Pack, alive: Sequence[int], engine: Engine, objectives: Mapping[int, _Objective], *, epoch: int
) -> dict[str, str]:
    """Return where members' states before their rung were left, by trial id.

    Of as many as the place would take.
    """
    urls: dict[str, str] = {}
    if pack.checkpoints is None:
        return urls
    try:
        for index in alive:
            urls[pack.members[index].trial_id] = _left(
                pack, index, engine, objectives.get(index), epoch=epoch
            )
    except CheckpointNotSaved as error:
        # Training goes on, with more to lose.
        _log.warning("%s", error)
    return urls


def _left(pack: Pack, index: int, engine: Engine, objective: _Objective | None, *, epoch: int) -> str:
    """Return the URL at which a member's state after the epoch just trained was left."""
    assert pack.checkpoints is not None
    member = pack.members[index]
    url = checkpoint_url(pack.checkpoints, trial_id=member.trial_id, attempt=member.attempt, epoch=epoch)
    kept = {
        "trial_id": member.trial_id,
        "epoch": epoch,
        "objective": asdict(objective) if objective is not None else None,
    }
    save(url, {**engine.checkpoint(index), **kept})
    return url


def _outcome(pack: Pack, result: EpochResult, *, epoch: int, objective: _Objective | None) -> Outcome | None:
    if result.divergence is not None:
        return Outcome(state="diverged", reason=result.divergence)
    if epoch < pack.epochs:
        return None
    assert objective is not None
    return Outcome(
        state="completed",
        value=objective.value,
        best_epoch=objective.epoch,
        test_value=_finite(objective.test_value),
    )


def _counts(pack: Pack, result: EpochResult, *, epoch: int, before: _Objective | None) -> bool:
    """Return whether this epoch's validation value is the one that counts as far as is known.

    Of equals the first counts.
    """
    if pack.objective_at == "last":
        return epoch == pack.epochs
    if before is None:
        return True
    return (
        result.validation_metric > before.value if pack.maximize else result.validation_metric < before.value
    )


def _measurement(result: EpochResult, *, epoch: int) -> Measurement:
    return Measurement(
        epoch=epoch,
        elapsed_s=result.elapsed_s,
        lr=result.lr,
        train_loss=result.train_loss,
        validation_loss=result.validation_loss,
        validation_metric=result.validation_metric,
        weight_norm=result.weight_norm,
        effective_step=result.effective_step,
        projected_fraction=result.projected_fraction,
        gradient_cosine=result.gradient_cosine,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
