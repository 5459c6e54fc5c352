"""Fair shares: how studies divide machines, by one rule for every dispatcher and every run.

Machines are divided among owners first, however many studies each submits: an owner's weight is that of its
highest priority. An owner's fair share is then divided among its studies by their priorities. On an open
service all studies belong to one owner, None. The rule applies in two places: to the order in which studies
are claimed, and to the number of packs that a run may train while other runs could use the machines too.
"""

__all__ = ["PRIORITIES", "Contender", "allot", "check_priority", "claim_queue", "pack_limit", "should_yield"]

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from studies.actors import Actor
from studies.errors import Forbidden
from studies.resources import PriorityName
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import clock, tables

PRIORITIES: dict[PriorityName, int] = {"low": 0, "normal": 1, "high": 2}
"""The priorities as they are stored and compared; a higher number goes first."""

_T = TypeVar("_T")
# A priority weighs this many times as much as the one below it.
_PRIORITY_FACTOR = 3
# A run makes room only for a study that has waited this long: a place may be free, and its process starting.
_YIELD_AFTER = timedelta(seconds=15)
_CLAIMABLE = (StudyState.QUEUED.value, StudyState.RUNNING.value)
_OPEN = tuple(state.value for state in StudyState if state not in CLOSED_STUDY_STATES)
_NEVER = datetime.min.replace(tzinfo=UTC)
# Without the spec and the plan, which are most of a row.
_COLUMNS = tuple(
    tables.study.c[name] for name in ("id", "owner", "priority", "turn_at", "queued_at", "created_at")
)


@dataclass(frozen=True)
class Contender:
    """A study that could use machines now.

    Attributes:
        study_id: the study.
        owner: its owner; None on an open service.
        priority: see `PRIORITIES`.
        wanted: number of packs that it could train at once.
    """

    study_id: str
    owner: str | None
    priority: int
    wanted: float = math.inf


def check_priority(spec: StudySpec, by: Actor) -> None:
    """Raise Forbidden unless the actor may set the study's priority; only admins may set `high`."""
    if spec.resources.priority == "high" and by.role != "admin":
        raise Forbidden(
            f"only an admin may submit studies of high priority, and token {by.name!r} is a {by.role}; "
            "leave out `priority`, or ask an admin"
        )


def allot(studies: Sequence[Contender], slots: int, *, time_slice: int = 0) -> dict[str, int]:
    """Divide slots among studies, and return the number of each by study id.

    No study gets more than it wants while another wants more.

    Each slot goes to the owner with the fewest slots for its weight, and there to the study with the fewest
    for its own weight (D'Hondt's method of dividing seats). An owner or study without a slot comes before all
    that have one; among those without, the larger weight comes first. Ties are broken by a rotation that
    advances with each time slice: if there are more studies than slots, those of one priority take turns, and
    those of lower priority wait.

    Args:
        studies: the studies, each once.
        slots: number of packs that fit on the machines.
        time_slice: number of the time slice.
    """
    weights = {study.study_id: _PRIORITY_FACTOR**study.priority for study in studies}
    by_owner: dict[str | None, list[str]] = {}
    for study in sorted(studies, key=lambda study: (study.owner or "", study.study_id)):
        by_owner.setdefault(study.owner, []).append(study.study_id)
    owners = {owner: max(weights[study_id] for study_id in ids) for owner, ids in by_owner.items()}
    rank = _ranks(owners, time_slice=time_slice)
    # Otherwise an owner with a slot in every second time slice would give it to the same study each time.
    peers = Counter(owners.values())
    own_rank = {
        study_id: place
        for owner, ids in by_owner.items()
        for study_id, place in _ranks(
            {study_id: weights[study_id] for study_id in ids}, time_slice=time_slice // peers[owners[owner]]
        ).items()
    }
    allotted: Counter[str] = Counter()
    allotted_to_owner: Counter[str | None] = Counter()

    def order(study: Contender) -> tuple[bool, float, int, bool, float, int]:
        of_owner, own = allotted_to_owner[study.owner], allotted[study.study_id]
        of_all = (of_owner > 0, (of_owner + 1) / owners[study.owner], rank[study.owner])
        return *of_all, own > 0, (own + 1) / weights[study.study_id], own_rank[study.study_id]

    for _ in range(slots):
        wanting = [study for study in studies if allotted[study.study_id] < study.wanted]
        if not wanting:
            break
        first = min(wanting, key=order)
        allotted[first.study_id] += 1
        allotted_to_owner[first.owner] += 1
    return {study.study_id: allotted[study.study_id] for study in studies}


