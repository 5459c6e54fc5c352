"""What runs write: trials, and what packs report of them. One writer per study: its run.

Every write of a run names the attempt that claimed the study, and every report the attempt of its trial: whoever has been superseded is
refused, and nothing of what it said is stored.
"""

__all__ = ["NewTrial", "Report", "RunWriter"]

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from studies.errors import Superseded
from studies.resolve import ResolvedStudy
from studies.space import Parameters
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState, TrialMove, TrialState, move_study, move_trial
from studies.store import events, reads, submissions, tables
from studies.store.claims import Claim, PendingTrial, give_back
from studies.store.engine import Database
from studies.views import EventKind, TrialView


@dataclass(frozen=True)
class NewTrial:
    """A trial to be: its place in its arm, its configuration and its seed."""

    arm: str
    number: int
    origin: Literal["default", "sampled"]
    parameters: Parameters
    seed: int
    replicate: int = 0


@dataclass(frozen=True)
class Report:
    """What one trial says after an epoch.

    Attributes:
        trial_id: the trial.
        attempt: which try of it speaks.
        measurement: columns of the `measurement` table, `epoch` and `elapsed_s` among them.
        ended: the state it ended in with this epoch; None while it goes on.
        value, best_epoch, test_value, reason: its outcome, where it ended.
        worker: host and process that trained it.
    """

    trial_id: str
    attempt: int
    measurement: Mapping[str, Any]
    ended: Literal["completed", "pruned", "diverged"] | None = None
    value: float | None = None
    best_epoch: int | None = None
    test_value: float | None = None
    reason: str | None = None
    worker: str | None = None


_MOVES = {"completed": TrialMove.COMPLETE, "pruned": TrialMove.PRUNE, "diverged": TrialMove.DIVERGE}


