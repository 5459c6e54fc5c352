"""A migration on PostgreSQL that is killed leaves the database as it was, and can be repeated."""

import itertools
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from postgres_server import PostgresServer, postgres_server
from schema_differences import differences
from sqlalchemy import Engine, event

from studies.errors import StoreUnavailable
from studies.store import Store
from studies.store.database import VERSION_TABLE, Database

__all__: list[str] = []

pytestmark = pytest.mark.postgres

Victim = Literal["process", "backend", "server"]
HERE = Path(__file__).parent
_REPAIR_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for this module only, whose processes are killed."""
    with postgres_server(synchronous_commit="on") as started:
        yield started


@pytest.fixture(scope="module")
def old(server: PostgresServer) -> str:
    """The name of a database at the first revision, with three studies and all that belongs to them."""
    name = server.create()
    database = Database(server.url(name))
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(HERE.parents[2] / "studies" / "store" / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    database.close()
    with (
        closing(sqlite3.connect(":memory:")) as source,
        psycopg.connect(server.url(name).replace("+psycopg", "")) as target,
    ):
        source.executescript((HERE / "revision-0001.sql").read_text(encoding="utf-8"))
        # The dump has no zones; its times are in UTC.
        target.execute("SET timezone TO 'UTC'")
        tables = [row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # Parents before their children.
        for table in sorted(tables, key=lambda one: (one != "study", one != "trial", one)):
            if table != VERSION_TABLE:
                _copy(source, target, table)
    return name


def _copy(source: sqlite3.Connection, target: psycopg.Connection[Any], table: str) -> None:
    found = source.execute(f'SELECT * FROM "{table}"')
    names = ", ".join(f'"{column[0]}"' for column in found.description)
    holes = ", ".join(["%s"] * len(found.description))
    for row in found:
        target.execute(f'INSERT INTO "{table}" ({names}) VALUES ({holes})'.encode(), tuple(row))


def rows(server: PostgresServer, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every table of a database with its columns and rows."""
    with psycopg.connect(server.url(name).replace("+psycopg", "")) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        found: dict[str, list[tuple[Any, ...]]] = {}
        for (table,) in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}" t ORDER BY t::text'.encode())
            assert cursor.description is not None
            found[table] = [tuple(column.name for column in cursor.description), *cursor.fetchall()]
        return found


class Migration:
    """A process that migrates a database and stops at one of its statements, or after its last one.

    Attributes:
        statements: how many statements it has sent so far.
        backend: process id of its server process at that moment.
    """

    def __init__(self, url: str, *, stops_at: int) -> None:
        """Start it, and wait until it has stopped or ended."""
        # Forked, because importing everything again would take longer than the migration.
        context = multiprocessing.get_context("fork")
        self._reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=_migrate, args=(writer, url, stops_at), daemon=True)
        self._process.start()
        assert self._reader.poll(60)
        self.statements, self.backend = self._reader.recv()

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(10)

    def go_on(self) -> int:
        """Let it go on to its end, and return its exit status."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGUSR1)
        self._process.join(60)
        assert self._process.exitcode is not None
        return self._process.exitcode


def _migrate(pipe: Any, url: str, stops_at: int) -> None:
    may_go_on, sent = threading.Event(), itertools.count(1)
    signal.signal(signal.SIGUSR1, lambda *_: may_go_on.set())

    def stop(connection: Any, *_: Any) -> None:
        if next(sent) == stops_at:
            pipe.send((stops_at, connection.connection.driver_connection.info.backend_pid))
            while not may_go_on.wait(0.01):
                pass

    event.listen(Engine, "before_cursor_execute", stop)
    try:
        Store.open(url).close()
    except StoreUnavailable:
        os._exit(3)
    if next(sent) <= stops_at:
        pipe.send((next(sent) - 2, 0))
    os._exit(0)


def count_statements(server: PostgresServer, template: str) -> int:
    """Return how many statements a migration sends."""
    return Migration(server.url(server.create(template=template)), stops_at=10_000).statements


def check_kill(server: PostgresServer, template: str, victim: Victim, at: int) -> None:
    """Kill a migration at one of its statements, look at what is left, and migrate again."""
    name = server.create(template=template)
    before = rows(server, name)
    migration = Migration(server.url(name), stops_at=at)
    match victim:
        case "process":
            migration.kill()
        case "backend":
            # The server then ends all connections and recovers from its log.
            os.kill(migration.backend, signal.SIGKILL)
            assert migration.go_on() == 3, "the command must report the error"
        case "server":
            server.kill()
            server.start()
            assert migration.go_on() == 3
    began = time.monotonic()
    _until_it_answers(server, name)
    assert rows(server, name) == before, (victim, at)
    store = Store.open(server.url(name))
    assert time.monotonic() - began < _REPAIR_S, (victim, at)
    assert differences(store._database) == [], (victim, at)
    if before:
        states = {study.name: study.state.value for study in store.studies().items}
        assert states == {"Finished": "completed", "Running": "running", "Waiting": "queued"}
        trials = [trial for study in store.studies().items for trial in store.every_trial(study.id)]
        assert len(trials) == len(before["trial"][1:])
        measured = store.measurements_of([trial.id for trial in trials])
        assert sum(map(len, measured.values())) == len(before["measurement"][1:])
        assert [token.name for token in store.tokens()] == ["ada"]
    store.close()
    server.drop(name)


def _until_it_answers(server: PostgresServer, name: str) -> None:
    deadline = time.monotonic() + _REPAIR_S
    while True:
        try:
            rows(server, name)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


VICTIMS: tuple[Victim, ...] = ("process", "backend", "server")


def test_a_killed_migration_can_be_repeated(server: PostgresServer, old: str) -> None:
    total = count_statements(server, old)
    assert total > 40
    for victim, at in zip(VICTIMS, (total, total // 2, 2 * total // 3), strict=True):
        check_kill(server, old, victim, at)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("start", ["empty", "old"])
def test_a_migration_killed_at_any_statement_can_be_repeated(
    server: PostgresServer, old: str, start: str, victim: Victim
) -> None:
    template = old if start == "old" else "template0"
    total = count_statements(server, template)
    # A kill of the server takes longer than one of the process.
    for at in range(1, total + 1, 1 if victim == "process" else 3):
        check_kill(server, template, victim, at)


def test_a_migration_that_waits_for_one_that_is_killed_takes_over(server: PostgresServer, old: str) -> None:
    name = server.create(template=old)
    total = count_statements(server, old)
    first = Migration(server.url(name), stops_at=total // 2)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(Store.open, server.url(name))
        time.sleep(0.5)
        assert not second.done(), "one process migrates at a time"
        first.kill()
        store = second.result(_REPAIR_S)
    assert differences(store._database) == []
    assert store.studies().total == 3
    store.close()
    server.drop(name)
