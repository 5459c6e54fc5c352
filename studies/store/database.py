"""Database access: SQLite as the embedded default, PostgreSQL for a cluster.

Errors of both databases are raised as `StoreUnavailable`.
"""

__all__ = ["VERSION_TABLE", "Database", "StatementWatcher", "TransactionKind", "TransactionWatcher"]

import fcntl
import functools
import re
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from studies.errors import StoreUnavailable
from studies.store.postgres_liveness import PostgresLiveness

TransactionKind = Literal["read", "write"]

TransactionWatcher = Callable[[TransactionKind, float], None]
"""Called after each transaction, however it ended.

With the transaction's kind and its seconds, including the wait for a connection.
"""

StatementWatcher = Callable[[str], Callable[[BaseException | None], None]]
"""Called before each statement is sent, with the statement but without its values.

It returns a function that is called with the error, or None, after the answer.
"""

VERSION_TABLE = "tangent_version"
"""Alembic's table for Tangent; Optuna has an Alembic table of its own in the same database."""

_SQLITE_ARGUMENTS: dict[str, Any] = {"timeout": 60}
# Measured to notice a dead network within seconds; with the driver's defaults it is never noticed.
_POSTGRES_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 2,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
    # On the server: the transaction of a machine that was cut off or stopped would keep its locks.
    "options": (
        "-c statement_timeout=60000 -c lock_timeout=30000 -c "
        "idle_in_transaction_session_timeout=60000 -c tcp_user_timeout=10000 -c "
        "tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    ),
}
# The wait for a pooled connection is as long as the wait for an unreachable server.
_POOL: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20, "pool_timeout": 4}
# Separates our advisory locks from those of other programs in the same PostgreSQL database.
_LOCK_NAMESPACE = 727265
_EXPECTED_URL = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreUnavailable(
            "expected a SQLite file, got an in-memory database, which other processes cannot share; "
            "use sqlite:///PATH"
        )
    path = Path(url.database).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot create the folder {path.parent} for the database: {error.strerror}; choose another path"
        ) from error
    url = url.set(database=str(path))
    engine = create_engine(url, connect_args=_SQLITE_ARGUMENTS)

    @event.listens_for(engine, "connect")
    # Registered by the decorator.
    def _configure(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # Transactions are begun explicitly below: the driver's own BEGIN is deferred, and two readers that
        # both go on to write would deadlock.
        connection.isolation_level = None
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    # Registered by the decorator.
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        is_write = connection.get_execution_options().get("tangent_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _postgresql(url: URL, liveness: PostgresLiveness) -> Engine:
    engine = create_engine(url, creator=liveness.connection, **_POOL)
    _, named = engine.dialect.create_connect_args(url)
    liveness.arguments = {**named, **_POSTGRES_ARGUMENTS}

    # Checked before SQLAlchemy's first statement: if initdb found no locale, the encoding is SQL_ASCII, and
    # text would be read as bytes.
    @event.listens_for(engine, "connect", insert=True)
    # Registered by the decorator.
    def _check(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"expected the database {url.render_as_string()} to have the encoding UTF8, got {encoding}; "
                "recreate it with `createdb --encoding UTF8 --template template0`"
            )

    return engine


def _write_ahead(connection: Any) -> None:
    """Turn on the write-ahead log, which stays on; if processes open a new database together, one does it."""
    deadline = time.monotonic() + _SQLITE_ARGUMENTS["timeout"]
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


def _engine(url: str, liveness: PostgresLiveness) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # It may contain a password nevertheless.
        masked = re.sub(r"^((?:[^:/]*://)?[^:/@]*):.*@", r"\1:***@", url)
        raise StoreUnavailable(f"{masked!r} is not a valid database URL; expected {_EXPECTED_URL}") from None
    if "@" in (parsed.host or ""):
        # The part before it is the rest of a password, which would be shown as part of the host.
        raise StoreUnavailable(
            f"expected a database URL with one @, got several; write @ in a password as %40: {_EXPECTED_URL}"
        )
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _sqlite(parsed)
        case "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed.set(drivername="postgresql+psycopg"), liveness)
        case other:
            raise StoreUnavailable(
                f"expected SQLite, or PostgreSQL with psycopg, got {other!r}; use {_EXPECTED_URL}"
            )


class Database:
    """A database with read and write transactions, and its migrations."""

    def __init__(self, url: str) -> None:
        """Prepare the engine; the database is not read or written yet.

        Raises:
            StoreUnavailable: the URL is not valid or its folder cannot be created.
        """
        self._liveness = PostgresLiveness()
        self._engine = _engine(url, self._liveness)
        # By default each statement of a PostgreSQL transaction sees the newest state; on SQLite a whole
        # transaction sees one state anyway.
        self._reader = (
            self._engine.execution_options(isolation_level="REPEATABLE READ")
            if self.is_postgresql
            else self._engine
        )
        self.label = self._engine.url.render_as_string(hide_password=True)
        self._watchers: tuple[TransactionWatcher, ...] = ()

    def on_statement(self, watcher: StatementWatcher) -> None:
        """Call a watcher for each statement from now on, in the thread that sends it."""

        @event.listens_for(self._engine, "before_cursor_execute")
        def _begin(  # pyright: ignore[reportUnusedFunction] # registered by the decorator
            _connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: Any
        ) -> None:
            context.tangent_ended = watcher(statement)

        @event.listens_for(self._engine, "after_cursor_execute")
        def _end(  # pyright: ignore[reportUnusedFunction] # registered by the decorator
            _connection: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: Any
        ) -> None:
            context.tangent_ended(None)

        @event.listens_for(self._engine, "handle_error")
        # Registered by the decorator.
        def _fail(failed: ExceptionContext) -> None:  # pyright: ignore[reportUnusedFunction]
            # None if the error came from connecting, before any statement.
            ended = getattr(failed.execution_context, "tangent_ended", None)
            if ended is not None:
                ended(failed.original_exception)

    def on_transaction(self, watcher: TransactionWatcher) -> None:
        """Call a watcher after each transaction from now on, in its thread; the watcher must be quick."""
        self._watchers = (*self._watchers, watcher)

    @property
    def url(self) -> str:
        """The URL including the password, for other libraries that connect; never log or show it."""
        return self._engine.url.render_as_string(hide_password=False)

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """The engine's arguments except the URL, for other libraries that open this database."""
        if not self.is_postgresql:
            return {"connect_args": dict(_SQLITE_ARGUMENTS)}
        return {"creator": self._liveness.connection, **_POOL}

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; else it is SQLite."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Yield a connection in a transaction that reads one consistent state of the database.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with (
            self._timed("read"),
            self.translated_errors(),
            self._reader.connect() as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Yield a connection in a transaction that may write; on SQLite it holds the write lock throughout.

        Raises:
            StoreUnavailable: the database cannot be reached or written.
        """
        with (
            self._timed("write"),
            self.translated_errors(),
            self._engine.connect().execution_options(tangent_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _timed(self, kind: TransactionKind) -> Generator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            took_s = time.perf_counter() - began
            for watcher in self._watchers:
                watcher(kind, took_s)

    @contextmanager
    def exclusive(self, name: str) -> Generator[None]:
        """Hold a lock of this name, which one process on this database can hold at a time.

        Raises:
            StoreUnavailable: the database cannot be reached, or the lock is not released in time.
        """
        if self.is_postgresql:
            with self.read() as connection:
                connection.execute(
                    text(f"SELECT pg_advisory_xact_lock({_LOCK_NAMESPACE}, hashtext(:name))"), {"name": name}
                )
                yield
        else:
            # A file lock: a write transaction would block the work itself. The lock ends with its process.
            with self.translated_errors(), Path(f"{self._engine.url.database}-lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    @contextmanager
    def translated_errors(self) -> Generator[None]:
        """Raise errors of a database that cannot be used as `StoreUnavailable`, with a message of one line.

        Raises:
            StoreUnavailable: from an error of the driver or of the operating system.
        """
        try:
            yield
        except (IntegrityError, DataError):
            # The data are at fault, not the database.
            raise
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            source = error.orig if isinstance(error, DBAPIError) else error
            cause = (str(source).strip() or type(source).__name__).splitlines()[0]
            raise StoreUnavailable(f"the database {self.label} cannot be used: {cause}") from error

    def revisions(self) -> tuple[str | None, str | None]:
        """Return the schema's revision (None if it has none yet), and the newest revision this version knows.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self.read() as connection:
            return _revision(connection), _newest_revision()

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision, if it is older.

        Raises:
            StoreUnavailable: the database cannot be written, or comes from a newer version of Tangent.
        """
        config = _migrations()
        script = ScriptDirectory.from_config(config)
        with self.read() as connection:
            current = _revision(connection)
        if current == script.get_current_head():
            return
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise StoreUnavailable(
                f"the database {self.label} is at revision {current}, which this version of "
                "Tangent does not know; upgrade Tangent"
            )
        with self.write() as connection:
            if self.is_postgresql:
                # If several processes start at once, the first migrates and the others wait for it. On
                # SQLite the write lock does the same.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_NAMESPACE}, 0)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@functools.cache
def _newest_revision() -> str | None:
    """Return the newest revision that this version knows; cached, because readiness checks ask often."""
    return ScriptDirectory.from_config(_migrations()).get_current_head()


def _migrations() -> Config:
    config = Config()
    # In Alembic's configuration a percent sign begins a reference.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()
