"""Connections that wait only so long.

For a request to arrive, for its body, and for a reader to take what it was sent.

Uvicorn itself closes a connection that is idle between two requests, and no other: whoever opens hundreds and
sends a byte now and then would keep them all.
"""

__all__ = ["TimedConnection", "Timeouts"]

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Timeouts:
    """How long a connection waits for its other end.

    Attributes:
        head_s: from a connection's beginning, or a request's first byte, to the end of the request's headers.
        body_s: from there to the end of its body, which has 1 MiB at most.
        unread_s: in so many seconds a reader takes at least `least_bytes` of what waits for it.
        least_bytes: what a reader takes at least.
    """

    head_s: float = 15.0
    body_s: float = 60.0
    unread_s: float = 30.0
    least_bytes: int = 8192


class TimedConnection(H11Protocol):
    """One connection of HTTP/1.1, of which uvicorn makes each.

    Args:
        patience: how long it waits.
        given: what uvicorn gives.
    """

    def __init__(self, *, timeouts: Timeouts, **given: Any) -> None:
        super().__init__(**given)
        # Ours leaves out the query, in which somebody may have sent a token: `service.request_log`.
        self.access_log = False
        self._timeouts = timeouts
        self._awaited: float | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    # As uvicorn's own.
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        # Linux ends by itself what takes nothing at all, also the last bytes before an end.
        connection = transport.get_extra_info("socket")
        if (
            connection is not None
            and connection.family in {socket.AF_INET, socket.AF_INET6}
            and hasattr(socket, "TCP_USER_TIMEOUT")
        ):
            connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._timeouts.unread_s)
            )
        self._wait(self._timeouts.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._wait(None)
        if self._writing is not None:
            self._writing.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has arrived, and wait for what is still missing of a request."""
        super().handle_events()
        match self.conn.their_state:
            case h11.SEND_BODY:
                self._wait(self._timeouts.body_s)
            case h11.IDLE if not self.headers or self.conn.trailing_data[0]:
                self._wait(self._timeouts.head_s)
            case _:
                # The request is whole; or the next has not begun, and uvicorn waits for it.
                self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        """Wait so long for the same thing, whatever arrives of it; None for nothing."""
        if seconds == self._awaited:
            return
        if self._reading is not None:
            self._reading.cancel()
        self._awaited = seconds
        self._reading = None if seconds is None else self.loop.call_later(seconds, self.transport.close)

    def pause_writing(self) -> None:
        """Begin to look whether the reader reads: more waits for it than is written ahead."""
        super().pause_writing()
        self._look(None)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        if self._writing is not None and not self.transport.is_closing():
            self._writing.cancel()
            self._writing = None

    def _look(self, before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and left and left > before - self._timeouts.least_bytes:
            # Not closed: that would wait for the reader to take the rest.
            self.transport.abort()
            return
        if self._writing is not None:
            self._writing.cancel()
        self._writing = self.loop.call_later(self._timeouts.unread_s, self._look, left)
