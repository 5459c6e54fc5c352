"""Shares: what each study may have of machines that several want.

It is decided here so that every dispatcher and every run decides alike.

Owners come first: each has the same claim, however many studies it submits, weighed by the highest priority
among them; an owner's claim is divided among its studies by theirs. On an open service all studies have one
owner, nobody. Shares are settled in two places: in the order in which studies are claimed, and in how many
packs each run may have out while others could use the machines as well.
"""

__all__ = ["PRIORITIES", "Contender", "allot", "check_priority", "share", "should_yield", "waiting"]

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from studies.actors import Actor
from studies.errors import Forbidden
from studies.spec import PriorityName, StudySpec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import clock, tables

PRIORITIES: dict[PriorityName, int] = {"low": 0, "normal": 1, "high": 2}
"""The priorities as they are stored and compared."""

_T = TypeVar("_T")
# A priority's share is so many times that of the one below it.
_STEP = 3
# A place may be free already, and its process on its way.
_PATIENCE = timedelta(seconds=15)
_CLAIMABLE = (StudyState.QUEUED.value, StudyState.RUNNING.value)
_OPEN = tuple(state.value for state in StudyState if state not in CLOSED_STUDY_STATES)
_NEVER = datetime.min.replace(tzinfo=UTC)
# Without what was submitted, which is most of a row.
_LIGHT = tuple(
    tables.study.c[name] for name in ("id", "owner", "priority", "turn_at", "queued_at", "created_at")
)


@dataclass(frozen=True)
class Contender:
    """A study that could use machines now.

    Attributes:
        study_id: its id.
        owner: its owner; None for all that have none.
        priority: see `PRIORITIES`.
        wanted: packs it could have trained at once.
    """

    study_id: str
    owner: str | None
    priority: int
    wanted: float = math.inf


def check_priority(spec: StudySpec, by: Actor) -> None:
    """Return when somebody may give a study its priority.

    Raises:
        Forbidden: it is high, and they are no admin.
    """
    if spec.resources.priority == "high" and by.role != "admin":
        raise Forbidden(
            f"only an admin may submit studies of high priority, and token {by.name!r} is a {by.role}; "
            "leave `priority` out, or ask an admin"
        )


def allot(studies: Sequence[Contender], slots: int, *, turn: int = 0) -> dict[str, int]:
    """Return how many of so many slots each study may have, by id.

    Nobody has more than it wants while another wants more.

    One by one a slot goes to the owner who has least for its weight, and there to the study that has least
    for its own (D'Hondt's method of dividing seats); but whoever has none comes first, and of these whoever
    has the larger weight. Of those who are alike, another is first in each turn: where there are more studies
    than slots, those of one priority take turns, and lower ones wait.
    """
    weights = {study.study_id: _STEP**study.priority for study in studies}
    by_owner: dict[str | None, list[str]] = {}
    for study in sorted(studies, key=lambda study: (study.owner or "", study.study_id)):
        by_owner.setdefault(study.owner, []).append(study.study_id)
    owners = {owner: max(weights[study_id] for study_id in ids) for owner, ids in by_owner.items()}
    rank = _ranks(owners, turn=turn)
    # An owner who has a slot in every second turn would else have it for the same study each time.
    peers = Counter(owners.values())
    own_rank = {
        study_id: place
        for owner, ids in by_owner.items()
        for study_id, place in _ranks(
            {study_id: weights[study_id] for study_id in ids}, turn=turn // peers[owners[owner]]
        ).items()
    }
    seats: Counter[str] = Counter()
    held: Counter[str | None] = Counter()

    def claim(study: Contender) -> tuple[bool, float, int, bool, float, int]:
        of_owner, own = held[study.owner], seats[study.study_id]
        of_all = (of_owner > 0, (of_owner + 1) / owners[study.owner], rank[study.owner])
        return *of_all, own > 0, (own + 1) / weights[study.study_id], own_rank[study.study_id]

    for _ in range(slots):
        wanting = [study for study in studies if seats[study.study_id] < study.wanted]
        if not wanting:
            break
        first = min(wanting, key=claim)
        seats[first.study_id] += 1
        held[first.owner] += 1
    return {study.study_id: seats[study.study_id] for study in studies}


