"""Database transactions, locks and migrations; errors of SQLite and PostgreSQL become `StoreUnavailable`."""

__all__ = [
    "LOCK_WAIT_S",
    "VERSION_TABLE",
    "Database",
    "StatementWatcher",
    "TransactionKind",
    "TransactionWatcher",
]

import contextlib
import fcntl
import functools
import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, Engine, ExceptionContext, RootTransaction, event, inspect, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from studies.database_urls import masked
from studies.errors import StoreUnavailable
from studies.private_files import open_privately
from studies.store.clock import JumpDetector
from studies.store.engine import POOL, label, make_engine, sqlite_arguments
from studies.store.plans import PlanCache
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

LOCK_WAIT_S = 10.0
"""How long a transaction waits for a lock of another one before it fails, by default."""

_T = TypeVar("_T")
# An ordinary transaction ends sooner.
_NOTICED_WAIT_S = 0.5
# Another process may be migrating a large database.
_MIGRATION_WAIT_S = 60.0
# Errors of SQLite when it cannot extend a file.
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_ROOM_BYTES = 2**17
_MIGRATIONS = Path(__file__).parent / "migrations"

# Separates our advisory locks from those of other programs in the same PostgreSQL database.
_LOCK_NAMESPACE = 727265


class Database:
    """A database with read and write transactions, and its migrations."""

    def __init__(self, url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Prepare the engine; the database is not read or written yet.

        Args:
            url: URL of the database.
            lock_wait_s: the longest wait for a lock of another transaction.

        Raises:
            StoreUnavailable: the URL is not valid or its folder cannot be created.
        """
        self._liveness = PostgresLiveness()
        self._lock_wait_s = lock_wait_s
        engine = make_engine(url, self._liveness, lock_wait_s=lock_wait_s)
        self._engine = engine.execution_options(tangent_plans=PlanCache())
        # SQLite has one writer at a time. Threads take turns here, so that only one of them holds a
        # connection and polls for the lock of other processes.
        self._turn = threading.Lock()
        self._locked_at = -math.inf
        self.jumps = JumpDetector()
        # By default each statement of a PostgreSQL transaction sees the newest state; on SQLite a whole
        # transaction sees one state anyway.
        self._reader = self._engine.execution_options(tangent_begin="BEGIN ISOLATION LEVEL REPEATABLE READ")
        self._looker = self._engine.execution_options(tangent_begin=None)
        self.label = label(self._engine.url)
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
            return {"connect_args": sqlite_arguments(self._lock_wait_s)}
        return {"creator": self._liveness.connection, **POOL}

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
            _transaction(self._reader) as connection,
        ):
            yield connection

    def look(self, read: Callable[[Connection], _T]) -> _T:
        """Return the result of a function that reads by a single statement, which needs no transaction.

        On PostgreSQL it is one round trip instead of three.

        Args:
            read: the function; it is called again if its connection turns out to be lost.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._timed("read"), self.translated_errors():
            try:
                with self._looker.connect() as connection:
                    return read(connection)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            with self._looker.connect() as connection:
                return read(connection)

    @contextmanager
    def write(self, *, wait_s: float | None = None) -> Generator[Connection]:
        """Yield a connection in a transaction that may write; on SQLite it holds the write lock throughout.

        Args:
            wait_s: the longest wait for SQLite's write lock; by default that of this database.

        Raises:
            StoreUnavailable: the database cannot be reached or written, or others hold its lock.
        """
        with (
            self._timed("write"),
            self.translated_errors(),
            self._write_turn(self._lock_wait_s if wait_s is None else wait_s) as left_s,
            contextlib.ExitStack() as stack,
        ):
            began = time.monotonic()
            try:
                connection = stack.enter_context(
                    _transaction(self._engine, tangent_write=True, tangent_wait_s=left_s)
                )
            finally:
                if time.monotonic() - began > _NOTICED_WAIT_S:
                    self._locked_at = time.monotonic()
            yield connection

    def was_locked(self, *, within_s: float) -> bool:
        """Return whether another process has held SQLite's write lock for a while within the last seconds."""
        return time.monotonic() - self._locked_at < within_s

    @contextmanager
    def _write_turn(self, wait_s: float) -> Generator[float]:
        """Wait until no other thread of this process writes to SQLite, and yield what is left of the wait.

        Raises:
            StoreUnavailable: other threads write, or wait to write, for longer.
        """
        if self.is_postgresql:
            yield wait_s
            return
        began = time.monotonic()
        if not self._turn.acquire(timeout=wait_s):
            raise StoreUnavailable(f"the database {self.label} cannot be used: database is locked")
        try:
            yield max(0.0, wait_s - (time.monotonic() - began))
        finally:
            self._turn.release()

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
            with (
                self.translated_errors(),
                open(f"{self._engine.url.database}-lock", "w", opener=open_privately) as file,
            ):
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
            cause = self._describe_full_disk(source) or str(source).strip() or type(source).__name__
            raise StoreUnavailable(
                f"the database {self.label} cannot be used: {masked(cause.splitlines()[0])}"
            ) from error

    def _describe_full_disk(self, error: BaseException | None) -> str | None:
        """Return what to do if SQLite fails because its disk is full; it may call that a disk I/O error."""
        # Errors that the driver itself raises, such as for a closed connection, have no code.
        if not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _FULL:
            return None
        folder = Path(self._engine.url.database or "").absolute().parent
        with contextlib.suppress(OSError):
            if shutil.disk_usage(folder).free < _ROOM_BYTES:
                return f"the disk is full; free space for {folder}"
        return None

    def revisions(self) -> tuple[str | None, str]:
        """Return the schema's revision (None if it has none yet), and the newest revision this version knows.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self.read() as connection:
            return _revision(connection), max(_known_revisions())

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision, if it is older.

        Raises:
            StoreUnavailable: the database cannot be written, or comes from a newer version of Tangent.
        """
        with self.read() as connection:
            current = _revision(connection)
        if current == max(_known_revisions()):
            return
        if current is not None and current not in _known_revisions():
            raise StoreUnavailable(
                f"the database {self.label} is at revision {current}, which this version of "
                "Tangent does not know; upgrade Tangent"
            )
        # Slow to import, and rarely needed.
        from alembic import command
        from alembic.config import Config

        config = Config()
        # In Alembic's configuration a percent sign begins a reference.
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self.write(wait_s=_MIGRATION_WAIT_S) as connection:
            if self.is_postgresql:
                # If several processes start at once, the first migrates and the others wait for it. On
                # SQLite the write lock does the same.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_NAMESPACE}, 0)")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextmanager
def _transaction(engine: Engine, **options: Any) -> Generator[Connection]:
    """Yield a connection in a transaction, which is committed at the end.

    The pool's connections are lost when the server restarts, so a transaction that cannot begin is begun once
    more, on a new connection.

    Args:
        engine: the engine.
        options: execution options of the connection.
    """
    try:
        connection, transaction = _begun(engine, options)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        connection, transaction = _begun(engine, options)
    with connection, transaction:
        yield connection


def _begun(engine: Engine, options: Mapping[str, Any]) -> tuple[Connection, RootTransaction]:
    connection = engine.connect().execution_options(**options)
    try:
        return connection, connection.begin()
    except BaseException:
        connection.close()
        raise


@functools.cache
def _known_revisions() -> frozenset[str]:
    """Return the revisions that this version knows: the numbers at the start of the migrations' names."""
    return frozenset(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    # The table's name is a constant.
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()  # noqa: S608
