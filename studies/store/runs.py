"""What runs write: trials, and what packs report of them. One writer per study: its run.

Every write of a run names the attempt that claimed the study, and every report the attempt of its trial:
whoever has been superseded is refused, and nothing of what it said is stored.
"""

__all__ = ["RunWriter"]

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from studies.errors import Superseded
from studies.resolve import ResolvedStudy
from studies.states import (
    CLOSED_STUDY_STATES,
    StudyMove,
    StudyState,
    TrialMove,
    TrialState,
    move_study,
    move_trial,
)
from studies.store import clock, environments, events, fair_share, queries, stack_widths, submissions, tables
from studies.store.claims import pending, requeue
from studies.store.engine import Database
from studies.store.trial_rows import IN_ORDER, NO_CHECKPOINT, change_trials, is_waiting, trial_rows
from studies.trials import Claim, NewTrial, PendingTrial, Report
from studies.views import EventKind, StackWidthView, TrialView

# What of a trial never changes, from its creation on.
_LASTING = ("arm", "phase", "number", "confirms", "origin", "parameters", "replicate", "seed", "bracket")
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
        self._epochs: int | None = None

    def plan(self) -> ResolvedStudy:
        """Return the study as resolved at submission."""
        with self._database.read() as connection:
            return queries.resolved(connection, self._claim.study_id)

    def trials(self) -> tuple[TrialView, ...]:
        """Return all trials on record, of the search and of its confirmation, oldest first."""
        with self._database.read() as connection:
            return queries.every_trial(connection, self._claim.study_id, phase=None)

    def queued_trials(self) -> tuple[PendingTrial, ...]:
        """Return the trials that are queued, those that wait at a rung among them, by arms.

        The search before its confirmation, then by numbers.
        """
        t = tables.trial.c
        with self._database.read() as connection:
            query = select(tables.trial).where(
                t.study_id == self._claim.study_id, t.state == TrialState.QUEUED.value
            )
            return tuple(pending(row) for row in connection.execute(query.order_by(t.arm, *IN_ORDER)))

    def rung_values(self) -> dict[str, dict[int, float | None]]:
        """Return the study's objective at the rungs that trials have reached: trial id, then epoch.

        None where it is not finite.
        """
        with self._database.read() as connection:
            return queries.rung_values(connection, self._claim.study_id)

    def stack_widths(self, workload: str) -> tuple[StackWidthView, ...]:
        """Return what workers have measured of a workload's packs, the newest first."""
        with self._database.read() as connection:
            return stack_widths.read(connection, workload)

    def record_stack_width(self, card: Mapping[str, Any]) -> None:
        """Keep what a worker has measured of packs of one optimizer, in place of what was measured before.

        `card` has the fields of `StackWidthView`.
        """
        with self._database.write() as connection:
            self._lock(connection)
            stack_widths.write(connection, card)

    def renew(self, *, wanted: int | None = None, machines: str | None = None) -> StudyState:
        """Prolong the lease and return the state that its owner wants the study in.

        Others hear how many packs are `wanted` on which `machines`.
        """
        with self._database.write() as connection:
            row = self._lock(connection)
            values: dict[str, Any] = {
                "lease_expires_at": clock.now(connection) + timedelta(seconds=self._lease_s)
            }
            values |= {
                name: value
                for name, value in (("packs_wanted", wanted), ("machines", machines))
                if value is not None
            }
            connection.execute(update(tables.study).where(tables.study.c.id == row.id).values(**values))
            return StudyState(row.state)

    def pack_limit(self, *, slots: int, time_slice_s: float = 120.0) -> tuple[int, bool]:
        """Return how many of so many packs may be out at once.

        Also whether to finish those and give the study back; see `studies.store.fair_share`.
        """
        with self._database.read() as connection:
            may_have = fair_share.pack_limit(
                connection, self._claim.study_id, slots=slots, time_slice_s=time_slice_s
            )
            return may_have, fair_share.should_yield(
                connection, self._claim.study_id, time_slice_s=time_slice_s
            )

    def resume_running(self) -> StudyState:
        """Turn a study that was resumed while this run still drained it back to running; return its state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            state = StudyState(row.state)
            if state is StudyState.QUEUED:
                state = move_study(state, StudyMove.START)
                submissions.change_state(connection, row, state, reason=None)
            return state

    def create(self, new: Sequence[NewTrial]) -> tuple[PendingTrial, ...]:
        """Record trials, of the search or of its confirmation, as queued and return them in the same order.

        One that stands there just so already, because the answer to an earlier call was lost, is passed over.
        """
        with self._database.write() as connection:
            study_id = self._lock(connection).id
            now = clock.now(connection)
            last = self._last_epoch(connection)
            rows: list[dict[str, Any]] = [
                {
                    "id": _id(study_id, n),
                    "study_id": study_id,
                    "arm": n.arm,
                    "phase": n.phase,
                    "number": n.number,
                    "confirms": n.confirms,
                    "state": TrialState.QUEUED.value,
                    "origin": n.origin,
                    "parameters": n.parameters,
                    "replicate": n.replicate,
                    "seed": n.seed,
                    "attempt": 1,
                    "retries": 0,
                    "epochs_done": 0,
                    "to_epoch": n.to_epoch or last,
                    "bracket": n.bracket,
                    "cost_s": 0.0,
                    "charged_s": 0.0,
                    "copy_state": 0,
                    "created_at": now,
                }
                for n in new
            ]
            there = trial_rows(connection, study_id, [row["id"] for row in rows])
            # Another trial of that number is no repetition, and the database refuses it.
            missing = [
                row
                for row in rows
                if (old := there.get(row["id"])) is None
                or any(getattr(old, name) != row[name] for name in _LASTING)
            ]
            if missing:
                connection.execute(insert(tables.trial), missing)
        return tuple(
            PendingTrial(**{name: row[name] for name in PendingTrial.__dataclass_fields__ if name in row})
            for row in rows
        )

    def start(self, trials: Iterable[PendingTrial]) -> None:
        """Record that a worker has begun to train these trials.

        Those that are not queued at this attempt, or wait at a rung, are passed over.
        """
        listed = list(trials)
        with self._database.write() as connection:
            self._lock(connection)
            now = clock.now(connection)
            rows = trial_rows(connection, self._claim.study_id, [trial.id for trial in listed])
            changes: dict[str, dict[str, Any]] = {}
            said: list[tuple[EventKind, Mapping[str, Any]]] = []
            for trial in listed:
                row = rows.pop(trial.id, None)
                if (
                    row is None
                    or row.attempt != trial.attempt
                    or row.state != TrialState.QUEUED.value
                    or is_waiting(row)
                ):
                    continue
                # A trial that was promoted goes on with the attempt that brought it to its rung.
                changes[row.id] = {
                    "state": move_trial(TrialState.QUEUED, TrialMove.START).value,
                    "started_at": row.started_at or now,
                }
                place = {**events.place_of(row), "attempt": trial.attempt}
                said.append(("trial.started", {**place, "parameters": trial.parameters}))
            change_trials(connection, changes)
            events.append(connection, self._claim.study_id, said)

    def record(self, reports: Sequence[Report]) -> frozenset[str]:
        """Store what trials reported, in one transaction.

        Return the ids of the trials whose reports were taken.

        A trial that has reached its `to_epoch`, a rung, and left a checkpoint there, waits from then on:
        queued, at the same attempt. One that has left a checkpoint before goes on from there, should it lose
        its worker. A report of an older attempt, or of a trial that is not running, is dropped: its trial was
        given to another worker, waits or was cancelled. A measurement that comes again is taken as said
        before. Numbers that are not finite are stored as None.
        """
        t, m = tables.trial.c, tables.measurement.c
        with self._database.write() as connection:
            self._lock(connection)
            last, now = self._last_epoch(connection), clock.now(connection)
            columns = (t.id, t.arm, t.phase, t.number, t.state, t.attempt, t.to_epoch, t.charged_s)
            rows = trial_rows(
                connection, self._claim.study_id, {report.trial_id for report in reports}, *columns
            )
            on_record = select(m.trial_id, m.epoch).where(
                m.trial_id.in_(list(rows)), m.epoch.in_({report.measurement.epoch for report in reports})
            )
            measured = {(row.trial_id, row.epoch) for row in connection.execute(on_record)}
            taken: set[str] = set()
            stopped: set[str] = set()
            new: list[dict[str, Any]] = []
            changes: dict[str, dict[str, Any]] = {}
            said: list[tuple[EventKind, Mapping[str, Any]]] = []
            for report in reports:
                row = rows.get(report.trial_id)
                # Whatever else this batch says of a trial after its end comes too late.
                if (
                    row is None
                    or row.attempt != report.attempt
                    or row.state != TrialState.RUNNING.value
                    or row.id in stopped
                ):
                    continue
                taken.add(row.id)
                values = changes.setdefault(row.id, {})
                epoch = report.measurement.epoch
                if (row.id, epoch) not in measured:
                    measured.add((row.id, epoch))
                    new.append({**report.measurement.model_dump(), "trial_id": row.id})
                    values |= {
                        "epochs_done": epoch,
                        "cost_s": new[-1]["elapsed_s"],
                        # A report that comes again is charged once.
                        "charged_s": values.get("charged_s", row.charged_s) + report.charged_s,
                        "worker": report.worker and report.worker[:128],
                    }
                    values |= {"pack_size": report.pack_size}
                outcome = _outcome(report)
                if outcome is not None:
                    values |= {**outcome, "ended_at": now, **NO_CHECKPOINT}
                    state = TrialState(outcome["state"])
                    said.append(
                        (
                            "trial.finished",
                            events.trial_finished(
                                row, state, value=outcome["value"], reason=outcome["reason"]
                            ),
                        )
                    )
                elif epoch == row.to_epoch < last and report.checkpoint is not None:
                    values |= {"state": move_trial(TrialState.RUNNING, TrialMove.WAIT).value}
                if outcome is None and report.checkpoint is not None:
                    values |= {"checkpoint": report.checkpoint, "checkpoint_epoch": epoch}
                stopped |= {row.id} if "state" in values else set()
            if new:
                connection.execute(insert(tables.measurement), new)
            change_trials(connection, changes)
            events.append(connection, self._claim.study_id, said)
        return frozenset(taken)

    def settle(
        self, *, promoted: Sequence[tuple[str, int, int]], pruned: Sequence[tuple[str, int]]
    ) -> tuple[PendingTrial, ...]:
        """Let trials that wait at a rung go on, or end them there, in one transaction.

        Return those that go on.

        Args:
            promoted: (trial id, attempt, epoch to be trained to) of each that goes on; the order is kept.
            pruned: (trial id, attempt) of each that does not.

        A trial that does not wait any more, or at another attempt, is passed over.
        """
        with self._database.write() as connection:
            self._lock(connection)
            now = clock.now(connection)
            rows = trial_rows(
                connection, self._claim.study_id, [trial_id for trial_id, *_ in (*promoted, *pruned)]
            )
            waiting = {row.id: row for row in rows.values() if is_waiting(row)}
            changes: dict[str, dict[str, Any]] = {}
            said: list[tuple[EventKind, Mapping[str, Any]]] = []
            going: list[PendingTrial] = []
            for trial_id, attempt, to_epoch in promoted:
                row = waiting.get(trial_id)
                if row is None or row.attempt != attempt:
                    continue
                del waiting[trial_id]
                changes[row.id] = {"to_epoch": to_epoch}
                going.append(pending(row, to_epoch=to_epoch))
                said.append(
                    (
                        "trial.promoted",
                        {**events.place_of(row), "from_epoch": row.epochs_done, "to_epoch": to_epoch},
                    )
                )
            for trial_id, attempt in pruned:
                row = waiting.pop(trial_id, None)
                if row is None or row.attempt != attempt:
                    continue
                state = move_trial(TrialState.QUEUED, TrialMove.PRUNE)
                changes[row.id] = {"state": state.value, "ended_at": now, **NO_CHECKPOINT}
                said.append(("trial.finished", events.trial_finished(row, state, value=None, reason=None)))
            change_trials(connection, changes)
            events.append(connection, self._claim.study_id, said)
        return tuple(going)

    def requeue(
        self,
        trials: Sequence[tuple[str, int]],
        *,
        reason: str,
        max_retries: int,
        is_charged: bool = True,
        from_start: bool = False,
        charged_s: float = 0.0,
    ) -> tuple[PendingTrial, ...]:
        """Re-queue trials that lost their worker, at their next attempt.

        Those that have used up their retries are failed.

        A trial with a checkpoint goes on from there; what it measured beyond is forgotten.

        Args:
            trials: (trial id, attempt) of each; one that has moved on, or waits at a rung, is passed over.
            reason: what happened, for the record.
            max_retries: how often a trial may be run again.
            is_charged: False when the trial was given back on purpose, so that it costs no retry.
            from_start: whether their checkpoints cannot be used, so that they start from their first epoch;
                they keep their `to_epoch`.
            charged_s: each trial's share of its pack's wall time since the pack's last report.

        Returns:
            The trials that wait for a worker again.
        """
        with self._database.write() as connection:
            self._lock(connection)
            return requeue(
                connection,
                self._claim.study_id,
                trials,
                reason=reason,
                max_retries=max_retries,
                is_charged=is_charged,
                from_start=from_start,
                charged_s=charged_s,
            )

    def record_environment(self, environment: Mapping[str, str]) -> None:
        """Record what trains the study: versions, processors.

        What an earlier run noted otherwise is kept beside it.
        """
        with self._database.write() as connection:
            row = self._lock(connection)
            noted = environments.merged(row.environment or {}, environment)
            if noted != row.environment:
                connection.execute(
                    update(tables.study).where(tables.study.c.id == row.id).values(environment=noted)
                )

    def report_progress(self) -> None:
        """Add a `progress` event, the study's and each arm's with its best value.

        None if nothing has changed since the last.
        """
        with self._database.write() as connection:
            self._lock(connection)
            now = queries.progress(connection, self._claim.study_id)
            if now != self._said:
                events.append(connection, self._claim.study_id, [("progress", now)])
                self._said = now

    def close(self, outcome: StudyMove, *, reason: str | None = None) -> StudyState:
        """End the study by `finish` or `fail`, cancelling what is unfinished; return its final state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            if StudyState(row.state) is StudyState.QUEUED:
                # It was resumed after this run, which drained it, had looked last.
                submissions.change_state(
                    connection, row, move_study(StudyState.QUEUED, StudyMove.START), reason=None
                )
                row = self._lock(connection)
            return submissions.close_study(connection, row, outcome, reason=reason)

    def _lock(self, connection: Connection) -> Any:
        row = events.lock_study(connection, self._claim.study_id)
        if row.attempt != self._claim.attempt:
            raise Superseded(
                f"study {row.id}: attempt {self._claim.attempt} is over, attempt {row.attempt} has taken over"
            )
        if StudyState(row.state) in CLOSED_STUDY_STATES:
            raise Superseded(f"study {row.id} is {row.state} already")
        if row.lease_owner is None:
            raise Superseded(f"study {row.id}: the lease of attempt {self._claim.attempt} has lapsed")
        return row

    def _last_epoch(self, connection: Connection) -> int:
        if self._epochs is None:
            self._epochs = queries.resolved(connection, self._claim.study_id).epochs
        return self._epochs


def _id(study_id: str, trial: NewTrial) -> str:
    return f"{study_id}.{trial.arm}.{'c' if trial.phase == 'confirmation' else ''}{trial.number}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _outcome(report: Report) -> dict[str, Any] | None:
    """Return how a report ends its trial, as columns, or None where the trial goes on.

    Only a completed trial has a value.
    """
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
