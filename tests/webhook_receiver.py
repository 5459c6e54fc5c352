"""A webhook receiver: a real HTTP server on loopback that records requests and answers as configured."""

__all__ = ["Received", "Receiver", "receiver"]

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook


@dataclass(frozen=True)
class Received:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """Verify the signature with the specification's own library and return the parsed body."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """The received requests, and the response: `status` with `headers` after `delay_s`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.delay_s = 0.0
        self.body = b""
        self.was_cut_off = threading.Event()
        self.url = ""

    def wait_for(self, count: int, *, within_s: float = 10.0) -> list[Received]:
        """Wait for at least `count` requests and return all of them."""
        deadline = time.monotonic() + within_s
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.received) >= count, f"{len(self.received)} of {count} requests arrived"
        return self.received


@contextlib.contextmanager
def receiver(*, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Yield a receiver that listens on 127.0.0.1."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            made.received.append(
                Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            )
            time.sleep(made.delay_s)
            try:
                self.send_response(made.status)
                for name, value in made.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(made.body)))
                self.end_headers()
                self.wfile.write(made.body)
            except OSError:
                made.was_cut_off.set()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the library's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # With the default of five, the system would reject some of twenty senders.
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            # Some tests make senders disconnect.
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    made.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
