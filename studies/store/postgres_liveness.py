"""Connections to PostgreSQL that notice a server that has stopped answering.

The driver's own settings notice a server that refuses connections, and a network that is cut. A frozen
server, or a frozen machine whose network card still works, accepts bytes and never answers, and its own
timeouts are frozen too. So a connection that has waited for a while probes the server with a second
connection, and gives up if that is not answered either. A statement that merely takes long is waited for.
"""

__all__ = ["PostgresLiveness"]

import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")
_PROBE_AFTER_S = 1.5
_PROBE_TIMEOUT_S = 1.5
# Longer than the server's own statement timeout, by which a living server ends a statement.
_MAX_WAIT_S = 90.0
# PostgreSQL's SSLRequest, which a client may send first; the server answers with one byte.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_READY_NONE = 0


class _Connection(psycopg.Connection[Any]):
    """A connection whose statements fail when its server has stopped answering."""

    is_alive: Callable[[socket.socket], bool]

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **named: Any) -> T:
        """Run psycopg's generator to its result.

        Raises:
            OperationalError: the server has stopped answering; the connection is closed.
        """
        return super().wait(self._watched(gen), *arguments, **named)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        began = last_answer = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready != _READY_NONE:
                    last_answer = now
                elif now - began > _MAX_WAIT_S or (
                    now - last_answer > _PROBE_AFTER_S and not self._is_server_alive()
                ):
                    # Closed, so that a late answer is not taken for the answer to another statement.
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has not answered for {now - last_answer:.0f} s"
                    )
                elif now - last_answer > _PROBE_AFTER_S:
                    last_answer = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _is_server_alive(self) -> bool:
        with socket.socket(fileno=socket.dup(self.pgconn.socket)) as peer:
            return self.is_alive(peer)


class PostgresLiveness:
    """Makes the connections to one server, and remembers whether the server seems to be down.

    While it seems to be down, one thread at a time tries to connect, and the others share its result.

    Attributes:
        arguments: the driver's connection arguments.
    """

    def __init__(self) -> None:
        """Make no connection yet."""
        self.arguments: Mapping[str, Any] = {}
        self._lock = threading.Lock()
        self._probe: Future[bool] | None = None
        self._reconnect: Future[None] | None = None
        self._seems_down = False

    def connection(self, *, autocommit: bool = False) -> _Connection:
        """Return a new connection.

        While the server seems to be down, one thread at a time tries to connect; if it fails, the threads
        that wait for it fail too.

        Raises:
            OperationalError: the server cannot be reached, or refuses the connection.
        """
        with self._lock:
            others, mine = self._reconnect, None
            if others is None and self._seems_down:
                mine = self._reconnect = Future[None]()
        if others is not None:
            error = others.exception()
            if error is not None:
                raise psycopg.OperationalError(str(error)) from error
        try:
            connection = self._connect(autocommit=autocommit)
        except BaseException as error:
            self._finish_attempt(mine, error)
            raise
        self._finish_attempt(mine, None)
        return connection

    def _connect(self, *, autocommit: bool) -> _Connection:
        connection = _Connection.connect(**self.arguments, autocommit=autocommit)
        connection.is_alive = self.is_alive
        return connection

    def _finish_attempt(self, attempt: Future[None] | None, error: BaseException | None) -> None:
        with self._lock:
            self._seems_down = isinstance(error, psycopg.OperationalError)
            self._reconnect = None if attempt is not None else self._reconnect
        if attempt is not None and error is not None:
            attempt.set_exception(error)
        elif attempt is not None:
            attempt.set_result(None)

    def is_alive(self, connected: socket.socket) -> bool:
        """Return whether the server of a connection still answers new connections.

        Threads that ask during a probe share its result.
        """
        with self._lock:
            others, mine = self._probe, Future[bool]()
            if others is None:
                self._probe = mine
        if others is not None:
            return others.result()
        answers = False
        try:
            answers = _answers(connected)
        finally:
            with self._lock:
                self._probe = None
                self._seems_down = self._seems_down or not answers
            mine.set_result(answers)
        return answers


def _answers(connected: socket.socket) -> bool:
    """Return whether the server of a connection accepts another connection and answers on it."""
    deadline = time.monotonic() + _PROBE_TIMEOUT_S
    try:
        with socket.socket(connected.family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_TIMEOUT_S)
            probe.connect(connected.getpeername())
            probe.settimeout(max(0.1, deadline - time.monotonic()))
            probe.sendall(_SSL_REQUEST)
            return bool(probe.recv(1))
    except OSError:
        return False
