"""What trains at the moment and what waits, in a few queries whose cost grows with open studies only."""

__all__ = ["cluster"]

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, String, cast, distinct, func, select

from studies.cluster_views import ClusterView, DispatcherView, MachineView, QueuedStudy
from studies.states import CLOSED_STUDY_STATES, StudyState, TrialState
from studies.store import catalog, fair_share, tables
from studies.store.catalog import HEARTBEAT_WITHIN, REMEMBERED_FOR

_S, _T = tables.study.c, tables.trial.c
_MOST_QUEUED: Final = 20
# Runs report every few seconds.
_NODES_WITHIN: Final = timedelta(minutes=1)
_OPEN = tuple(state.value for state in StudyState if state not in CLOSED_STUDY_STATES)
_STATES = select(_S.state, func.count().label("studies")).where(_S.state.in_(_OPEN)).group_by(_S.state)
_RUNNING = (
    # A worker trains one pack at a time. Before its first report, a pack is identified by arm and start time.
    select(
        func.count().label("trials"),
        func.count(distinct(func.coalesce(_T.worker, _T.arm + "@" + cast(_T.started_at, String)))),
    )
    .select_from(tables.trial.join(tables.study, _S.id == _T.study_id))
    .where(_S.state.in_(_OPEN), _T.state == TrialState.RUNNING.value)
)


def cluster(connection: Connection) -> ClusterView:
    """Return what trains at the moment, and what waits; `problems` holds those of live dispatchers."""
    now = datetime.now(UTC)
    beats = sorted(catalog.dispatchers(connection).values(), key=lambda beat: beat.at, reverse=True)
    dispatchers = tuple(
        DispatcherView(
            seen_at=beat.at,
            is_alive=now - beat.at < HEARTBEAT_WITHIN,
            problem=beat.problem,
            machine=catalog.reported(MachineView, beat.machine),
        )
        for beat in beats
        if now - beat.at < REMEMBERED_FOR
    )
    trials, packs = connection.execute(_RUNNING).one()
    queue = fair_share.claim_queue(connection)
    first = queue[:_MOST_QUEUED]
    names = {
        row.id: row.name
        for row in connection.execute(select(_S.id, _S.name).where(_S.id.in_([row.id for row in first])))
    }
    priorities = {number: name for name, number in fair_share.PRIORITIES.items()}
    return ClusterView(
        at=now,
        problems=tuple(sorted({each.problem for each in dispatchers if each.is_alive and each.problem})),
        dispatchers=dispatchers,
        nodes=catalog.nodes(connection, within=_NODES_WITHIN),
        studies={StudyState(row.state): row.studies for row in connection.execute(_STATES)},
        trials_running=trials,
        packs_running=packs,
        queued=len(queue),
        queue=tuple(
            QueuedStudy(
                id=row.id,
                name=names.get(row.id, row.id),
                owner=row.owner,
                priority=priorities[row.priority],
                since=row.queued_at or row.created_at,
            )
            for row in first
        ),
    )