class RunWriter:
    """The one writer of a study, valid while its attempt is the newest.

    Every method that writes raises `Superseded` when another attempt has claimed the study or it is closed.
    """

    def __init__(self, database: Database, claim: Claim, *, lease_s: float) -> None:
        """Make a writer for a claimed study; `lease_s` is how long each renewal lasts."""
        self._database = database
        self._claim = claim
        self._lease_s = lease_s
        self._said: dict[str, Any] = {}

    def plan(self) -> ResolvedStudy:
        """Return the study as resolved at submission."""
        with self._database.read() as connection:
            return reads.resolved(connection, self._claim.study_id)

    def trials(self) -> tuple[TrialView, ...]:
        """Return all trials on record."""
        with self._database.read() as connection:
            return reads.every_trial(connection, self._claim.study_id)

    def renew(self) -> StudyState:
        """Prolong the lease and return the state that the study's owner wants it in."""
        with self._database.write() as connection:
            row = self._lock(connection)
            until = datetime.now(UTC) + timedelta(seconds=self._lease_s)
            connection.execute(update(tables.study).where(tables.study.c.id == row.id).values(lease_expires_at=until))
            return StudyState(row.state)

    def go_on(self) -> StudyState:
        """Turn a study that was resumed while this run still drained it back to running; return its state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            state = StudyState(row.state)
            if state is StudyState.QUEUED:
                state = move_study(state, StudyMove.START)
                submissions.change_state(connection, row, state, reason=None)
            return state

    def create(self, new: Sequence[NewTrial]) -> tuple[PendingTrial, ...]:
        """Record trials as queued and return them in the same order."""
        now = datetime.now(UTC)
        with self._database.write() as connection:
            study_id = self._lock(connection).id
            rows = [
                {
                    "id": f"{study_id}.{n.arm}.{n.number}",
                    "study_id": study_id,
                    "arm": n.arm,
                    "number": n.number,
                    "state": TrialState.QUEUED.value,
                    "origin": n.origin,
                    "parameters": n.parameters,
                    "replicate": n.replicate,
                    "seed": n.seed,
                    "attempt": 1,
                    "retries": 0,
                    "epochs_done": 0,
                    "cost_s": 0.0,
                    "copy_state": 0,
                    "created_at": now,
                }
                for n in new
            ]
            if rows:
                connection.execute(insert(tables.trial), rows)
        return tuple(PendingTrial(f"{study_id}.{n.arm}.{n.number}", n.arm, n.number, 1, n.parameters, n.seed) for n in new)

    def start(self, trials: Iterable[PendingTrial]) -> None:
        """Record that a worker has begun to train these trials; those no longer queued at this attempt are passed over."""
        t = tables.trial.c
        with self._database.write() as connection:
            self._lock(connection)
            said: list[tuple[EventKind, Mapping[str, Any]]] = []
            for trial in trials:
                done = connection.execute(
                    update(tables.trial)
                    .where(t.id == trial.id, t.attempt == trial.attempt, t.state == TrialState.QUEUED.value)
                    .values(state=TrialState.RUNNING.value, started_at=datetime.now(UTC))
                )
                if done.rowcount:
                    place = {"trial": trial.id, "arm": trial.arm, "number": trial.number, "attempt": trial.attempt}
                    said.append(("trial.started", {**place, "parameters": trial.parameters}))
            events.append(connection, self._claim.study_id, said)

    def record(self, reports: Sequence[Report]) -> frozenset[str]:
        """Store what trials reported, in one transaction; return the ids of the trials whose reports were taken.

        A report of an older attempt, or of a trial that is not running, is dropped: its trial was given to another worker or cancelled. A
        measurement that comes again is taken as said before. Numbers that are not finite are stored as None.
        """
        taken: set[str] = set()
        with self._database.write() as connection:
            self._lock(connection)
            t, m = tables.trial.c, tables.measurement.c
            ids = {report.trial_id for report in reports}
            rows = {row.id: row for row in connection.execute(select(tables.trial).where(t.id.in_(ids), t.study_id == self._claim.study_id))}
            epochs = {report.measurement["epoch"] for report in reports}
            on_record = select(m.trial_id, m.epoch).where(m.trial_id.in_(ids), m.epoch.in_(epochs))
            measured = {(row.trial_id, row.epoch) for row in connection.execute(on_record)}
            said: list[tuple[EventKind, Mapping[str, Any]]] = []
            for report in reports:
                row = rows.get(report.trial_id)
                if row is None or row.attempt != report.attempt or row.state != TrialState.RUNNING.value:
                    continue
                taken.add(report.trial_id)
                values: dict[str, Any] = {}
                place = (row.id, report.measurement["epoch"])
                if place not in measured:
                    measured.add(place)
                    finite = {name: _finite(value) for name, value in report.measurement.items()}
                    connection.execute(insert(tables.measurement).values(trial_id=row.id, **finite))
                    values = {"epochs_done": finite["epoch"], "cost_s": finite["elapsed_s"], "worker": report.worker and report.worker[:128]}
                outcome = _outcome(report)
                if outcome is not None:
                    values |= {**outcome, "ended_at": datetime.now(UTC)}
                    said.append(
                        ("trial.finished", events.trial_finished(row, TrialState(outcome["state"]), value=outcome["value"], reason=outcome["reason"]))
                    )
                    # Whatever else this batch says of the trial comes after its end.
                    del rows[report.trial_id]
                if values:
                    connection.execute(update(tables.trial).where(t.id == row.id).values(**values))
            events.append(connection, self._claim.study_id, said)
        return frozenset(taken)

    def give_back(self, trials: Sequence[tuple[str, int]], *, reason: str, max_retries: int, is_charged: bool = True) -> tuple[PendingTrial, ...]:
        """Re-queue trials that lost their worker, at their next attempt; those that have used up their retries are failed.

        Args:
            trials: (trial id, attempt) of each; one that has moved on is passed over.
            reason: what happened, for the record.
            max_retries: how often a trial may be run again.
            is_charged: False when the trial was given back on purpose, so that it costs no retry.

        Returns:
            The trials that wait for a worker again.
        """
        with self._database.write() as connection:
            self._lock(connection)
            return give_back(connection, self._claim.study_id, trials, reason=reason, max_retries=max_retries, is_charged=is_charged)

    def say_progress(self) -> None:
        """Add a `progress` event, the study's and each arm's with its best value, unless nothing has changed since the last."""
        with self._database.write() as connection:
            self._lock(connection)
            now = reads.progress(connection, self._claim.study_id)
            if now != self._said:
                events.append(connection, self._claim.study_id, [("progress", now)])
                self._said = now

    def close(self, outcome: StudyMove, *, reason: str | None = None) -> StudyState:
        """End the study by `finish` or `fail`, cancelling what is unfinished; return its final state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            if StudyState(row.state) is StudyState.QUEUED:
                # It was resumed after this run, which drained it, had looked last.
                submissions.change_state(connection, row, move_study(StudyState.QUEUED, StudyMove.START), reason=None)
                row = self._lock(connection)
            return submissions.close_study(connection, row, outcome, reason=reason)

    def _lock(self, connection: Connection) -> Any:
        row = events.lock_study(connection, self._claim.study_id)
        if row.attempt != self._claim.attempt:
            raise Superseded(f"study {row.id}: attempt {self._claim.attempt} is over, attempt {row.attempt} has taken over")
        if StudyState(row.state) in CLOSED_STUDY_STATES:
            raise Superseded(f"study {row.id} is {row.state} already")
        if row.lease_owner is None:
            raise Superseded(f"study {row.id}: the lease of attempt {self._claim.attempt} has lapsed")
        return row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _outcome(report: Report) -> dict[str, Any] | None:
    """Return how a report ends its trial, as columns, or None where the trial goes on; only a completed trial has a value."""
    if report.ended is None:
        return None
    ended, value, reason = report.ended, _finite(report.value), report.reason
    if ended == "completed" and value is None:
        ended, reason = "diverged", reason or "its validation value is not finite"
    is_completed = ended == "completed"
    return {
        "state": move_trial(TrialState.RUNNING, _MOVES[ended]).value,
        "value": value if is_completed else None,
        "best_epoch": report.best_epoch if is_completed else None,
        "test_value": _finite(report.test_value) if is_completed else None,
        "reason": None if reason is None else tables.storable(reason),
    }
