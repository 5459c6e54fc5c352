"""Offers: what dispatchers have announced that they can run, and when each was last heard of."""

__all__ = ["announce", "catalog", "dispatchers", "heartbeat", "sign_off", "stamp"]

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from studies.catalog import Catalog, OptimizerCard, WorkloadCard
from studies.store import clock, tables


def _put(connection: Connection, *, kind: str, name: str, card: dict[str, Any], dispatcher: str) -> None:
    # One statement: two dispatchers that start together bring the same cards.
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {"card": card, "dispatcher": dispatcher, "seen_at": clock.now(connection)}
    put = insert(tables.offer).values(kind=kind, name=name, **values)
    connection.execute(put.on_conflict_do_update(index_elements=["kind", "name"], set_=values))


def announce(connection: Connection, cards: Catalog, *, dispatcher: str) -> None:
    """Store every card; a newer card of the same name replaces the older."""
    # In order: two dispatchers that wait for each other's rows would wait for ever.
    for _, optimizer in sorted(cards.optimizers.items()):
        _put(
            connection,
            kind="optimizer",
            name=optimizer.name,
            card=optimizer.model_dump(mode="json"),
            dispatcher=dispatcher,
        )
    for _, workload in sorted(cards.workloads.items()):
        _put(
            connection,
            kind="workload",
            name=workload.name,
            card=workload.model_dump(mode="json"),
            dispatcher=dispatcher,
        )
    heartbeat(connection, dispatcher=dispatcher)


def heartbeat(connection: Connection, *, dispatcher: str) -> None:
    """Note that a dispatcher lives."""
    _put(connection, kind="dispatcher", name=dispatcher, card={}, dispatcher=dispatcher)


def sign_off(connection: Connection, *, dispatcher: str) -> None:
    """Note that a dispatcher has ended; its cards stay, so that studies can be submitted and wait."""
    o = tables.offer.c
    connection.execute(delete(tables.offer).where(o.kind == "dispatcher", o.name == dispatcher))


def stamp(connection: Connection) -> tuple[int, datetime | None]:
    """Return what changes whenever cards are announced: how many there are, and when the last was."""
    o = tables.offer.c
    count, newest = connection.execute(
        select(func.count(), func.max(o.seen_at)).where(o.kind != "dispatcher")
    ).one()
    return count, newest


def catalog(connection: Connection) -> Catalog:
    """Return every card on offer, by name."""
    o = tables.offer.c
    rows = connection.execute(
        select(o.kind, o.name, o.card).where(o.kind != "dispatcher").order_by(o.name)
    ).all()
    return Catalog(
        optimizers={
            row.name: OptimizerCard.model_validate(row.card) for row in rows if row.kind == "optimizer"
        },
        workloads={row.name: WorkloadCard.model_validate(row.card) for row in rows if row.kind == "workload"},
    )


def dispatchers(connection: Connection) -> dict[str, datetime]:
    """Return when each dispatcher was last heard of.

    So long ago by the database's clock, and told by this machine's.
    """
    o = tables.offer.c
    rows = connection.execute(select(o.name, o.seen_at).where(o.kind == "dispatcher")).all()
    ahead = clock.now(connection) - datetime.now(UTC)
    return {row.name: row.seen_at - ahead for row in rows}
