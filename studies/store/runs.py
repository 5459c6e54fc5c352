"""What a study's run writes: trials and their packs' reports. A study has one writer: its run.

Every write names the attempt that claimed the study, and every report the attempt of its trial. Writes and
reports of superseded attempts are rejected, and nothing of them is stored.
"""

__all__ = ["RunWriter"]

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from studies.artifacts import NewArtifact
from studies.errors import Superseded
from studies.layers import MeasuredLayers
from studies.resolve import ResolvedStudy
from studies.space import ConfigurationKey
from studies.states import (
    CLOSED_STUDY_STATES,
    StudyMove,
    StudyState,
    TrialMove,
    TrialState,
    move_study,
    move_trial,
)
from studies.store import (
    artifacts,
    clock,
    environments,
    events,
    extensions,
    fair_share,
    layers,
    signs_of_life,
    stack_widths,
    study_queries,
    submissions,
    tables,
    trial_outputs,
    trial_queries,
    workload_checks,
)
from studies.store.claims import pending, requeue
from studies.store.database import Database
from studies.store.trial_rows import (
    IN_ORDER,
    NO_CHECKPOINT,
    change_trials,
    is_waiting,
    outcome_columns,
    trial_id,
    trial_rows,
)
from studies.trials import CardDifference, CheckResult, Claim, NewTrial, PendingTrial, Report, WorkloadVersion
from studies.views import EventKind, StackWidthView, TrialView

# Columns of a trial that never change after its creation.
_IMMUTABLE = tuple(name for name in NewTrial.__dataclass_fields__ if name != "to_epoch")


