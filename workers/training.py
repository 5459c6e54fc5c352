"""The training loop of one pack: pure PyTorch, yields a report per epoch, imports neither Ray nor SQL.

An engine trains the members. What their numbers mean is decided here, once for every engine: which epoch
counts, which member has diverged, what is reported and when checkpoints are saved.
"""

__all__ = ["Engine", "OneByOneEngine", "train_pack"]

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from studies.artifacts import WeightsOf
from studies.searchable import GROUPS
from studies.trials import Measurement
from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, checkpoint_url, load, not_saved
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import EpochReport, Member, MemberReport, Outcome, Pack, StackWidth
from workers.results import EpochResult
from workers.scale_invariance import with_scale_invariance
from workers.script.engine import ScriptEngine
from workers.solo import Solo
from workers.stacked.engine import StackedEngine
from workers.stacked.plan import NotStackable
from workers.stacked.width_tuning import WidthTuner, one_by_one
from workers.trial_files import TrialFolder
from workers.trial_processes import trial_processes
from workers.weights import keep_weights
from workers.workload_errors import CannotTrain
from workers.workloads import AnyWorkload, Data, ModelWorkload, ScriptWorkload, TensorWorkload

_log = logging.getLogger("tangent.training")
# Seconds between two checkpoints of a pack that names a folder. A pack with shorter epochs can finish the
# current one when it is asked to end early, and machines that shut down are several times as slow.
_CHECKPOINT_EVERY_S = 1.5
_SAVE_WITHIN_S = 10.0
_SAVE_AGAIN_S = 0.5
# Checkpoints may take at most one part in this many of the pack's time.
_CHECKPOINT_SHARE = 10

_OWN_BATCHES = "Trials are trained one by one: the workload has batches and a training step of its own."
_OWN_LOOP = "Trials are trained one by one: the workload is a script with a training loop of its own."

_OWN_GROUPS = (
    "Trials are trained one by one: parameter groups have hyperparameters of their own, and a stack has one "
    "value for each trial."
)

State = Mapping[str, Any]
"""A member's state as an engine's `checkpoint` returns it."""


class Engine(Protocol):
    """Trains the members of one pack, which are named by their index in it."""

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Train one more epoch, counted from 1, and return the results in the order of `alive`."""
        ...

    def test(self, members: Sequence[int]) -> list[list[float]]:
        """Return these members' test metrics after the epoch just trained, the objective first."""
        ...

    def checkpoint(self, member: int) -> State:
        """Return a member's state after the epoch just trained, from which any engine can resume.

        It may be the member's own memory, which its next epoch changes.
        """
        ...

    def weights(self, member: int) -> State:
        """Return the `state_dict` of a member's model as it was evaluated after the epoch just trained."""
        ...

    def folder(self, member: int) -> TrialFolder | None:
        """Return a member's own folder; None if its workload has none."""
        ...

    def can_resume(self, member: int) -> bool:
        """Return whether a member could resume from its state after the epoch just trained."""
        ...

    def finish(self, members: Sequence[int]) -> None:
        """Complete these members' training after the pack's last epoch, before it is reported."""
        ...

    def close(self) -> None:
        """Release what the members hold; nothing is called afterwards."""
        ...