def _ranks(weights: Mapping[_T, int], *, turn: int) -> dict[_T, int]:
    """Return each one's place among those of the same weight, in this turn.

    The first has 0, and in the next turn another is the first.
    """
    alike: dict[int, list[_T]] = {}
    for one, weight in weights.items():
        alike.setdefault(weight, []).append(one)
    return {one: (n - turn) % len(ones) for ones in alike.values() for n, one in enumerate(ones)}


def share(
    connection: Connection, study_id: str, *, slots: int, time_slice_s: float, now: datetime | None = None
) -> int:
    """Return how many packs a study's run may have out at once.

    It is told how many would fit were nothing else running.

    It is 0 only where there are more studies than slots; then for a turn, or until those of higher priority
    want less. Only studies on the same machines count, for one that needs GPUs only those that need them too;
    and a run that has not said yet what it wants, and where, is not among them.

    Args:
        connection: an open transaction.
        study_id: the study.
        slots: packs of its kind that fit on its machines.
        time_slice_s: seconds of a turn, where studies take turns: the same for all.
        now: by default the present moment.
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
        _is_held(connection),
    )
    rows = connection.execute(query.where(gpus > 0) if mine.gpus else query)
    others = [Contender(row.id, row.owner, row.priority, row.packs_wanted) for row in rows]
    if not others or slots < 1:
        return slots
    turn = int((now or clock.now(connection)).timestamp() // time_slice_s)
    # What it said it wants is older than what it wants now; what it does not use goes to the others with its
    # next word.
    return allot([*others, Contender(study_id, mine.owner, mine.priority)], slots, turn=turn)[study_id]


def waiting(connection: Connection) -> list[Any]:
    """Return the studies that no living run works on, as light rows, whose turn it is first.

    The highest priority goes first; then whose owner has the fewest runs, and of those the owner who has
    waited longest since one of its studies was taken up or given back; then what was queued first.
    """
    s = tables.study.c
    found = connection.execute(select(*_LIGHT).where(s.state.in_(_CLAIMABLE), ~_is_held(connection))).all()
    if len(found) < 2:
        return list(found)
    runs = Counter(
        connection.execute(select(s.owner).where(s.state.in_(_OPEN), _is_held(connection))).scalars()
    )
    served = {
        row.owner: row.at
        for row in connection.execute(select(s.owner, func.max(s.turn_at).label("at")).group_by(s.owner))
    }
    return sorted(
        found,
        key=lambda row: (
            -row.priority,
            runs[row.owner],
            served[row.owner] or _NEVER,
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
    held = connection.execute(
        select(*_LIGHT).where(s.state == StudyState.RUNNING.value, _is_held(connection))
    ).all()
    runs = Counter(row.owner for row in held)
    if study_id not in {row.id for row in held}:
        return False
    queue = waiting(connection)
    if any(row.turn_at is not None and now - row.turn_at < _PATIENCE for row in queue):
        return False
    for row in queue:
        since = max(row.queued_at or row.created_at, row.turn_at or row.created_at)
        if now - since < _PATIENCE:
            continue
        rivals = [run for run in held if run.priority < row.priority]
        if not rivals and not runs[row.owner]:
            rivals = [
                run
                for run in held
                if run.priority == row.priority
                and (run.turn_at is None or now - run.turn_at > timedelta(seconds=time_slice_s))
            ]
        if rivals:
            return (
                min(
                    rivals,
                    key=lambda run: (run.priority, -runs[run.owner], run.turn_at or run.created_at, run.id),
                ).id
                == study_id
            )
    return False


def _is_held(connection: Connection) -> ColumnElement[bool]:
    """Return whether a study has a living run."""
    return func.coalesce(tables.study.c.lease_expires_at >= clock.now(connection), False)  # SQL's function
