"""Ends a process, as far as its store can tell, at a commit.

Just before it, just after it, or with only its answer lost.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psycopg
from sqlalchemy import Connection, event

from studies.store import Store

__all__ = ["Commits", "Killed", "commits", "lost_answers"]

Moment = Literal["before", "after"]


class Killed(BaseException):  # it is no error of anybody's
    """The process would have ended here; whoever tests catches it, and nothing else does."""


class Commits:
    """Counts what a store commits.

    Attributes:
        count: commits so far of transactions that may write.
    """

    def __init__(self) -> None:
        """Count from nothing."""
        self.count = 0


@contextmanager
def commits(store: Store, *, kill: tuple[Moment, int] | None = None) -> Iterator[Commits]:
    """Yield a counter of a store's commits, at one of which, numbered from 1, `Killed` is raised."""
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
    """Let the answers to the next commits be lost.

    They take place, and the driver says that the connection broke.
    """
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