class OneByOneEngine:
    """Trains one member after the other."""

    def __init__(
        self,
        pack: Pack,
        *,
        workload: ModelWorkload,
        entry: OptimizerEntry,
        data: Data | None,
        device: torch.device,
        states: Sequence[State | None],
    ) -> None:
        self._solos = [
            Solo(member, pack=pack, workload=workload, entry=entry, data=data, device=device, state=state)
            for member, state in zip(pack.members, states, strict=True)
        ]

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Train one more epoch, counted from 1, and return the results in the order of `alive`."""
        return [self._solos[member].train_epoch(epoch) for member in alive]

    def test(self, members: Sequence[int]) -> list[list[float]]:
        """Return these members' test metrics after the epoch just trained, the objective first."""
        return [self._solos[member].test() for member in members]

    def checkpoint(self, member: int) -> State:
        """Return a member's state after the epoch just trained."""
        return self._solos[member].checkpoint()

    def weights(self, member: int) -> State:
        """Return the `state_dict` of a member's model as it was evaluated after the epoch just trained."""
        return self._solos[member].weights()

    def folder(self, member: int) -> TrialFolder | None:
        """Return a member's own folder; None if its workload has none."""
        return self._solos[member].folder

    def can_resume(self, member: int) -> bool:
        """Return True."""
        del member
        return True

    def finish(self, members: Sequence[int]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Remove the folders of the members."""
        for solo in self._solos:
            if solo.folder is not None:
                solo.folder.remove()


def train_pack(
    pack: Pack,
    *,
    workload: AnyWorkload,
    entry: OptimizerEntry,
    data: Data | None,
    device: torch.device,
    tuner: WidthTuner | None = None,
    is_leaving: Callable[[], bool] = lambda: False,
) -> Iterator[EpochReport]:
    """Return an iterator that trains a pack and yields a report after each epoch.

    A report has one part for each member that was alive when the epoch began. A member's last part holds its
    outcome: `completed` at its trial's last epoch, `diverged` as soon as its training loss, weights or
    validation values are not finite, or `failed` as soon as its metric alone is NaN. The iterator ends when
    no member is left. If the pack ends before the trial's last epoch, the last part holds the URL of the
    member's checkpoint instead of an outcome. A pack that starts from these checkpoints continues from them,
    bit for bit as if it had never stopped if engine and members are the same.

    In a trial of several processes all call this alike, each yields the same reports, and the first one
    evaluates and saves.

    A member's numbers depend on its own parameters and seed alone. torch's global generators are left as they
    were.

    If the pack names a folder, checkpoints are also saved after an epoch every few seconds, and their URLs
    come with that epoch's report. Such a checkpoint that cannot be saved is logged and skipped.

    Members of a workload of tensors are stacked if the optimizer has a batched form, two members pass the
    equivalence check, and stacking is faster. The stack width is the pack's own or, if it has none, is
    measured first, which takes about a second. A width that was measured, or lowered because memory ran out,
    comes with the next report.

    Args:
        pack: what to train; its workload and optimizer must be the ones given here.
        workload: the workload.
        entry: the optimizer.
        data: the data of a workload of tensors, on `device`; None for any other.
        device: where to train.
        tuner: the stack widths that this worker has measured, used and added to; a new one by default.
        is_leaving: whether to save all checkpoints now and stop, asked after each epoch and again before the
            next. In the second case the last report is repeated with the checkpoints, if there was one.

    Raises:
        CannotTrain: the workload cannot be trained by several processes, the pack's batch size exceeds the
            training split, or the workload's loss or metric is not a scalar.
        CheckpointUnusable: a member's checkpoint is missing, damaged, or another member's.
        CheckpointNotSaved: from the iterator, if a checkpoint at a rung could not be saved.

    The loop of a script runs in a thread of its own, which ends with the iterator. Errors that a workload or
    an optimizer raises about its configuration pass through.
    """
    if pack.processes > 1 and isinstance(workload, TensorWorkload):
        raise CannotTrain(
            f"expected a LoopWorkload or a ScriptWorkload in a trial of {pack.processes} processes, got "
            f"{pack.workload!r}; set processes_per_trial to 1, or write it as a LoopWorkload"
        )
    states = [_load_state(member, pack) for member in pack.members]
    objectives = {
        index: _Objective(**state["objective"])
        for index, state in enumerate(states)
        if state and state["objective"]
    }
    tuner = tuner or WidthTuner()
    # Members share whatever may change the model.
    workload = tuner.configured(workload, pack.members[0].parameters)
    if isinstance(workload, ScriptWorkload):
        chosen = one_by_one(pack, device=device, reason=_OWN_LOOP)
        engine: Engine = ScriptEngine(pack, workload=workload, entry=entry, device=device, states=states)
        reports = _train(pack, engine, objectives, lambda: trial_processes().from_main(is_leaving))
        return _with_stack_widths(reports, engine, chosen, pack=pack, tuner=tuner)
    chosen = one_by_one(pack, device=device, reason=_OWN_BATCHES)
    stacked: StackedEngine | None = None
    if isinstance(workload, TensorWorkload):
        assert data is not None, "a workload of tensors has data"
        if pack.training.batch_size > len(data.train):
            raise CannotTrain(
                f"expected a batch size of at most {len(data.train)}, the number of training examples of "
                f"{pack.workload}, got {pack.training.batch_size}; lower batch_size"
            )
        if any(name.startswith(GROUPS) for name in pack.members[0].parameters):
            chosen = one_by_one(pack, device=device, reason=_OWN_GROUPS)
        else:
            chosen = tuner.choose(pack, workload=workload, entry=entry, data=data, device=device)
        if chosen.width > 1 and len(pack.members) > 1:
            try:
                stacked = StackedEngine(
                    pack,
                    workload=workload,
                    entry=entry,
                    data=data,
                    device=device,
                    states=states,
                    width=chosen.width,
                    compiled=tuner.compiled,
                )
            except NotStackable as error:
                # The check saw two members of another pack of this kind.
                chosen = tuner.train_one_by_one(chosen, pack, error)
    engine = stacked or OneByOneEngine(
        pack, workload=workload, entry=entry, data=data, device=device, states=states
    )
    # The processes of a trial must save and stop after the same epoch.
    reports = _train(pack, engine, objectives, lambda: trial_processes().from_main(is_leaving))
    reports = _with_stack_widths(reports, engine, chosen, pack=pack, tuner=tuner)
    if pack.finds_scale_invariance and trial_processes().size == 1:
        return with_scale_invariance(reports, pack, workload=workload, data=data, device=device)
    return reports


def _with_stack_widths(
    reports: Iterator[EpochReport], engine: Engine, chosen: StackWidth, *, pack: Pack, tuner: WidthTuner
) -> Iterator[EpochReport]:
    """Add the stack width to the first report, and to each report before which it was lowered.

    The first report has none if the pack got the width that it brought. The engine is closed at the end.
    """
    reported = None if chosen.width != pack.width else chosen
    try:
        for report in reports:
            if (
                isinstance(engine, StackedEngine)
                and engine.ran_out_with is not None
                and engine.width < chosen.width
            ):
                chosen = tuner.lower(chosen, pack, width=engine.width, ran_out_with=engine.ran_out_with)
            yield report if chosen == reported else report.model_copy(update={"stack_width": chosen})
            reported = chosen
    finally:
        engine.close()


def _load_state(member: Member, pack: Pack) -> State | None:
    if member.checkpoint is None:
        return None
    state = load(member.checkpoint)
    found = (state.get("trial_id"), state.get("epoch"))
    if found != (member.trial_id, pack.from_epoch):
        raise CheckpointUnusable(
            f"expected the state of trial {member.trial_id} after epoch {pack.from_epoch} at "
            f"{member.checkpoint}, got that of {found[0]} after epoch {found[1]}; restart the trial from its "
            "first epoch"
        )
    return state


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """The validation value that counts so far, its epoch, and the test values of that epoch."""

    value: float
    epoch: int
    test_value: float
    # Checkpoints of earlier versions have none.
    test_metrics: dict[str, float] = field(default_factory=dict[str, float])


def _train(
    pack: Pack, engine: Engine, objectives: dict[int, _Objective], is_leaving: Callable[[], bool]
) -> Iterator[EpochReport]:
    alive = list(range(len(pack.members)))
    report: EpochReport | None = None
    saved_at, saving_s = time.monotonic(), 0.0
    for epoch in range(pack.from_epoch + 1, pack.to_epoch + 1):
        if is_leaving():
            if report is not None and not all(
                member.checkpoint for member in report.members if member.outcome is None
            ):
                urls = _try_to_save(pack, alive, engine, objectives, epoch=epoch - 1)
                yield _with_files(_with_checkpoints(report, urls), pack, engine)
            return
        results = dict(zip(alive, engine.train_epoch(epoch, alive=alive), strict=True))
        alive = [
            index for index in alive if results[index].divergence is None and results[index].fault is None
        ]
        counting = [
            index
            for index in alive
            if _counts(pack, results[index], epoch=epoch, before=objectives.get(index))
        ]
        for index, (test_value, *others) in zip(counting, engine.test(counting), strict=True):
            objectives[index] = _Objective(
                value=results[index].validation_metric,
                epoch=epoch,
                test_value=test_value,
                test_metrics=dict(zip(results[index].metrics, others, strict=True)),
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
                    layers=result.layers,
                )
                for index, result in results.items()
            ),
        )
        report = _with_weights(report, pack, engine)
        started = time.monotonic()
        if epoch == pack.to_epoch < pack.epochs:
            report = _with_checkpoints(
                report, _save_at_rung(pack, alive, engine, objectives, epoch=epoch, is_leaving=is_leaving)
            )
        elif epoch < pack.epochs and (
            is_leaving()
            or trial_processes().from_main(
                lambda: time.monotonic() - saved_at > max(_CHECKPOINT_EVERY_S, _CHECKPOINT_SHARE * saving_s)  # noqa: B023
            )
        ):
            report = _with_checkpoints(report, _try_to_save(pack, alive, engine, objectives, epoch=epoch))
            saved_at = time.monotonic()
            saving_s = saved_at - started
        if epoch == pack.to_epoch:
            engine.finish(alive)
        if pack.keeping is not None and pack.keeping.files:
            is_last = epoch == pack.to_epoch or is_leaving()
            report = _with_files(report, pack, engine, is_last=is_last)
        yield report
        if not alive:
            return


def _with_weights(report: EpochReport, pack: Pack, engine: Engine) -> EpochReport:
    """Keep the weights of the members that have completed and are to keep theirs."""
    wanted = any(member.keep_weights is not None for member in pack.members)
    if pack.keeping is None or not wanted:
        return report
    indices = {member.trial_id: index for index, member in enumerate(pack.members)}
    parts: list[MemberReport] = []
    done: set[WeightsOf] = set()
    for part in report.members:
        member = pack.members[indices[part.trial_id]]
        whose = member.keep_weights
        if (
            whose is not None
            and whose not in done
            and part.outcome is not None
            and part.outcome.state == "completed"
        ):
            done.add(whose)
            # The processes of a trial may have to read a state together.
            weights = engine.weights(indices[part.trial_id])
            if not trial_processes().is_main:
                return report
            kept = keep_weights(
                weights,
                pack=pack,
                member=member,
                weights_of=whose,
                outcome=part.outcome,
            )
            part = part.model_copy(update={"kept": (kept,)})
        parts.append(part)
    return report.model_copy(update={"members": tuple(parts)})


def _with_files(report: EpochReport, pack: Pack, engine: Engine, *, is_last: bool = True) -> EpochReport:
    """Keep the files of the members whose part in the pack ends with this report."""
    if pack.keeping is None or not pack.keeping.files or not trial_processes().is_main:
        return report
    indices = {member.trial_id: index for index, member in enumerate(pack.members)}
    parts: list[MemberReport] = []
    for part in report.members:
        folder = engine.folder(indices[part.trial_id])
        if folder is not None and (is_last or part.outcome is not None):
            kept = folder.keep(pack.keeping, from_epoch=pack.from_epoch)
            part = part.model_copy(update={"kept": (*part.kept, *kept)})
        parts.append(part)
    return report.model_copy(update={"members": tuple(parts)})


def _with_checkpoints(report: EpochReport, urls: Mapping[str, str]) -> EpochReport:
    members = tuple(
        member.model_copy(update={"checkpoint": urls.get(member.trial_id)}) for member in report.members
    )
    return report.model_copy(update={"members": members})


def _save_at_rung(
    pack: Pack,
    alive: Sequence[int],
    engine: Engine,
    objectives: Mapping[int, _Objective],
    *,
    epoch: int,
    is_leaving: Callable[[], bool],
) -> dict[str, str]:
    """Save the checkpoints with which members wait at a rung, and return their URLs by trial id.

    A disk that is full or out of reach for a moment must not cost the trials a retry and their epochs.

    Raises:
        CheckpointNotSaved: one could not be saved within some seconds.
    """
    give_up_at = time.monotonic() + min(_SAVE_WITHIN_S, pack.epoch_timeout_s / 4)
    while True:
        try:
            urls = [_save(pack, index, engine, objectives.get(index), epoch=epoch) for index in alive]
        except CheckpointNotSaved as error:
            if is_leaving() or trial_processes().from_main(lambda: time.monotonic() > give_up_at):
                raise
            _log.warning("%s; trying again", error)
            time.sleep(_SAVE_AGAIN_S)
        else:
            return {pack.members[index].trial_id: url for index, url in zip(alive, urls, strict=True)}


def _try_to_save(
    pack: Pack, alive: Sequence[int], engine: Engine, objectives: Mapping[int, _Objective], *, epoch: int
) -> dict[str, str]:
    """Save checkpoints between rungs, and return their URLs by trial id, of as many as could be saved."""
    urls: dict[str, str] = {}
    if pack.checkpoints is None:
        return urls
    try:
        for index in filter(engine.can_resume, alive):
            urls[pack.members[index].trial_id] = _save(
                pack, index, engine, objectives.get(index), epoch=epoch
            )
    except CheckpointNotSaved as error:
        # Training continues; a lost worker would now cost more epochs.
        _log.warning("%s", error)
    return urls


def _save(pack: Pack, index: int, engine: Engine, objective: _Objective | None, *, epoch: int) -> str:
    """Save a member's checkpoint after the epoch just trained, and return its URL.

    Raises:
        CheckpointNotSaved: in all processes of the trial, although only the first one writes.
    """
    assert pack.checkpoints is not None
    member = pack.members[index]
    url = checkpoint_url(pack.checkpoints, trial_id=member.trial_id, attempt=member.attempt, epoch=epoch)
    progress = {
        "trial_id": member.trial_id,
        "epoch": epoch,
        "objective": asdict(objective) if objective is not None else None,
    }
    state = {**engine.checkpoint(index), **progress}
    error = trial_processes().from_main(lambda: not_saved(url, state))
    if error is not None:
        raise error
    return url


def _outcome(pack: Pack, result: EpochResult, *, epoch: int, objective: _Objective | None) -> Outcome | None:
    if result.divergence is not None:
        return Outcome(state="diverged", reason=result.divergence)
    if result.fault is not None:
        return Outcome(state="failed", reason=result.fault)
    if epoch < pack.epochs:
        return None
    assert objective is not None
    tests = {"metric": objective.test_value, **objective.test_metrics}
    missing = [f"its test {name} is {value}" for name, value in tests.items() if not math.isfinite(value)]
    return Outcome(
        state="completed",
        value=objective.value,
        best_epoch=objective.epoch,
        test_value=_finite(objective.test_value),
        test_metrics={name: _finite(value) for name, value in objective.test_metrics.items()},
        reason="; ".join(missing) or None,
    )


def _counts(pack: Pack, result: EpochResult, *, epoch: int, before: _Objective | None) -> bool:
    """Return whether this epoch's validation value is the one that counts so far; the first of equals."""
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
        metrics=dict(result.metrics),
        weight_norm=result.weight_norm,
        effective_step=result.effective_step,
        projected_fraction=result.projected_fraction,
        gradient_cosine=result.gradient_cosine,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
