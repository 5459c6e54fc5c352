"""The stored catalogue: the cards that dispatchers have announced, and the dispatchers' heartbeats."""

__all__ = [
    "HEARTBEAT_WITHIN",
    "REMEMBERED_FOR",
    "Heartbeat",
    "announce",
    "catalog",
    "dispatchers",
    "heartbeat",
    "nodes",
    "report_nodes",
    "reported",
    "sign_off",
    "stamp",
]

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from studies.catalog import BrokenPackage, Catalog, OptimizerCard, WorkloadCard
from studies.cluster_views import MachineView, NodesView
from studies.frozen_model import FrozenModel
from studies.store import clock, tables

HEARTBEAT_WITHIN: Final = timedelta(seconds=30)
"""A dispatcher without a heartbeat for this long counts as gone."""

REMEMBERED_FOR: Final = timedelta(days=1)
"""A dispatcher that signed off by no word is shown for this long after its last heartbeat."""

_MAX_PROBLEM_LENGTH = 1000
# The kind of a package that a dispatcher could not load.
_BROKEN = "broken"
_NODES = "nodes"
_CARDS = ("optimizer", "workload", _BROKEN)
_View = TypeVar("_View", bound=FrozenModel)


@dataclass(frozen=True)
class Heartbeat:
    """A dispatcher's last heartbeat.

    Attributes:
        at: when it was stored.
        problem: why the dispatcher could start no run then; None if it could.
        machine: the machine that it runs on, as a `MachineView`'s fields; None if it reports none.
    """

    at: datetime
    problem: str | None = None
    machine: dict[str, Any] | None = None


def _upsert(connection: Connection, *, kind: str, name: str, card: dict[str, Any], dispatcher: str) -> None:
    # One statement: two dispatchers that start together announce the same cards.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {"card": card, "dispatcher": dispatcher, "seen_at": clock.now(connection)}
    row = insert(tables.offer).values(kind=kind, name=name, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["kind", "name"], set_=values))


def announce(connection: Connection, cards: Catalog, *, dispatcher: str) -> None:
    """Store every card and a heartbeat; a newer card of the same name replaces the older.

    The packages that the dispatcher could not load replace those of its last announcement.
    """
    # In the order of names: otherwise two dispatchers could deadlock on each other's rows.
    for _, optimizer in sorted(cards.optimizers.items()):
        _upsert(
            connection,
            kind="optimizer",
            name=optimizer.name,
            card=optimizer.model_dump(mode="json"),
            dispatcher=dispatcher,
        )
    for _, workload in sorted(cards.workloads.items()):
        _upsert(
            connection,
            kind="workload",
            name=workload.name,
            card=workload.model_dump(mode="json"),
            dispatcher=dispatcher,
        )
    _forget_broken(connection, dispatcher=dispatcher)
    for package in cards.broken:
        card = {name: tables.storable(value) for name, value in package.model_dump().items()}
        _upsert(
            connection,
            kind=_BROKEN,
            name=hashlib.sha256("\n".join([dispatcher, *card.values()]).encode()).hexdigest(),
            card=card,
            dispatcher=dispatcher,
        )
    heartbeat(connection, dispatcher=dispatcher)
    _forget_gone(connection)


def heartbeat(
    connection: Connection,
    *,
    dispatcher: str,
    problem: str | None = None,
    machine: MachineView | None = None,
) -> None:
    """Store a dispatcher's heartbeat, with its machine, and why it can start no run if it cannot."""
    card: dict[str, Any] = (
        {} if problem is None else {"problem": tables.storable(problem)[:_MAX_PROBLEM_LENGTH]}
    )
    card |= {} if machine is None else {"machine": machine.model_dump()}
    _upsert(connection, kind="dispatcher", name=dispatcher, card=card, dispatcher=dispatcher)


def report_nodes(connection: Connection, seen: NodesView, *, cluster: str) -> None:
    """Store what a run sees of the machines of its Ray cluster."""
    card = seen.model_dump()
    _upsert(connection, kind=_NODES, name=cluster[:128], card=card, dispatcher="")


def nodes(connection: Connection, *, within: timedelta) -> tuple[NodesView, ...]:
    """Return the machines of each Ray cluster of which a run has reported lately."""
    o = tables.offer.c
    since = clock.now(connection) - within
    query = select(o.card).where(o.kind == _NODES, o.seen_at > since).order_by(o.name)
    read = (reported(NodesView, card) for card in connection.execute(query).scalars())
    return tuple(each for each in read if each is not None)


def reported(view: type[_View], card: Mapping[str, Any] | None) -> _View | None:
    """Return a stored report as a view; None if there is none or if it is no such view.

    Fields that another release of Tangent reports are left out.
    """
    known = {name: value for name, value in (card or {}).items() if name in view.model_fields}
    try:
        return view.model_validate(known) if known else None
    except ValidationError:
        return None


def sign_off(connection: Connection, *, dispatcher: str) -> None:
    """Delete a dispatcher that has ended; its cards stay, so that users can submit studies meanwhile."""
    o = tables.offer.c
    connection.execute(delete(tables.offer).where(o.kind == "dispatcher", o.name == dispatcher))
    _forget_broken(connection, dispatcher=dispatcher)


def _forget_gone(connection: Connection) -> None:
    """Delete what is left of dispatchers that were killed, and of clusters that have ended."""
    o = tables.offer.c
    before = clock.now(connection) - REMEMBERED_FOR
    gone = select(o.name).where(o.kind == "dispatcher", o.seen_at < before).order_by(o.name)
    for name in connection.execute(gone).scalars().all():
        sign_off(connection, dispatcher=name)
    connection.execute(delete(tables.offer).where(o.kind == _NODES, o.seen_at < before))


def _forget_broken(connection: Connection, *, dispatcher: str) -> None:
    o = tables.offer.c
    connection.execute(delete(tables.offer).where(o.kind == _BROKEN, o.dispatcher == dispatcher))


def stamp(connection: Connection) -> tuple[int, datetime | None]:
    """Return the number of cards and the time of the newest, which change with every announcement."""
    o = tables.offer.c
    count, newest = connection.execute(
        select(func.count(), func.max(o.seen_at)).where(o.kind.in_(_CARDS))
    ).one()
    return count, newest


def catalog(connection: Connection) -> Catalog:
    """Return every announced card, by name, and the packages that could not be loaded."""
    o = tables.offer.c
    rows = connection.execute(select(o.kind, o.name, o.card).where(o.kind.in_(_CARDS)).order_by(o.name)).all()
    return Catalog(
        optimizers={
            row.name: OptimizerCard.model_validate(row.card) for row in rows if row.kind == "optimizer"
        },
        workloads={row.name: WorkloadCard.model_validate(row.card) for row in rows if row.kind == "workload"},
        # Several dispatchers may have the same package.
        broken=tuple(
            dict.fromkeys(BrokenPackage.model_validate(row.card) for row in rows if row.kind == _BROKEN)
        ),
    )


def dispatchers(connection: Connection) -> dict[str, Heartbeat]:
    """Return each dispatcher's last heartbeat, converted from the database's clock to this machine's."""
    o = tables.offer.c
    rows = connection.execute(select(o.name, o.seen_at, o.card).where(o.kind == "dispatcher")).all()
    offset = clock.now(connection) - datetime.now(UTC)
    return {
        row.name: Heartbeat(row.seen_at - offset, row.card.get("problem"), row.card.get("machine"))
        for row in rows
    }
