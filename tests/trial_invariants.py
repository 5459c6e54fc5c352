"""Invariants of one trial, and of an arm's copies in Optuna's tables; used by `invariants`."""

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState

__all__ = ["FINISHED", "Copy", "of_copies", "of_trial", "read_copies"]

FINISHED = frozenset(state.value for state in FINISHED_TRIAL_STATES)
_OPTUNAS = {"completed": "COMPLETE", "pruned": "PRUNED", "diverged": "FAIL", "failed": "FAIL"}
_END = ("state", "value", "reason")
_COPIES = text(
    "SELECT t.trial_id, t.number, t.state, v.value FROM trials t JOIN studies s USING (study_id) LEFT JOIN "
    "trial_values v ON v.trial_id = t.trial_id WHERE s.study_name = :name ORDER BY t.number, t.trial_id"
)
_NOTES = text(
    "SELECT a.trial_id, a.key, a.value_json FROM trial_user_attributes a JOIN trials t USING (trial_id) "
    "JOIN studies s USING (study_id) WHERE s.study_name = :name"
)
_STEPS = text(
    "SELECT i.trial_id, i.step, i.intermediate_value FROM trial_intermediate_values i JOIN trials t USING "
    "(trial_id) JOIN studies s USING (study_id) WHERE s.study_name = :name"
)


@dataclass(frozen=True)
class Copy:
    """A trial in Optuna's tables."""

    number: int
    state: str
    value: float | None
    notes: Mapping[str, Any]
    steps: Mapping[int, float]


def read_copies(connection: Connection, name: str) -> list[Copy]:
    """Return the trials of an Optuna study by number."""
    notes: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(_NOTES, {"name": name}):
        notes[row.trial_id][row.key] = json.loads(row.value_json)
    steps: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for row in connection.execute(_STEPS, {"name": name}):
        steps[row.trial_id][row.step] = row.intermediate_value
    return [
        Copy(row.number, row.state, row.value, notes[row.trial_id], steps[row.trial_id])
        for row in connection.execute(_COPIES, {"name": name})
    ]


def of_trial(
    trial: Any, about: Sequence[Any], measured: Sequence[Any], *, spec: StudySpec, plan: ResolvedStudy
) -> Iterator[str]:
    """Yield the violated invariants of one trial.

    Args:
        trial: its row.
        about: rows of its events, in order.
        measured: rows of its measurements, by epoch.
        spec: the study's spec.
        plan: the study's plan.
    """
    yield from _counted(trial, spec=spec, plan=plan)
    yield from _measured(trial, measured, spec=spec, plan=plan)
    yield from _replayed(trial, about)


def _counted(trial: Any, *, spec: StudySpec, plan: ResolvedStudy) -> Iterator[str]:
    """Its attempt, retries, state and value agree with each other."""
    if not 0 <= trial.retries <= min(spec.max_retries, trial.attempt - 1):
        yield f"retries: {trial.retries} at attempt {trial.attempt}, at most {spec.max_retries} allowed"
    if (trial.state in FINISHED) != (trial.ended_at is not None):
        yield f"it is {trial.state}, but ended_at is {trial.ended_at}"
    if (trial.checkpoint is None) != (trial.checkpoint_epoch is None):
        yield "only one of checkpoint and checkpoint_epoch is set"
    if trial.state in FINISHED and trial.checkpoint is not None:
        yield f"it is {trial.state}, but has a checkpoint"
    is_completed = trial.state == TrialState.COMPLETED.value
    if is_completed != (trial.value is not None):
        yield f"it is {trial.state}, but its value is {trial.value}"
    if is_completed and trial.epochs_done != plan.epochs:
        yield f"it is completed after {trial.epochs_done} of {plan.epochs} epochs"
    if not trial.epochs_done <= trial.to_epoch <= plan.epochs:
        yield f"epochs_done is {trial.epochs_done}, to_epoch is {trial.to_epoch}, the plan has {plan.epochs}"


def _measured(trial: Any, rows: Sequence[Any], *, spec: StudySpec, plan: ResolvedStudy) -> Iterator[str]:
    """Its measurements are the history of one attempt, from the first epoch on."""
    epochs = [row.epoch for row in rows]
    if epochs != list(range(1, trial.epochs_done + 1)):
        yield f"epochs_done is {trial.epochs_done}, but it measured epochs {epochs}"
        return
    elapsed = [row.elapsed_s for row in rows]
    # The seconds continue from the checkpoint's. A row that an earlier attempt wrote beyond the checkpoint,
    # or that a superseded attempt wrote late, breaks their order.
    if any(later <= earlier for earlier, later in itertools.pairwise(elapsed)):
        yield f"elapsed_s by epoch is {elapsed}, which does not increase"
    if (elapsed[-1] if elapsed else 0.0) != trial.cost_s:
        yield f"cost_s is {trial.cost_s}, but its last epoch ended at {elapsed[-1:]}"
    if trial.state != TrialState.COMPLETED.value or trial.value is None or trial.best_epoch is None:
        return
    metrics = [math.nan if row.validation_metric is None else row.validation_metric for row in rows]
    better = max if plan.workload.direction == "maximize" else min
    due = better(metrics) if spec.objective.at == "best" else metrics[-1]
    for metric in (due, metrics[trial.best_epoch - 1]):
        # A value that a test computes by hand may differ in its last digit.
        if not math.isclose(metric, trial.value, rel_tol=1e-12):
            yield (
                f"its value is {trial.value} of epoch {trial.best_epoch}, where the "
                f"{spec.objective.at} of {metrics} counts"
            )