def _ranks(weights: Mapping[_T, int], *, time_slice: int) -> dict[_T, int]:
    """Return each key's place among those of the same weight, from 0; it rotates with every time slice."""
    alike: dict[int, list[_T]] = {}
    for one, weight in weights.items():
        alike.setdefault(weight, []).append(one)
    return {one: (n - time_slice) % len(ones) for ones in alike.values() for n, one in enumerate(ones)}


def pack_limit(
    connection: Connection, study_id: str, *, slots: int, time_slice_s: float, now: datetime | None = None
) -> int:
    """Return how many packs a study's run may train at once: its fair share of the machines.

    It is 0 only if there are more studies than slots, and then for a time slice, or until studies of higher
    priority want less. Only studies on the same machines count, and for a study that needs GPUs only those
    that need GPUs too. A run that has not reported yet how many packs it wants does not count.

    Args:
        connection: an open transaction.
        study_id: the study.
        slots: number of packs of this kind that would fit on the machines if nothing else ran.
        time_slice_s: seconds of a time slice; the same for all runs.
        now: the current time by default.
    """
    s = tables.study.c
    gpus = s.spec["resources"]["gpus_per_pack"].as_float()
    mine = connection.execute(
        select(s.owner, s.priority, s.machines, gpus.label("gpus")).where(s.id == study_id)
    ).one()
    query = select(s.id, s.owner, s.priority, s.packs_wanted).where(
        s.id != study_id,
        s.machines == mine.machines,
        s.packs_wanted > 0,
        s.state == StudyState.RUNNING.value,
        _has_run(connection),
    )
    rows = connection.execute(query.where(gpus > 0) if mine.gpus else query)
    others = [Contender(row.id, row.owner, row.priority, row.packs_wanted) for row in rows]
    if not others or slots < 1:
        return slots
    time_slice = int((now or clock.now(connection)).timestamp() // time_slice_s)
    # This study counts as wanting any number, because what it last reported may be outdated. The others get
    # what it does not use after its next report.
    contenders = [*others, Contender(study_id, mine.owner, mine.priority)]
    return allot(contenders, slots, time_slice=time_slice)[study_id]


def claim_queue(connection: Connection) -> list[Any]:
    """Return the rows of the studies that wait for a run, in the order in which they are to be claimed.

    The highest priority comes first, then the owner with the fewest runs, then the owner who has waited
    longest since one of its studies was claimed or released, then the study that was queued first.
    """
    s = tables.study.c
    queued = connection.execute(select(*_COLUMNS).where(s.state.in_(_CLAIMABLE), ~_has_run(connection))).all()
    if len(queued) < 2:
        return list(queued)
    runs = Counter(
        connection.execute(select(s.owner).where(s.state.in_(_OPEN), _has_run(connection))).scalars()
    )
    last_turns = {
        row.owner: row.at
        for row in connection.execute(select(s.owner, func.max(s.turn_at).label("at")).group_by(s.owner))
    }
    return sorted(
        queued,
        key=lambda row: (
            -row.priority,
            runs[row.owner],
            last_turns[row.owner] or _NEVER,
            row.queued_at or row.created_at,
            row.created_at,
            row.id,
        ),
    )


def should_yield(connection: Connection, study_id: str, *, time_slice_s: float) -> bool:
    """Return whether this study's run should finish the packs it has out and release the study.

    A run makes room when another study has waited for a while that has a higher priority, or whose owner has
    no run at all. A handover costs seconds, so for the latter only a run that has had its place for
    `time_slice_s` makes room. While a study that was just released waits in the queue, no other run makes
    room.
    """
    s, now = tables.study.c, clock.now(connection)
    running = connection.execute(
        select(*_COLUMNS).where(s.state == StudyState.RUNNING.value, _has_run(connection))
    ).all()
    runs = Counter(row.owner for row in running)
    if study_id not in {row.id for row in running}:
        return False
    queue = claim_queue(connection)
    if any(row.turn_at is not None and now - row.turn_at < _YIELD_AFTER for row in queue):
        return False
    for row in queue:
        since = max(row.queued_at or row.created_at, row.turn_at or row.created_at)
        if now - since < _YIELD_AFTER:
            continue
        candidates = [run for run in running if run.priority < row.priority]
        if not candidates and not runs[row.owner]:
            candidates = [
                run
                for run in running
                if run.priority == row.priority
                and (run.turn_at is None or now - run.turn_at > timedelta(seconds=time_slice_s))
            ]
        if candidates:
            return (
                min(
                    candidates,
                    key=lambda run: (run.priority, -runs[run.owner], run.turn_at or run.created_at, run.id),
                ).id
                == study_id
            )
    return False


def _has_run(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that a study has a run with a valid lease."""
    return func.coalesce(tables.study.c.lease_expires_at >= clock.now(connection), False)  # SQL's function
