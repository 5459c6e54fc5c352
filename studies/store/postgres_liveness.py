"""Connections to PostgreSQL that never wait for good.

A server that has stopped to answer is noticed, whatever its machine's kernel still says.

The driver's own settings notice a server that refuses, and a network that is cut. A server that is frozen, or
its whole machine but for the network card, takes bytes and answers nothing; its timeouts are frozen with it.
So whoever has waited for a while asks in a second way whether anybody is there, and gives up where nobody is.
A statement that only takes long is waited for.
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
_SILENT_S = 1.5
_ANSWER_WITHIN_S = 1.5
# Beyond the server's own limit of a statement: one that lives stops by itself.
_LONGEST_S = 90.0
# What a client asks first where it would like to encrypt; the server says in one byte whether it can.
_MAY_I_ENCRYPT = struct.pack("!ii", 8, 80877103)
_READY_NONE = 0


class _Connection(psycopg.Connection[Any]):
    """A connection whose statements are given up when its server does not answer any more."""

    is_alive: Callable[[socket.socket], bool]

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **named: Any) -> T:
        """Return what the server's answer makes of `gen`.

        Raises:
            OperationalError: the server has stopped to answer; the connection is closed.
        """
        return super().wait(self._watched(gen), *arguments, **named)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        began = heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready != _READY_NONE:
                    heard = now
                elif now - began > _LONGEST_S or (now - heard > _SILENT_S and not self._is_answered()):
                    # Nothing that comes later may be taken for an answer.
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has not answered for {now - heard:.0f} s")
                elif now - heard > _SILENT_S:
                    heard = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as ended:
            answer: T = ended.value
            return answer

    def _is_answered(self) -> bool:
        with socket.socket(fileno=socket.dup(self.pgconn.socket)) as peer:
            return self.is_alive(peer)


class PostgresLiveness:
    """Makes a database's connections, and knows whether its server is in doubt.

    Then one of those who wait for it asks for all.

    Attributes:
        arguments: what the driver connects with, by name.
    """

    def __init__(self) -> None:
        """Make no connection yet."""
        self.arguments: Mapping[str, Any] = {}
        self._lock = threading.Lock()
        self._look: Future[bool] | None = None
        self._knock: Future[None] | None = None
        self._is_in_doubt = False

    def connection(self) -> _Connection:
        """Return a new connection.

        While the server is in doubt one thread at a time tries to make one, and those that come meanwhile
        fail with it.

        Raises:
            OperationalError: the server cannot be reached, or refuses.
        """
        with self._lock:
            others, mine = self._knock, None
            if others is None and self._is_in_doubt:
                mine = self._knock = Future[None]()
        if others is not None:
            failed = others.exception()
            if failed is not None:
                raise psycopg.OperationalError(str(failed)) from failed
        try:
            made = self._made()
        except BaseException as error:
            self._conclude(mine, error)
            raise
        self._conclude(mine, None)
        return made

    def _made(self) -> _Connection:
        made = _Connection.connect(**self.arguments)
        made.is_alive = self.is_alive
        return made

    def _conclude(self, knock: Future[None] | None, error: BaseException | None) -> None:
        with self._lock:
            self._is_in_doubt = isinstance(error, psycopg.OperationalError)
            self._knock = None if knock is not None else self._knock
        if knock is not None and error is not None:
            knock.set_exception(error)
        elif knock is not None:
            knock.set_result(None)

    def is_alive(self, connected: socket.socket) -> bool:
        """Return whether the server that a connection leads to still answers others.

        Those who ask meanwhile get the same answer.
        """
        with self._lock:
            others, mine = self._look, Future[bool]()
            if others is None:
                self._look = mine
        if others is not None:
            return others.result()
        answers = False
        try:
            answers = _answers(connected)
        finally:
            with self._lock:
                self._look = None
                self._is_in_doubt = self._is_in_doubt or not answers
            mine.set_result(answers)
        return answers


def _answers(connected: socket.socket) -> bool:
    """Return whether the other end of a connection takes another one, and says something there."""
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    try:
        with socket.socket(connected.family, socket.SOCK_STREAM) as asking:
            asking.settimeout(_ANSWER_WITHIN_S)
            asking.connect(connected.getpeername())
            asking.settimeout(max(0.1, deadline - time.monotonic()))
            asking.sendall(_MAY_I_ENCRYPT)
            return bool(asking.recv(1))
    except OSError:
        return False
