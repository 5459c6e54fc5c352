"""Timeouts for slow clients: for a request's headers, for its body, and for reading the response.

Uvicorn itself closes only connections that are idle between two requests. A client could keep hundreds of
connections open by sending a byte now and then.
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
    """How long a connection waits for its client.

    Attributes:
        head_s: from the start of a connection, or the first byte of a request, to the end of the headers.
        body_s: from there to the end of the body, which has 1 MiB at most.
        unread_s: the time in which a client must read at least `least_bytes` of a pending response.
        least_bytes: the bytes that a client must read in `unread_s`.
    """

    head_s: float = 15.0
    body_s: float = 60.0
    unread_s: float = 30.0
    least_bytes: int = 8192


class TimedConnection(H11Protocol):
    """An HTTP/1.1 connection with timeouts; uvicorn creates one for each client.

    Args:
        timeouts: how long it waits for the client.
        arguments: uvicorn's arguments.
    """

    def __init__(self, *, timeouts: Timeouts, **arguments: Any) -> None:
        super().__init__(**arguments)
        # `service.request_log` writes the access log, without the query, which may contain a token.
        self.access_log = False
        self._timeouts = timeouts
        self._read_timeout_s: float | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # The same signature as in uvicorn.
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start to wait for the first request."""
        super().connection_made(transport)
        # Linux itself ends a connection that acknowledges nothing, even after the last write.
        connection = transport.get_extra_info("socket")
        if (
            connection is not None
            and connection.family in {socket.AF_INET, socket.AF_INET6}
            and hasattr(socket, "TCP_USER_TIMEOUT")
        ):
            connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._timeouts.unread_s)
            )
        self._set_read_timeout(self._timeouts.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._set_read_timeout(None)
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle received data, and wait for the rest of the request."""
        super().handle_events()
        match self.conn.their_state:
            case h11.SEND_BODY:
                self._set_read_timeout(self._timeouts.body_s)
            case h11.IDLE if not self.headers or self.conn.trailing_data[0]:
                self._set_read_timeout(self._timeouts.head_s)
            case _:
                # The request is complete, or the next has not started and uvicorn waits for it.
                self._set_read_timeout(None)

    def _set_read_timeout(self, seconds: float | None) -> None:
        """Set the read timeout. Data that arrives meanwhile does not extend it; None removes it."""
        if seconds == self._read_timeout_s:
            return
        if self._read_timer is not None:
            self._read_timer.cancel()
        self._read_timeout_s = seconds
        self._read_timer = None if seconds is None else self.loop.call_later(seconds, self.transport.close)

    def pause_writing(self) -> None:
        """Start to check whether the client reads: the write buffer is full."""
        super().pause_writing()
        self._check_client(None)

    def resume_writing(self) -> None:
        """Stop the check: the client has read enough."""
        super().resume_writing()
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    def _check_client(self, before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and left and left > before - self._timeouts.least_bytes:
            # Not close(), which would wait for the client to read the rest.
            self.transport.abort()
            return
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._write_timer = self.loop.call_later(self._timeouts.unread_s, self._check_client, left)
