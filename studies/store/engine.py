"""SQLAlchemy engines: SQLite as the embedded default, PostgreSQL for a cluster."""

__all__ = ["POOL", "label", "make_engine", "sqlite_arguments"]

import contextlib
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from studies.database_urls import masked_url
from studies.errors import StoreUnavailable
from studies.private_files import create_private_folder, make_private
from studies.store.postgres_liveness import PostgresLiveness

# How long processes that open a new database together wait for each other.
_CREATION_WAIT_S = 60.0
# Measured to notice a dead network within seconds; with the driver's defaults it is never noticed.
_POSTGRES_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 2,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}
# On the server: the transaction of a machine that was cut off or stopped would keep its locks.
_POSTGRES_OPTIONS = (
    "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000 -c tcp_user_timeout=10000 -c "
    "tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)
# The wait for a pooled connection is as long as the wait for an unreachable server.
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 20, "pool_timeout": 4}
POOL: dict[str, Any] = {**_POOL, "pool_pre_ping": True}
"""The arguments of other libraries' pools of connections to PostgreSQL."""

# As many connections as threads ask for: a reader must not wait for the connection of another thread.
_SQLITE_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": -1}
_creating = threading.Lock()
_EXPECTED_URL = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


def sqlite_arguments(lock_wait_s: float) -> dict[str, Any]:
    """Return the driver's arguments for SQLite: how long a connection waits for a lock."""
    return {"timeout": lock_wait_s}


def label(url: URL) -> str:
    """Return a database's URL without its passwords."""
    return masked_url(url.render_as_string(hide_password=False))


def _sqlite(url: URL, lock_wait_s: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreUnavailable(
            "expected a SQLite file, got an in-memory database, which other processes cannot share; "
            "use sqlite:///PATH"
        )
    path = Path(url.database).expanduser()
    try:
        create_private_folder(path.parent)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot create the folder {path.parent} for the database: {error.strerror}; choose another path"
        ) from error
    url = url.set(database=str(path))
    engine = create_engine(url, connect_args=sqlite_arguments(lock_wait_s), **_SQLITE_POOL)

    @event.listens_for(engine, "do_connect")
    # Registered by the decorator.
    def _protect(*_arguments: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        _make_database_private(path)

    @event.listens_for(engine, "connect")
    # Registered by the decorator.
    def _configure(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # Transactions are begun explicitly below: the driver's own BEGIN is deferred, and two readers that
        # both go on to write would deadlock.
        connection.isolation_level = None
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        # SQLite's own only knows the letters of ASCII.
        connection.create_function("lower", 1, _lower, deterministic=True)

    @event.listens_for(engine, "begin")
    # Registered by the decorator.
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        options = connection.get_execution_options()
        # For each transaction, because a pooled connection keeps the wait of its last one.
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout={1000 * options.get('tangent_wait_s', lock_wait_s):.0f}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("tangent_write", False) else "BEGIN")

    return engine


def _lower(text: object) -> object:
    return text.lower() if isinstance(text, str) else text


def _make_database_private(path: Path) -> None:
    """Create a database file for its owner only, or take it and the files beside it from other users.

    SQLite gives the files that it creates beside a database the mode of the database.
    """
    # An existing file is not opened: closing it would release the locks of this process's connections to it.
    with _creating, contextlib.suppress(OSError):
        if not path.exists():
            path.touch(mode=0o600, exist_ok=False)
    for suffix in ("", "-wal", "-shm", "-journal", "-lock"):
        make_private(Path(f"{path}{suffix}"))


def _postgresql(url: URL, liveness: PostgresLiveness, lock_wait_s: float) -> Engine:
    # Without a ping before each use: `studies.store.database` replaces a connection whose first statement
    # finds that it is lost.
    engine = create_engine(url, creator=partial(liveness.connection, autocommit=True), **_POOL)
    _, named = engine.dialect.create_connect_args(url)
    options = f"-c lock_timeout={1000 * lock_wait_s:.0f} {_POSTGRES_OPTIONS}"
    liveness.arguments = {**named, **_POSTGRES_ARGUMENTS, "options": options}

    # Checked before SQLAlchemy's first statement: if initdb found no locale, the encoding is SQL_ASCII, and
    # text would be read as bytes.
    @event.listens_for(engine, "connect", insert=True)
    # Registered by the decorator.
    def _check(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"expected the database {label(url)} to have the encoding UTF8, got {encoding}; "
                "recreate it with `createdb --encoding UTF8 --template template0`"
            )

    # The driver would send its own BEGIN with the first statement, where a lost connection can no longer be
    # replaced, and also before a single statement, which needs none.
    @event.listens_for(engine, "begin")
    # Registered by the decorator.
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        begin = connection.get_execution_options().get("tangent_begin", "BEGIN")
        if begin is not None:
            connection.exec_driver_sql(begin)

    return engine


def _write_ahead(connection: Any) -> None:
    """Turn on the write-ahead log, which stays on; if processes open a new database together, one does it."""
    deadline = time.monotonic() + _CREATION_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # SQLite's own timeout does not apply to this lock.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def make_engine(url: str, liveness: PostgresLiveness, *, lock_wait_s: float) -> Engine:
    """Return the engine of a database URL; nothing is read or written yet.

    Args:
        url: URL of the database.
        liveness: opens PostgreSQL's connections.
        lock_wait_s: the longest wait for a lock of another transaction.

    Raises:
        StoreUnavailable: the URL is not valid or its folder cannot be created.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # It may contain a password nevertheless.
        raise StoreUnavailable(
            f"{masked_url(url)!r} is not a valid database URL; expected {_EXPECTED_URL}"
        ) from None
    user = parsed.username or ""
    if "@" in (parsed.host or "") or ("@" in user and user in url):
        # The part before it is the rest of a password, which would be shown as part of the host.
        raise StoreUnavailable(
            f"expected a database URL with one @, got several; write @ in a password as %40: {_EXPECTED_URL}"
        )
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite" if "?" in url:
            raise StoreUnavailable(
                f"expected sqlite:///PATH without arguments, got {masked_url(url)!r}; write ? in a path as "
                "%3F"
            )
        case "sqlite" | "sqlite+pysqlite":
            return _sqlite(parsed, lock_wait_s)
        case "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed.set(drivername="postgresql+psycopg"), liveness, lock_wait_s)
        case other:
            raise StoreUnavailable(
                f"expected SQLite, or PostgreSQL with psycopg, got {other!r}; use {_EXPECTED_URL}"
            )
