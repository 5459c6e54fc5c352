"""The tally: how many studies and trials there are in each state, what waits and what lags.

For whoever watches the house.
"""

__all__ = ["MetricsReader", "MetricsSnapshot"]

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, String, and_, case, cast, distinct, func, select

from studies.states import CLOSED_STUDY_STATES, StudyState, TrialState
from studies.store import catalog, clock, tables
from studies.store.engine import Database
from studies.store.trial_rows import IS_WAITING

_STUDIES_AT_ONCE = 1000
_CLOSED = frozenset(state.value for state in CLOSED_STUDY_STATES)


@dataclass(frozen=True)
class MetricsSnapshot:
    """How things stand at one moment.

    Attributes:
        studies: how many there are in each state, every state named.
        trials: the same of trials, of searches and confirmations together.
        waiting: trials among the queued that wait at a rung for a decision.
        packs: packs in flight, as of what their trials reported last.
        epochs: epochs that all trials have behind them.
        retries: tries of trials that were lost to a fault.
        queued_for_s: seconds since the study that has waited longest in the queue came into it; None while
            the queue is empty.
        silent_for_s: seconds since the newest event of that running study which has been silent longest; None
            while none runs.
        dispatchers: when each dispatcher was last heard of.
    """

    studies: Mapping[StudyState, int]
    trials: Mapping[TrialState, int]
    waiting: int
    packs: int
    epochs: int
    retries: int
    queued_for_s: float | None
    silent_for_s: float | None
    dispatchers: Mapping[str, datetime]


@dataclass
class _Trials:
    """What was counted of trials."""

    states: Counter[str] = field(default_factory=Counter[str])
    waiting: int = 0
    packs: int = 0
    epochs: int = 0
    retries: int = 0

    def add(self, other: "_Trials") -> None:
        self.states.update(other.states)
        self.waiting += other.waiting
        self.packs += other.packs
        self.epochs += other.epochs
        self.retries += other.retries


class MetricsReader:
    """Counts in three short queries, whose cost grows with the trials of open studies.

    Those of a closed one are counted once.

    Not to be used by two threads at once.
    """

    def __init__(self, database: Database) -> None:
        """Count nothing yet."""
        self._database = database
        # By study: its version, which changes when it is opened again, and its trials.
        self._closed: dict[str, tuple[int, _Trials]] = {}

    def snapshot(self) -> MetricsSnapshot:
        """Return how things stand.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._database.read() as connection:
            studies = _studies(connection)
            unknown = [
                row.id
                for row in studies
                if row.id not in self._closed or self._closed[row.id][0] != row.version
            ]
            counted = _trials_of(connection, unknown)
            dispatchers, now = catalog.dispatchers(connection), clock.now(connection)
        total = _Trials()
        for row in studies:
            trials = counted[row.id] if row.id in counted else self._closed[row.id][1]
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
            queued_for_s=_longest(
                (row.newest for row in studies if row.state == StudyState.QUEUED.value), now
            ),
            silent_for_s=_longest(
                (row.newest for row in studies if row.state == StudyState.RUNNING.value), now
            ),
            dispatchers=dispatchers,
        )


def _studies(connection: Connection) -> list[Any]:
    """Return id, state and version of every study.

    Of those queued or running, also when the newest event was.
    """
    s, e = tables.study.c, tables.event.c
    is_open = s.state.in_((StudyState.QUEUED.value, StudyState.RUNNING.value))
    newest = and_(e.study_id == s.id, e.number == s.last_event, is_open)
    query = select(s.id, s.state, s.version, e.at.label("newest")).select_from(
        tables.study.outerjoin(tables.event, newest)
    )
    return list(connection.execute(query))


def _trials_of(connection: Connection, study_ids: list[str]) -> dict[str, _Trials]:
    t = tables.trial.c
    # A worker has one pack in hand. Until it has reported for the first time its trials are known by having
    # started together.
    hand = func.coalesce(t.worker, t.arm + "@" + cast(t.started_at, String))
    in_hand = func.count(distinct(case((t.state == TrialState.RUNNING.value, hand))))
    waiting = func.sum(case((IS_WAITING, 1), else_=0))
    counted = select(
        t.study_id,
        t.state,
        func.count().label("trials"),
        func.sum(t.epochs_done).label("epochs"),
        func.sum(t.retries).label("retries"),
        waiting.label("waiting"),
        in_hand.label("packs"),
    )
    found = {study_id: _Trials() for study_id in study_ids}
    for start in range(0, len(study_ids), _STUDIES_AT_ONCE):
        part = study_ids[start : start + _STUDIES_AT_ONCE]
        for row in connection.execute(counted.where(t.study_id.in_(part)).group_by(t.study_id, t.state)):
            trials = {row.state: row.trials}
            found[row.study_id].add(
                _Trials(Counter(trials), int(row.waiting), row.packs, int(row.epochs), int(row.retries))
            )
    return found


def _longest(since: Iterable[datetime | None], now: datetime) -> float | None:
    """Return seconds since the earliest of these moments.

    None where there is none, and never less than nothing, for clocks are set.
    """
    known = [at for at in since if at is not None]
    return max(0.0, (now - min(known)).total_seconds()) if known else None
