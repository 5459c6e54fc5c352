"""Numbers for monitoring: studies and trials by state, queue times and heartbeats."""

__all__ = ["MetricsReader", "MetricsSnapshot"]

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, String, and_, case, cast, distinct, func, select

from studies.states import CLOSED_STUDY_STATES, StudyState, TrialState
from studies.store import catalog, clock, tables
from studies.store.catalog import Heartbeat
from studies.store.database import Database
from studies.store.trial_rows import IS_WAITING

_STUDIES_AT_ONCE = 1000
_CLOSED = frozenset(state.value for state in CLOSED_STUDY_STATES)


@dataclass(frozen=True)
class MetricsSnapshot:
    """The state of all studies at one moment.

    Attributes:
        studies: number of studies in each state; every state is a key.
        trials: number of trials in each state, searches and confirmations together; every state is a key.
        waiting: queued trials that wait at a rung for a decision.
        packs: packs in flight, according to their trials' last reports.
        epochs: epochs that all trials have completed, also those of deleted studies.
        retries: attempts that were lost to a fault, also those of deleted studies.
        queued_for_s: longest time in the queue of any queued study, in seconds; None if the queue is empty.
        silent_for_s: longest time without an event of any running study, in seconds; None if none runs.
        dispatchers: each dispatcher's last heartbeat.
    """

    studies: Mapping[StudyState, int]
    trials: Mapping[TrialState, int]
    waiting: int
    packs: int
    epochs: int
    retries: int
    queued_for_s: float | None
    silent_for_s: float | None
    dispatchers: Mapping[str, Heartbeat]


@dataclass
class _TrialCounts:
    """Counts of trials, of one study or of several."""

    states: Counter[str] = field(default_factory=Counter[str])
    waiting: int = 0
    packs: int = 0
    epochs: int = 0
    retries: int = 0

    def add(self, other: "_TrialCounts") -> None:
        self.states.update(other.states)
        self.waiting += other.waiting
        self.packs += other.packs
        self.epochs += other.epochs
        self.retries += other.retries


class MetricsReader:
    """Reads metrics snapshots, and caches the counts of closed studies.

    A snapshot takes four short queries, whose cost grows with the trials of open studies only. Not safe to
    share between threads.
    """

    def __init__(self, database: Database) -> None:
        """Make a reader with an empty cache."""
        self._database = database
        # By study: its version, which changes when it is opened again, and its trials.
        self._closed: dict[str, tuple[int, _TrialCounts]] = {}

    def snapshot(self) -> MetricsSnapshot:
        """Return the current snapshot.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._database.read() as connection:
            studies = _studies(connection)
            uncached = [
                row.id
                for row in studies
                if row.id not in self._closed or self._closed[row.id][0] != row.version
            ]
            counted = _count_trials(connection, uncached)
            total = _count_deleted(connection)
            dispatchers, now = catalog.dispatchers(connection), clock.now(connection)
        known, self._closed = self._closed, {}
        for row in studies:
            trials = counted[row.id] if row.id in counted else known[row.id][1]
            total.add(trials)
            if row.state in _CLOSED:
                self._closed[row.id] = (row.version, trials)
        states = Counter(row.state for row in studies)
        return MetricsSnapshot(
            studies={state: states[state.value] for state in StudyState},
            trials={state: total.states[state.value] for state in TrialState},
            waiting=total.waiting,
            packs=total.packs,
            epochs=total.epochs,
            retries=total.retries,
            queued_for_s=_longest_wait_s(
                (row.newest for row in studies if row.state == StudyState.QUEUED.value), now
            ),
            silent_for_s=_longest_wait_s(
                (row.newest for row in studies if row.state == StudyState.RUNNING.value), now
            ),
            dispatchers=dispatchers,
        )


def _studies(connection: Connection) -> list[Any]:
    """Return id, state and version of all studies, and the last event's time of queued and running ones."""
    s, e = tables.study.c, tables.event.c
    is_open = s.state.in_((StudyState.QUEUED.value, StudyState.RUNNING.value))
    newest = and_(e.study_id == s.id, e.number == s.last_event, is_open)
    query = select(s.id, s.state, s.version, e.at.label("newest")).select_from(
        tables.study.outerjoin(tables.event, newest)
    )
    return list(connection.execute(query))


def _count_trials(connection: Connection, study_ids: list[str]) -> dict[str, _TrialCounts]:
    t = tables.trial.c
    # A worker trains one pack at a time. Before its first report, a pack is identified by arm and start time.
    pack = func.coalesce(t.worker, t.arm + "@" + cast(t.started_at, String))
    packs = func.count(distinct(case((t.state == TrialState.RUNNING.value, pack))))
    waiting = func.sum(case((IS_WAITING, 1), else_=0))
    counted = select(
        t.study_id,
        t.state,
        func.count().label("trials"),
        func.sum(t.epochs_done).label("epochs"),
        func.sum(t.retries).label("retries"),
        waiting.label("waiting"),
        packs.label("packs"),
    )
    found = {study_id: _TrialCounts() for study_id in study_ids}
    for start in range(0, len(study_ids), _STUDIES_AT_ONCE):
        part = study_ids[start : start + _STUDIES_AT_ONCE]
        for row in connection.execute(counted.where(t.study_id.in_(part)).group_by(t.study_id, t.state)):
            trials = {row.state: row.trials}
            found[row.study_id].add(
                _TrialCounts(Counter(trials), int(row.waiting), row.packs, int(row.epochs), int(row.retries))
            )
    return found


def _count_deleted(connection: Connection) -> _TrialCounts:
    """Return the epochs and retries of deleted studies, whose trials are in no state."""
    d = tables.deletion.c
    epochs, retries = connection.execute(select(func.sum(d.epochs), func.sum(d.retries))).one()
    return _TrialCounts(epochs=int(epochs or 0), retries=int(retries or 0))


def _longest_wait_s(since: Iterable[datetime | None], now: datetime) -> float | None:
    """Return the seconds since the earliest of these times, or None if there is none.

    Never negative, even if a clock was set back.
    """
    known = [at for at in since if at is not None]
    return max(0.0, (now - min(known)).total_seconds()) if known else None
