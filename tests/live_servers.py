"""Real servers on local ports: an app in a thread, and `serve` in a process."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI

from service.client import Client, ServiceUnreachable
from service.connection_timeouts import Timeouts
from service.serve import Server

__all__ = ["process", "serving", "wait_until_it_answers"]

_ROOT = Path(__file__).parents[1]
_CODE = (
    "import sys; from service.serve import serve; from service.settings import ServiceSettings; "
    "sys.exit(serve(ServiceSettings.load()))"
)


@contextmanager
def serving(app: FastAPI, port: int = 0, *, timeouts: Timeouts | None = None) -> Generator[str]:
    """Run an app behind a real server in a thread, and yield its URL."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = Server(app, timeouts=timeouts)
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


@contextmanager
def process(home: Path, **environment: str) -> Generator[subprocess.Popen[str]]:
    """Run `serve` in a separate process, and end it afterwards."""
    given = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_ROOT), "TANGENT_HOME": str(home), **environment}
    started = subprocess.Popen(
        [sys.executable, "-c", _CODE],
        cwd=home,
        env=given,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def wait_until_it_answers(port: int) -> None:
    """Wait until a service answers on a local port."""
    deadline = time.monotonic() + 30
    with Client(f"http://127.0.0.1:{port}") as client:
        while True:
            try:
                client.health()
            except ServiceUnreachable:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return