@dataclass
class _Replayed:
    """A trial's state as its events describe it."""

    attempt: int = 1
    started: int = 0
    to_epoch: int | None = None
    last: str | None = None

    def apply(self, event: Any, trial: Any) -> Iterator[str]:
        """Apply the next event, and yield its violations."""
        kind, data = event.kind, event.data
        if self.last == "trial.finished":
            yield f"event {event.number} is a {kind}, after the trial ended"
        self.attempt += int(kind == "trial.requeued")
        if data.get("attempt", self.attempt) != self.attempt:
            yield (
                f"event {event.number}, a {kind}, names attempt "
                f"{data['attempt']}, but the trial was at {self.attempt}"
            )
        if kind == "trial.started":
            self.started = data["attempt"]
        if kind == "trial.promoted":
            self.to_epoch = data["to_epoch"]
        if kind == "trial.finished":
            announced, stored = [data.get(name) for name in _END], [getattr(trial, name) for name in _END]
            if announced != stored:
                yield f"its last event ends it with {announced}, but its row has {stored}"
        self.last = kind


def _replayed(trial: Any, about: Sequence[Any]) -> Iterator[str]:
    """Its events lead to its current state."""
    replayed = _Replayed()
    for event in about:
        yield from replayed.apply(event, trial)
    if replayed.attempt != trial.attempt:
        yield f"it is at attempt {trial.attempt}, but by its events at attempt {replayed.attempt}"
    if (replayed.last == "trial.finished") != (trial.state in FINISHED):
        yield f"it is {trial.state}, but its last event is {replayed.last}"
    is_waiting = trial.state == TrialState.QUEUED.value and 0 < trial.epochs_done == trial.to_epoch
    is_at_work = trial.state == TrialState.RUNNING.value
    if trial.state not in FINISHED and not is_waiting and is_at_work != (replayed.last == "trial.started"):
        yield f"it is {trial.state}, but its last event is {replayed.last}"
    if trial.state in {"completed", "diverged"} and replayed.started != trial.attempt:
        yield f"it is {trial.state} at attempt {trial.attempt}, but attempt {replayed.started} started last"
    if replayed.to_epoch not in {None, trial.to_epoch}:
        yield f"it was promoted to epoch {replayed.to_epoch}, but to_epoch is {trial.to_epoch}"


def of_copies(
    copies: Sequence[Copy], ours: Mapping[str, Any], measured: Mapping[str, Sequence[Any]], *, are_due: bool
) -> Iterator[str]:
    """Yield the differences between Optuna's tables and ours for one arm.

    Args:
        copies: the result of `read_copies`.
        ours: rows of the arm's search trials, by id.
        measured: rows of each trial's measurements, by trial id.
        are_due: whether the copies must contain every finished trial.
    """
    there = Counter(copy.notes.get("tangent_trial") for copy in copies)
    if [copy.number for copy in copies] != list(range(len(copies))):
        yield f"its trials are numbered {[copy.number for copy in copies]}"
    yield from (f"trial {trial_id} exists {count} times" for trial_id, count in there.items() if count > 1)
    for trial in ours.values():
        if not there[trial.id] and (trial.copy_state == 1 or (are_due and trial.state in _OPTUNAS)):
            yield f"trial {trial.id} is missing"
    for copy in copies:
        trial = ours.get(copy.notes.get("tangent_trial", ""))
        if trial is None:
            yield f"number {copy.number} is not a trial of its search"
        elif trial.state not in _OPTUNAS:
            yield f"trial {trial.id} is stored as {copy.state} but is {trial.state}"
        else:
            yield from (
                f"trial {trial.id} {difference}" for difference in _alike(copy, trial, measured[trial.id])
            )


def _alike(copy: Copy, trial: Any, measured: Sequence[Any]) -> Iterator[str]:
    steps = {row.epoch: row.validation_metric for row in measured if row.validation_metric is not None}
    if copy.state != _OPTUNAS[trial.state] or copy.notes.get("tangent_state") != trial.state:
        yield f"is stored as {copy.state} and {copy.notes.get('tangent_state')} but is {trial.state}"
    value = (
        trial.value
        if trial.state == "completed"
        else steps[max(steps)]
        if trial.state == "pruned" and steps
        else None
    )
    if copy.value != value:
        yield f"has value {copy.value}, ours is {value}"
    if copy.notes.get("parameters") != trial.parameters:
        yield f"has {copy.notes.get('parameters')}, ours are {trial.parameters}"
    if copy.steps != steps:
        yield f"has the values {dict(copy.steps)}, ours measured {steps}"
