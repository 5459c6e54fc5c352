"""An app behind a real server: uvicorn on a port of this machine, in a thread of its own."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from fastapi import FastAPI

from service.connections import Patience
from service.serve import Server

__all__ = ["serving"]


@contextmanager
def serving(app: FastAPI, port: int = 0, *, patience: Patience | None = None) -> Generator[str]:
    """Yield the URL of an app behind a real server in a thread of its own."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = Server(app, patience=patience)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