class RunWriter:
    """The only writer of a study, valid while its attempt is the newest.

    Every method that writes raises `Superseded` if another attempt has claimed the study, its lease has
    lapsed or it is closed.
    """

    def __init__(self, database: Database, claim: Claim, *, lease_s: float) -> None:
        """Make a writer for a claimed study; `lease_s` is how long each renewal lasts."""
        self._database = database
        self._claim = claim
        self._lease_s = lease_s
        self._last_progress: dict[str, Any] = {}
        self._epochs: int | None = None

    def weights_kept(self) -> dict[str, set[ConfigurationKey]]:
        """Return the configurations whose weights are kept, by arm."""
        with self._database.read() as connection:
            return artifacts.weights_kept(connection, self._claim.study_id)

    def plan(self) -> ResolvedStudy:
        """Return the study as resolved at submission."""
        with self._database.read() as connection:
            return study_queries.resolved(connection, self._claim.study_id)

    def plan_trials(self, trials: Mapping[str, int]) -> None:
        """Store how many trials each arm runs in a replicate, by its name."""
        with self._database.write() as connection:
            extensions.plan_trials(connection, self._lock(connection).id, trials)

    def trials(self) -> tuple[TrialView, ...]:
        """Return all stored trials, of the search and of the confirmation, oldest first."""
        with self._database.read() as connection:
            return trial_queries.every_trial(connection, self._claim.study_id, phase=None)

    def queued_trials(self) -> tuple[PendingTrial, ...]:
        """Return the queued trials, including those that wait at a rung.

        They are ordered by arm, the search before the confirmation, then by number.
        """
        t = tables.trial.c
        with self._database.read() as connection:
            query = select(tables.trial).where(
                t.study_id == self._claim.study_id, t.state == TrialState.QUEUED.value
            )
            return tuple(pending(row) for row in connection.execute(query.order_by(t.arm, *IN_ORDER)))

    def rung_values(self) -> dict[str, dict[int, float | None]]:
        """Return the objective's values at the rungs that trials have reached, by trial id, then epoch.

        A value that was not finite is None.
        """
        with self._database.read() as connection:
            return trial_queries.rung_values(connection, self._claim.study_id)

    def stack_widths(self, workload: str) -> tuple[StackWidthView, ...]:
        """Return the stack widths that workers have measured for a workload, the newest first."""
        with self._database.read() as connection:
            return stack_widths.read(connection, workload)

    def record_stack_width(self, card: Mapping[str, Any]) -> None:
        """Store a measured stack width, replacing the previous one of the same key.

        `card` has the fields of `StackWidthView` except `measured_at`.
        """
        with self._database.write() as connection:
            self._lock(connection)
            stack_widths.write(connection, card)

    def renew(self, *, wanted: int | None = None, machines: str | None = None) -> StudyState:
        """Renew the lease and return the study's state, which its owner may have changed.

        Also store how many packs the run could train (`wanted`) on which `machines`, for other runs' fair
        shares.
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
        """Return how many packs the run may train at once, and whether it should yield.

        A run that yields finishes its packs and releases the study; see `studies.store.fair_share`.
        """
        with self._database.read() as connection:
            limit = fair_share.pack_limit(
                connection, self._claim.study_id, slots=slots, time_slice_s=time_slice_s
            )
            return limit, fair_share.should_yield(connection, self._claim.study_id, time_slice_s=time_slice_s)

    def resume_running(self) -> StudyState:
        """Set a study to running that was resumed while this run was draining it, and return its state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            state = StudyState(row.state)
            if state is StudyState.QUEUED:
                state = move_study(state, StudyMove.START)
                submissions.change_state(connection, row, state, reason=None)
            return state

    def create(self, new: Sequence[NewTrial]) -> tuple[PendingTrial, ...]:
        """Store trials of the search or of the confirmation as queued, and return them in the same order.

        A trial that is stored already, because the answer to an earlier call was lost, is skipped.
        """
        with self._database.write() as connection:
            study_id = self._lock(connection).id
            now = clock.now(connection)
            last = self._last_epoch(connection)
            rows: list[dict[str, Any]] = [
                {
                    "id": trial_id(study_id, n),
                    "study_id": study_id,
                    "arm": n.arm,
                    "phase": n.phase,
                    "number": n.number,
                    "confirms": n.confirms,
                    "state": TrialState.QUEUED.value,
                    "origin": n.origin,
                    "parameters": n.parameters,
                    "replicate": n.replicate,
                    "pair_index": n.pair_index,
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
            stored = trial_rows(connection, study_id, [row["id"] for row in rows])
            # A different trial with the same number is inserted too, and the database refuses it.
            missing = [
                row
                for row in rows
                if (old := stored.get(row["id"])) is None
                or any(getattr(old, name) != row[name] for name in _IMMUTABLE)
            ]
            if missing:
                connection.execute(insert(tables.trial), missing)
        return tuple(
            PendingTrial(**{name: row[name] for name in PendingTrial.__dataclass_fields__ if name in row})
            for row in rows
        )

    def start(self, trials: Iterable[PendingTrial]) -> None:
        """Set trials to running when a worker has begun to train them.

        Trials that are not queued at this attempt, or that wait at a rung, are skipped.
        """
        listed = list(trials)
        with self._database.write() as connection:
            self._lock(connection)
            now = clock.now(connection)
            rows = trial_rows(connection, self._claim.study_id, [trial.id for trial in listed])
            changes: dict[str, dict[str, Any]] = {}
            new_events: list[tuple[EventKind, Mapping[str, Any]]] = []
            for trial in listed:
                row = rows.pop(trial.id, None)
                if (
                    row is None
                    or row.attempt != trial.attempt
                    or row.state != TrialState.QUEUED.value
                    or is_waiting(row)
                ):
                    continue
                # A promoted trial keeps the attempt that brought it to its rung.
                changes[row.id] = {
                    "state": move_trial(TrialState.QUEUED, TrialMove.START).value,
                    "started_at": row.started_at or now,
                    "pack_started_at": now,
                    "pack_epochs": row.epochs_done,
                    **signs_of_life.of_report(now),
                }
                place = {**events.place_of(row), "attempt": trial.attempt}
                new_events.append(("trial.started", {**place, "parameters": trial.parameters}))
            change_trials(connection, changes)
            events.append(connection, self._claim.study_id, new_events)

    def record(self, reports: Sequence[Report]) -> frozenset[str]:
        """Store trials' reports in one transaction, and return the ids of trials whose reports were accepted.

        A trial that has reached its `to_epoch`, a rung, and saved a checkpoint there waits from then on: it
        is queued at the same attempt. A trial with an earlier checkpoint resumes from it if it loses its
        worker. A report of an older attempt, or of a trial that is not running, is dropped: another worker
        trains the trial, or it waits or was cancelled. A repeated measurement is accepted but not stored
        again. Numbers that are not finite are stored as None.
        """
        t, m = tables.trial.c, tables.measurement.c
        with self._database.write() as connection:
            self._lock(connection)
            last, now = self._last_epoch(connection), clock.now(connection)
            columns = (t.id, t.arm, t.phase, t.number, t.state, t.attempt, t.to_epoch, t.charged_s)
            columns = (*columns, t.memory_bytes, t.device_memory_bytes)
            rows = trial_rows(
                connection, self._claim.study_id, {report.trial_id for report in reports}, *columns
            )
            earlier = select(m.trial_id, m.epoch).where(
                m.trial_id.in_(list(rows)), m.epoch.in_({report.measurement.epoch for report in reports})
            )
            measured = {(row.trial_id, row.epoch) for row in connection.execute(earlier)}
            accepted: set[str] = set()
            no_longer_running: set[str] = set()
            new: list[dict[str, Any]] = []
            changes: dict[str, dict[str, Any]] = {}
            new_events: list[tuple[EventKind, Mapping[str, Any]]] = []
            kept = list[tuple[str, NewArtifact]]()
            of_layers = list[tuple[str, MeasuredLayers]]()
            for report in reports:
                row = rows.get(report.trial_id)
                # Later reports in this batch of a trial that has just ended are dropped too.
                if (
                    row is None
                    or row.attempt != report.attempt
                    or row.state != TrialState.RUNNING.value
                    or row.id in no_longer_running
                ):
                    continue
                accepted.add(row.id)
                kept += [(row.id, artifact) for artifact in report.artifacts]
                values, epoch = changes.setdefault(row.id, {}), report.measurement.epoch
                if (row.id, epoch) not in measured:
                    measured.add((row.id, epoch))
                    further = report.measurement.metrics or None
                    new.append(report.measurement.model_dump() | {"metrics": further, "trial_id": row.id})
                    of_layers += [] if report.layers is None else [(row.id, report.layers)]
                    values |= {
                        "epochs_done": epoch,
                        "cost_s": new[-1]["elapsed_s"],
                        # A repeated report is charged once.
                        "charged_s": values.get("charged_s", row.charged_s) + report.charged_s,
                        "worker": report.worker and report.worker[:128],
                        **signs_of_life.of_report(now),
                    }
                    values |= {"pack_size": report.pack_size}
                    for name in ("memory_bytes", "device_memory_bytes"):
                        values[name] = _larger(values.get(name, getattr(row, name)), getattr(report, name))
                outcome = outcome_columns(report)
                if outcome is not None:
                    values |= {**outcome, "ended_at": now, **NO_CHECKPOINT}
                    state = TrialState(outcome["state"])
                    new_events.append(
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
                no_longer_running |= {row.id} if "state" in values else set()
            if new:
                connection.execute(insert(tables.measurement), new)
            layers.add(connection, of_layers)
            change_trials(connection, changes)
            artifacts.insert_all(connection, self._claim.study_id, kept)
            events.append(connection, self._claim.study_id, new_events)
        return frozenset(accepted)

    def hear(self, attempts: Mapping[str, int], steps: Mapping[str, int | None]) -> None:
        """Store that trials in training go on: their attempts by id, and steps since their last epoch."""
        with self._database.write() as connection:
            self._lock(connection)
            signs_of_life.note(connection, self._claim.study_id, attempts, steps)

    def settle(
        self, *, promoted: Sequence[tuple[str, int, int]], pruned: Sequence[tuple[str, int]]
    ) -> tuple[PendingTrial, ...]:
        """Promote or prune trials that wait at a rung, in one transaction, and return the promoted ones.

        A trial that no longer waits, or waits at another attempt, is skipped.

        Args:
            promoted: (trial id, attempt, epoch to train to) of each trial to promote; the order is kept.
            pruned: (trial id, attempt) of each trial to prune.
        """
        with self._database.write() as connection:
            self._lock(connection)
            now = clock.now(connection)
            rows = trial_rows(
                connection, self._claim.study_id, [trial_id for trial_id, *_ in (*promoted, *pruned)]
            )
            waiting = {row.id: row for row in rows.values() if is_waiting(row)}
            changes: dict[str, dict[str, Any]] = {}
            new_events: list[tuple[EventKind, Mapping[str, Any]]] = []
            going_on: list[PendingTrial] = []
            for trial_id, attempt, to_epoch in promoted:
                row = waiting.get(trial_id)
                if row is None or row.attempt != attempt:
                    continue
                del waiting[trial_id]
                changes[row.id] = {"to_epoch": to_epoch}
                going_on.append(pending(row, to_epoch=to_epoch))
                new_events.append(
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
                new_events.append(
                    ("trial.finished", events.trial_finished(row, state, value=None, reason=None))
                )
            change_trials(connection, changes)
            events.append(connection, self._claim.study_id, new_events)
        return tuple(going_on)

    def requeue(
        self,
        trials: Sequence[tuple[str, int]],
        *,
        reason: str,
        max_retries: int,
        is_charged: bool = True,
        from_start: bool = False,
        charged_s: float = 0.0,
        traceback: str | None = None,
    ) -> tuple[PendingTrial, ...]:
        """Requeue trials that lost their worker at their next attempt, or fail those without retries left.

        A trial with a checkpoint resumes from it; its later measurements are deleted.

        Args:
            trials: (trial id, attempt) of each; a trial at another attempt or at a rung is skipped.
            reason: what happened, in words.
            max_retries: the largest number of retries of a trial.
            is_charged: whether this costs a retry; False if the trials were requeued on purpose.
            from_start: whether the checkpoints are unusable, so that the trials start again from the first
                epoch; they keep their `to_epoch`.
            charged_s: each trial's share of its pack's wall time since the pack's last report.
            traceback: the frames of the error, stored with trials that fail; None without an error.

        Returns:
            The requeued trials.
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
                traceback=traceback,
            )

    def record_environment(self, environment: Mapping[str, str]) -> None:
        """Store the environment that trains the study: versions and processors.

        Values that earlier runs recorded are kept beside new ones.
        """
        with self._database.write() as connection:
            row = self._lock(connection)
            merged = environments.merged(row.environment or {}, environment)
            if merged != row.environment:
                connection.execute(
                    update(tables.study).where(tables.study.c.id == row.id).values(environment=merged)
                )

    def record_card_differences(self, differences: Sequence[CardDifference]) -> None:
        """Store in what the workload's data differs from its card, in place of what was stored before."""
        with self._database.write() as connection:
            row = self._lock(connection)
            stored = [difference.model_dump(mode="json") for difference in differences]
            connection.execute(
                update(tables.study).where(tables.study.c.id == row.id).values(card_differences=stored)
            )

    def knows_scale_invariance(self) -> bool:
        """Return whether it is stored which layers are scale-invariant."""
        with self._database.read() as connection:
            return layers.scale_invariance(connection, self._claim.study_id) is not None

    def record_scale_invariance(self, found: Mapping[str, bool]) -> None:
        """Store whether each tested layer is scale-invariant, by name, beside what was stored before."""
        with self._database.write() as connection:
            row = self._lock(connection)
            known: dict[str, bool] = row.scale_invariance or {}
            layers.record_scale_invariance(connection, row.id, {**found, **known})

    def known_check(self, checked: WorkloadVersion) -> tuple[CheckResult, ...] | None:
        """Return what an earlier check of a workload's version found; None if there was none."""
        with self._database.read() as connection:
            return workload_checks.read(connection, checked)

    def record_check(self, results: Sequence[CheckResult], *, checked: WorkloadVersion | None) -> None:
        """Store what the check of the study's workload found.

        Args:
            results: what it found.
            checked: the version that other studies need not check again; None if the check did not end,
                or found an error.
        """
        with self._database.write() as connection:
            workload_checks.record(connection, self._lock(connection).id, results, checked=checked)

    def record_output(self, pack_id: str, attempts: Mapping[str, int], *, text: str, size: int) -> None:
        """Store the end of what a worker printed while it trained a pack.

        Args:
            pack_id: the pack.
            attempts: the attempt of each of its trials, by trial id.
            text: the end of the output.
            size: bytes of the whole output.
        """
        with self._database.write() as connection:
            self._lock(connection)
            trial_outputs.write(
                connection, self._claim.study_id, pack_id, attempts, text=tables.storable(text), size=size
            )

    def report_progress(self) -> None:
        """Add a `progress` event of the study and each arm, if anything has changed since the last one."""
        with self._database.write() as connection:
            self._lock(connection)
            now = study_queries.progress(connection, self._claim.study_id)
            if now != self._last_progress:
                events.append(connection, self._claim.study_id, [("progress", now)])
                self._last_progress = now

    def close(self, outcome: StudyMove, *, reason: str | None = None) -> StudyState:
        """Close the study by `finish` or `fail`, cancel its unfinished trials, and return its final state."""
        with self._database.write() as connection:
            row = self._lock(connection)
            if StudyState(row.state) is StudyState.QUEUED:
                # It was resumed after this run, which was draining it, last read its state.
                submissions.change_state(
                    connection, row, move_study(StudyState.QUEUED, StudyMove.START), reason=None
                )
                row = self._lock(connection)
            return submissions.close_study(connection, row, outcome, reason=reason)

    def _lock(self, connection: Connection) -> Any:
        row = events.lock_study(connection, self._claim.study_id)
        if row.attempt != self._claim.attempt:
            raise Superseded(
                f"study {row.id}: attempt {self._claim.attempt} is superseded by attempt {row.attempt}"
            )
        if StudyState(row.state) in CLOSED_STUDY_STATES:
            raise Superseded(f"study {row.id} is closed: {row.state}")
        if row.lease_owner is None:
            raise Superseded(f"study {row.id}: the lease of attempt {self._claim.attempt} has lapsed")
        return row

    def _last_epoch(self, connection: Connection) -> int:
        if self._epochs is None:
            self._epochs = study_queries.resolved(connection, self._claim.study_id).epochs
        return self._epochs


def _larger(one: int | None, other: int | None) -> int | None:
    """Return the larger of two numbers that may be unknown."""
    return max((each for each in (one, other) if each is not None), default=None)
