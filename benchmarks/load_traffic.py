"""Requests on a schedule, and readers of event streams.

The client is lightweight, because it shares two cores with the service that it measures. The load is open:
each request is due at a fixed time, whether or not earlier ones have been answered, and its latency counts
from that time. A stall of the service therefore adds to the latency of every request that falls due during
it.
"""

__all__ = ["Answer", "Chooser", "Reader", "Request", "Traffic", "load"]

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

_LIMIT = 1 << 24
_GIVE_UP_S = 30.0
# The service closes connections that were idle for five seconds, which could hit a request in transit.
_FRESH_S = 3.0


@dataclass(frozen=True)
class Request:
    """A request to send.

    Attributes:
        kind: name under which it is counted.
        path: path and query.
        token: the caller's token; empty for a service that needs none.
        method, headers, body: the other parts of the request.
        then: called with the response's status, headers (names in lower case) and body.
    """

    kind: str
    path: str
    token: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    then: Callable[[int, Mapping[str, str], bytes], None] | None = None


@dataclass(frozen=True)
class Answer:
    """The result of a request.

    Attributes:
        kind: the request's kind.
        status: status of the response; 0 if there was none.
        due_s: due time, in seconds from the start.
        lag_s: delay between the due time and sending, caused by the generator itself.
        latency_s: seconds from the due time to the last byte of the response.
        size: bytes of the response's body.
        path: the request's path and query.
    """

    kind: str
    status: int
    due_s: float
    lag_s: float
    latency_s: float
    size: int
    path: str


class _Connection:
    """One connection, kept alive between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.used_at = time.perf_counter()

    async def ask(self, head: bytes) -> tuple[int, dict[str, str], bytes]:
        self._writer.write(head)
        status, headers = await read_head(self._reader)
        if "content-length" in headers:
            return status, headers, await self._reader.readexactly(int(headers["content-length"]))
        body = bytearray()
        while headers.get("transfer-encoding") == "chunked":
            size = int(await self._reader.readline(), 16)
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            if size == 0:
                break
        return status, headers, bytes(body)

    def close(self) -> None:
        self._writer.close()


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return a response's status and headers, with header names in lower case."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    return int(first.split(" ", 2)[1]), headers


def head_of(request: Request, host: str) -> bytes:
    """Return a request as bytes to send."""
    lines = [
        f"{request.method} {request.path} HTTP/1.1",
        f"Host: {host}",
        *([f"Authorization: Bearer {request.token}"] if request.token else []),
    ]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method == "POST":
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


class Traffic:
    """A generator that sends requests on a schedule to several ports in turn."""

    def __init__(self, ports: list[int], choose: Callable[[], Request], *, rate: float, seed: int) -> None:
        """Create a generator, without sending anything yet.

        Args:
            ports: ports of the services on this machine.
            choose: returns the next request.
            rate: average requests per second; the gaps are those of independent callers (a Poisson process).
            seed: seed of the gaps.
        """
        self._choose = choose
        self._ports = ports
        self._rate = rate
        self._rng = random.Random(seed)  # not for secrets
        self._idle: dict[int, list[_Connection]] = {port: [] for port in ports}
        self.answers: list[Answer] = []
        self.faults: list[str] = []

    async def run(self, seconds: float) -> None:
        """Send requests for the duration, then wait for the outstanding responses."""
        began = time.perf_counter()
        due, n = 0.0, 0
        asked: set[asyncio.Task[None]] = set()
        while True:
            due += self._rng.expovariate(self._rate)
            if due >= seconds:
                break
            wait_s = began + due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(
                self._ask(self._choose(), self._ports[n % len(self._ports)], began=began, due=due)
            )
            asked.add(task)
            task.add_done_callback(asked.discard)
            n += 1
        if asked:
            await asyncio.wait(asked, timeout=_GIVE_UP_S)
        for connections in self._idle.values():
            for connection in connections:
                connection.close()

    def _free(self, port: int) -> _Connection | None:
        """Return an idle connection, or None if none is recent enough to be still open."""
        while self._idle[port]:
            connection = self._idle[port].pop()
            if time.perf_counter() - connection.used_at < _FRESH_S:
                return connection
            connection.close()
        return None

    async def _ask(self, request: Request, port: int, *, began: float, due: float) -> None:
        lag_s = time.perf_counter() - began - due
        status, size, connection = 0, 0, None
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                connection = self._free(port) or await _connected(port)
                status, headers, body = await connection.ask(head_of(request, f"127.0.0.1:{port}"))
            size = len(body)
            if headers.get("connection") == "close":
                connection.close()
            else:
                connection.used_at = time.perf_counter()
                self._idle[port].append(connection)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            if connection is not None:
                connection.close()
            self.faults.append(f"{request.method} {request.path}: {type(error).__name__} {error}")
        else:
            if status >= 400:
                self.faults.append(
                    f"{request.method} {request.path}: {status} {body[:200].decode('utf-8', 'replace')}"
                )
            if request.then is not None:
                request.then(status, headers, body)
        latency_s = time.perf_counter() - began - due
        self.answers.append(Answer(request.kind, status, due, lag_s, latency_s, size, request.path))


async def _connected(port: int) -> _Connection:
    return _Connection(*await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT))


@dataclass
class Reader:
    """One reader of a study's events.

    Attributes:
        port, study_id, token: service, study and caller.
        after: number of the last event received.
        events: number of events received.
        gaps: how often an event's number did not follow the previous one.
        opened_after_s: seconds from the last connection's request to the stream's first byte.
        fault: description of the last failure, or None.
    """

    port: int
    study_id: str
    token: str
    after: int
    events: int = 0
    gaps: int = 0
    opened_after_s: float = 0.0
    fault: str | None = None

    async def read(self) -> None:
        """Read events until cancelled."""
        began = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_LIMIT)
        except OSError as error:
            self.fault = str(error)
            return
        try:
            asked = Request(
                "stream",
                f"/v1/studies/{self.study_id}/events?after={self.after}",
                self.token,
                headers={"Accept": "text/event-stream"},
            )
            writer.write(head_of(asked, f"127.0.0.1:{self.port}"))
            status, _ = await read_head(reader)
            self.opened_after_s = time.perf_counter() - began
            if status != 200:
                self.fault = f"status {status}"
                return
            async for line in reader:
                if line.startswith(b"id:"):
                    number = int(line[3:])
                    self.gaps += number != self.after + 1
                    self.after, self.events = number, self.events + 1
            self.fault = "the stream ended"
        except (OSError, asyncio.IncompleteReadError) as error:
            self.fault = f"{type(error).__name__} {error}"
        finally:
            writer.close()


class Chooser(Protocol):
    """What is requested."""

    def choose(self) -> Request:
        """Return the next request."""
        ...

    def begin(self) -> None:
        """Mark the start of the measurement."""
        ...


async def load(
    ports: list[int],
    mix: Chooser,
    readers: Sequence[Reader],
    *,
    rate: float,
    seconds: float,
    warm_s: float,
) -> tuple[Traffic, tuple[float, float]]:
    """Warm up at a quarter of the rate, then send requests for the given time.

    Return the results, the seconds until the last response, and the generator's own processor seconds.
    """
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    warm = Traffic(ports, mix.choose, rate=rate / 4, seed=1)
    await warm.run(warm_s)
    traffic = Traffic(ports, mix.choose, rate=rate, seed=2)
    mix.begin()
    own = time.perf_counter(), time.process_time()
    await traffic.run(seconds)
    took = time.perf_counter() - own[0], time.process_time() - own[1]
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    return traffic, took
