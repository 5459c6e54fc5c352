"""Opening a database: each reason that it cannot be used is one line of an error message."""

import contextlib
import re
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from catalogs import study_body
from postgres_server import PostgresServer
from simulated_dispatch import SimulatedDispatcher
from sqlalchemy import make_url

from studies.errors import StoreUnavailable
from studies.spec import parse_spec
from studies.store import Store
from studies.store.database import VERSION_TABLE
from studies.trials import NewTrial

__all__: list[str] = []

EXPECTED = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "''"),
        ("tangent.db", "'tangent.db'"),
        ("postgresql://host:port/name", "'postgresql://host:port/name'"),
        ("postgresql://me:secret:more@host:port/name", "'postgresql://me:***@host:port/name'"),
        ("postgresql://me:sec@ret@host/name", "%40"),
        ("mysql://host/name", "'mysql'"),
        ("postgresql+psycopg2://host/name", "'postgresql+psycopg2'"),
        ("postgresql+asyncpg://host/name", "'postgresql+asyncpg'"),
        ("sqlite+aiosqlite:///x.db", "'sqlite+aiosqlite'"),
    ],
)
def test_an_invalid_url_is_shown_with_the_expected_form(url: str, shown: str) -> None:
    with pytest.raises(StoreUnavailable, match=re.escape(shown)) as raised:
        Store.open(url)
    assert EXPECTED in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_an_in_memory_database_is_refused(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="use sqlite:///PATH"):
        Store.open(url)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (
        tmp_path / "file" / "tangent.db",
        tmp_path / "file" / "deeper" / "tangent.db",
        Path("/proc/tangent/tangent.db"),
    ):
        with pytest.raises(
            StoreUnavailable, match=r"cannot create the folder .* for the database: .*; choose another path"
        ):
            Store.open(f"sqlite:///{path}")


def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "letter").write_text(
        "Dear reader, this is not a database, and it is longer than a header would be. " * 20
    )
    for name, cause in (("folder", "unable to open database file"), ("letter", "file is not a database")):
        with pytest.raises(StoreUnavailable, match=f"sqlite:///{tmp_path}/{name} .*{cause}"):
            Store.open(f"sqlite:///{tmp_path}/{name}")


def test_missing_folders_are_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/deep/er/tangent.db", f"{tmp_path}/with space & 100% #1/tangent.db"):
        store = Store.open(f"sqlite:///{path}")
        store.ping()
        store.close()
    assert (tmp_path / "deep" / "er" / "tangent.db").is_file()
    assert (tmp_path / "with space & 100% #1" / "tangent.db").is_file()


def test_a_host_that_refuses_connections_is_reported_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(
        StoreUnavailable,
        match=r"^the database postgresql\+psycopg://ada:\*\*\*@127\.0\.0\.1:1/name cannot be used: .*refused",
    ):
        Store.open("postgresql://ada:secret@127.0.0.1:1/name")
    assert time.monotonic() - began < 5


def test_connecting_to_a_silent_host_times_out_after_seconds() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="timeout"):
            Store.open(f"postgresql://ada@127.0.0.1:{port}/name")
        assert time.monotonic() - began < 15


def test_a_database_without_tables_is_reported_on_first_use(empty_url: str) -> None:
    store = Store.open(empty_url, migrate=False)
    store.ping()
    with pytest.raises(StoreUnavailable, match=r"cannot be used: .*study"):
        store.studies()
    store.close()


def test_a_database_of_a_newer_version_is_left_unchanged(store: Store, database_url: str) -> None:
    with store._database.write() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(
        StoreUnavailable,
        match="is at revision 9999, which this version of Tangent does not know; upgrade Tangent",
    ):
        Store.open(database_url)


def test_invalid_data_is_not_reported_as_an_unavailable_database(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.create(0)
    with pytest.raises(Exception, match=r"UNIQUE|unique") as raised:
        run.writer.create([NewTrial("adamp", 0, "sampled", {"lr": 0.5}, seed=7)])
    assert not isinstance(raised.value, StoreUnavailable)
    assert len(run.writer.trials()) == 1


@pytest.mark.postgres
def test_a_missing_database_is_reported(postgres: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable, match=r'cannot be used: .*database "nowhere" does not exist'):
        Store.open(postgres.url("nowhere"))


@pytest.mark.postgres
def test_a_store_survives_a_restart_of_its_server(postgres: PostgresServer, postgres_url: str) -> None:
    store = Store.open(postgres_url)
    name = make_url(postgres_url).database
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    store.ping()
    store.heartbeat("here")
    assert set(store.dispatchers()) == {"here"}
    store.close()


@pytest.mark.postgres
def test_writing_to_a_read_only_database_is_reported(postgres: PostgresServer, postgres_url: str) -> None:
    Store.open(postgres_url).close()
    postgres.run(f"ALTER DATABASE {make_url(postgres_url).database} SET default_transaction_read_only = on")
    store = Store.open(postgres_url)
    assert store.studies().total == 0
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        store.heartbeat("here")
    store.close()


def test_a_postgresql_url_without_a_driver_uses_psycopg() -> None:
    with pytest.raises(StoreUnavailable, match=r"postgresql\+psycopg://127\.0\.0\.1:1/x"):
        Store.open("postgresql://127.0.0.1:1/x")


def test_a_closed_store_reopens_when_it_is_used(store: Store) -> None:
    store.close()
    assert store.submit(parse_spec(study_body())).id


def test_opening_waits_for_another_process_that_creates_the_database(tmp_path: Path) -> None:
    with contextlib.closing(
        sqlite3.connect(tmp_path / "tangent.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
        release.start()
        Store.open(f"sqlite:///{tmp_path}/tangent.db").close()
        release.join()


@pytest.mark.postgres
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_without_utf8_is_refused(postgres: PostgresServer, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'")
    try:
        with pytest.raises(
            StoreUnavailable,
            match=rf"{name}.* UTF8, got {encoding}",
        ):
            Store.open(postgres.url(name))
    finally:
        postgres.drop(name)
