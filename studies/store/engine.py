"""Opening a database: SQLite as the embedded default, PostgreSQL for a cluster.

Errors of both told as `StoreUnavailable`.
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
"""Told of each transaction when it has ended, in any way.

Its kind, and the seconds it took, waiting for a connection included.
"""

StatementWatcher = Callable[[str], Callable[[BaseException | None], None]]
"""Told of each statement before it is sent, without its values.

What it returns is called with the error, or None, once the answer is there.
"""

VERSION_TABLE = "tangent_version"
"""Ours alone: Optuna keeps an Alembic table of its own in the same database."""

_SQLITE_ARGUMENTS: dict[str, Any] = {"timeout": 60}
# Values measured to notice a dead network within seconds, where the driver's defaults never do.
_POSTGRES_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 2,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
    # The server's side: what a machine leaves behind that was cut off or stopped in the middle of a
    # transaction holds its locks.
    "options": (
        "-c statement_timeout=60000 -c lock_timeout=30000 -c "
        "idle_in_transaction_session_timeout=60000 -c tcp_user_timeout=10000 -c "
        "tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    ),
}
# Who waits for a connection waits no longer for the server then than others do.
_POOL: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 10, "max_overflow": 20, "pool_timeout": 4}
# Tells our advisory locks apart from those of others in the same PostgreSQL database.
_LOCKS = 727265
_EXPECTED_URL = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreUnavailable(
            "a SQLite database in memory ends with its process, and several "
            "share one here; use sqlite:///PATH"
        )
    path = Path(url.database).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot make the folder {path.parent} for the database: {error.strerror}; choose another path"
        ) from error
    url = url.set(database=str(path))
    engine = create_engine(url, connect_args=_SQLITE_ARGUMENTS)

    @event.listens_for(engine, "connect")
    # Registered by the decorator.
    def _configure(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # Transactions are begun by hand below: the driver's own begin is deferred, and two readers that both
        # go on to write deadlock.
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


def _postgresql(url: URL, pulse: PostgresLiveness) -> Engine:
    engine = create_engine(url, creator=pulse.connection, **_POOL)
    _, named = engine.dialect.create_connect_args(url)
    pulse.arguments = {**named, **_POSTGRES_ARGUMENTS}

    # Before SQLAlchemy asks its first question: where initdb found no locale the encoding is SQL_ASCII, and
    # text comes back as bytes.
    @event.listens_for(engine, "connect", insert=True)
    # Registered by the decorator.
    def _check(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"expected the database {url.render_as_string()} to have the encoding UTF8, got {encoding}; "
                "make it anew with `createdb --encoding UTF8 --template template0`"
            )

    return engine


def _write_ahead(connection: Any) -> None:
    """Turn on the write-ahead log, which stays on.

    Of processes that open a new database together one does it.
    """
    deadline = time.monotonic() + _SQLITE_ARGUMENTS["timeout"]
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # For this one lock SQLite does not wait by itself.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _engine(url: str, pulse: PostgresLiveness) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # A password may stand in it all the same.
        masked = re.sub(r"^((?:[^:/]*://)?[^:/@]*):.*@", r"\1:***@", url)
        raise StoreUnavailable(f"{masked!r} is no database URL; expected {_EXPECTED_URL}") from None
    if "@" in (parsed.host or ""):
        # What stands before it is the rest of a password, and would be shown as part of the host.
        raise StoreUnavailable(
            f"expected a database URL with one @, got several; in a password write it as %40: {_EXPECTED_URL}"
        )
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _sqlite(parsed)
        case "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed.set(drivername="postgresql+psycopg"), pulse)
        case other:
            raise StoreUnavailable(
                "Tangent runs on SQLite and on PostgreSQL with psycopg, got "
                f"{other!r}; expected {_EXPECTED_URL}"
            )


class Database:
    """An engine with its two kinds of transaction and its migrations."""

    def __init__(self, url: str) -> None:
        """Open the database; nothing is read or written yet.

        Raises:
            StoreUnavailable: the URL is wrong or its folder cannot be made.
        """
        self._pulse = PostgresLiveness()
        self._engine = _engine(url, self._pulse)
        # By default each statement of a PostgreSQL transaction sees a later state; on SQLite a transaction
        # sees one anyway.
        self._reader = (
            self._engine.execution_options(isolation_level="REPEATABLE READ")
            if self.is_postgresql
            else self._engine
        )
        self.label = self._engine.url.render_as_string(hide_password=True)
        self._watchers: tuple[TransactionWatcher, ...] = ()

    def on_statement(self, watcher: StatementWatcher) -> None:
        """Tell a watcher of each statement from now on, in the thread that sends it."""

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
            # A connection that cannot be made has sent no statement.
            ended = getattr(failed.execution_context, "tangent_ended", None)
            if ended is not None:
                ended(failed.original_exception)

    def on_transaction(self, watcher: TransactionWatcher) -> None:
        """Tell a watcher of each transaction from now on.

        It is called in the thread of the transaction, and has to be quick.
        """
        self._watchers = (*self._watchers, watcher)

    @property
    def url(self) -> str:
        """The URL, password included: for handing on, never for showing."""
        return self._engine.url.render_as_string(hide_password=False)

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """What an engine is made with, but for the URL: for whoever else opens this database."""
        if not self.is_postgresql:
            return {"connect_args": dict(_SQLITE_ARGUMENTS)}
        return {"creator": self._pulse.connection, **_POOL}

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; else it is SQLite."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Yield a connection in a transaction that sees one state of the database.

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
        """Yield a connection in a transaction that may write.

        On SQLite it holds the only write lock from its start.

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
            for tell in self._watchers:
                tell(kind, took_s)

    @contextmanager
    def exclusive(self, what: str) -> Generator[None]:
        """Do something that one process at a time may do with this database, once nobody else does it.

        Raises:
            StoreUnavailable: the database cannot be reached, or the others take too long.
        """
        if self.is_postgresql:
            with self.read() as connection:
                connection.execute(
                    text(f"SELECT pg_advisory_xact_lock({_LOCKS}, hashtext(:what))"), {"what": what}
                )
                yield
        else:
            # A transaction would keep out what is to be done. The lock goes with its process, however that
            # ends.
            with self.translated_errors(), Path(f"{self._engine.url.database}-lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    @contextmanager
    def translated_errors(self) -> Generator[None]:
        """Turn the errors of a database that cannot be used into one sentence.

        Raises:
            StoreUnavailable: from the driver's error, or the system's.
        """
        try:
            yield
        except (IntegrityError, DataError):
            # What was to be written is at fault, not the database.
            raise
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            source = error.orig if isinstance(error, DBAPIError) else error
            cause = (str(source).strip() or type(source).__name__).splitlines()[0]
            raise StoreUnavailable(f"the database {self.label} cannot be used: {cause}") from error

    def revisions(self) -> tuple[str | None, str | None]:
        """Return the schema's revision, and the newest that this version of Tangent knows.

        The former is None before its first.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self.read() as connection:
            return _revision(connection), _newest_revision()

    def migrate(self) -> None:
        """Bring the schema to the newest revision; does nothing when it is there already.

        Raises:
            StoreUnavailable: the database cannot be written, or was made by a newer Tangent.
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
                # Several processes may start at once; the first migrates, the others wait and find it done.
                # On SQLite the write lock does the same.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCKS}, 0)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()


@functools.cache
def _newest_revision() -> str | None:
    """Return the newest revision that this version knows, read from its files once.

    Whoever waits for a service to be ready asks often.
    """
    return ScriptDirectory.from_config(_migrations()).get_current_head()


def _migrations() -> Config:
    config = Config()
    # Alembic takes a percent sign for the start of a reference.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()
