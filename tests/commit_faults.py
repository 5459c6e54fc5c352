"""Simulate a process that dies at a commit: just before it, just after it, or with only the reply lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psycopg
from sqlalchemy import Connection, event

from studies.store import Store

__all__ = ["Commits", "Killed", "commits", "lost_answers"]

Moment = Literal["before", "after"]


class Killed(BaseException):  # so that no `except Exception` catches it
    """The process would have died here; only the test catches this."""


class Commits:
    """Counts a store's commits.

    Attributes:
        count: commits so far of write transactions.
    """

    def __init__(self) -> None:
        """Start from zero."""
        self.count = 0


@contextmanager
def commits(store: Store, *, kill: tuple[Moment, int] | None = None) -> Iterator[Commits]:
    """Yield a counter of a store's commits; raise `Killed` at the given commit, numbered from 1."""
    engine = store._database._engine
    dialect: Any = engine.dialect
    do_commit, counted = dialect.do_commit, Commits()

    def count(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("tangent_write", False)
        counted.count += int(is_write)
        if is_write and kill == ("before", counted.count):
            raise Killed

    def commit(connection: Any) -> None:
        do_commit(connection)
        if kill == ("after", counted.count):
            raise Killed

    dialect.do_commit = commit
    event.listen(engine, "commit", count)
    try:
        yield counted
    finally:
        event.remove(engine, "commit", count)
        dialect.do_commit = do_commit


@contextmanager
def lost_answers(store: Store, *, count: int) -> Iterator[None]:
    """Lose the replies to the next commits: they succeed, but the driver reports a broken connection."""
    dialect: Any = store._database._engine.dialect
    do_commit, left = dialect.do_commit, [None] * count
    error = (psycopg if store._database.is_postgresql else sqlite3).OperationalError

    def commit(connection: Any) -> None:
        do_commit(connection)
        if left:
            left.pop()
            raise error("the server closed the connection unexpectedly")

    dialect.do_commit = commit
    try:
        yield
    finally:
        dialect.do_commit = do_commit
