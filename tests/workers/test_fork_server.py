"""A fork server without Ray: what it forks for clients, and for which."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from dispatcher_process import until

from workers import fork_client

__all__: list[str] = []

WORKER = """
import os
from ray import ActorID, ObjectID, PlacementGroupID

print("forked", os.getpid(), *(kind.from_random().hex() for kind in (ActorID, ObjectID, PlacementGroupID)))
"""


class Forking:
    """A running fork server, whose workers print their process id and random ids of Ray.

    Attributes:
        process: the fork server.
        pids: the read end of its pipe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.joinpath("worker.py").write_text(WORKER)
        folder.joinpath("setup_worker.py").write_text("print('ordinary')")
        self.pids, writing = os.pipe()
        self.process = psutil.Popen(
            [sys.executable, "-m", "workers.fork_server", str(folder), str(writing)], pass_fds=[writing]
        )
        os.close(writing)
        while not self.folder.joinpath(fork_client.SOCKET).exists():
            assert self.process.poll() is None
            time.sleep(0.05)

    def client(self, **variables: str) -> subprocess.Popen[str]:
        """Start a client, as Ray would."""
        return subprocess.Popen(
            [
                *(sys.executable, fork_client.__file__, str(self.folder / "worker.py")),
                *("--language=PYTHON", f"--temp-dir={self.folder}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )

    def connected(self, streams: Sequence[int]) -> socket.socket:
        """Return a connection over which an order can be sent."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.fspath(self.folder / fork_client.SOCKET))
        socket.send_fds(client, [b"\n"], streams)
        return client

    def worker(self, **variables: str) -> list[str]:
        """Return the words that the worker of a client prints."""
        return self.client(**variables).communicate(timeout=60)[0].split()


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    running = Forking(tmp_path_factory.mktemp("node"))
    try:
        # Its imports may take longer than clients wait.
        assert any(running.worker()[0] == "forked" for _ in range(4))
        os.read(running.pids, 2**16)
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        os.close(running.pids)


def test_workers_draw_different_ids_and_the_guardian_knows_them(forking: Forking) -> None:
    workers = [forking.worker() for _ in range(2)]
    assert [words[0] for words in workers] == ["forked"] * 2
    assert len({word for words in workers for word in words[2:]}) == 6
    assert {words[1] for words in workers} <= set(os.read(forking.pids, 2**16).decode().split())


def test_no_worker_starts_for_a_client_that_no_longer_waits(forking: Forking) -> None:
    forking.process.send_signal(signal.SIGSTOP)
    order = {
        "command": [str(forking.folder / "worker.py")],
        "environment": dict(os.environ),
        "folder": str(forking.folder),
        "leads_group": False,
        "blocked": [],
        "limits": [],
    }
    reading, writing = os.pipe()
    with forking.connected([0, writing, 2]) as client:
        client.sendall(json.dumps(order).encode() + b"\n")
    os.close(writing)
    forking.process.send_signal(signal.SIGCONT)
    with os.fdopen(reading) as output:
        assert output.read() == ""
    # It was forked, and ended.
    assert os.read(forking.pids, 32)
    assert forking.worker()[0] == "forked"


@pytest.mark.parametrize("name", ["LD_PRELOAD", "RAY_worker_register_timeout_seconds"])
def test_a_client_with_other_variables_becomes_the_worker(forking: Forking, name: str) -> None:
    assert forking.worker(**{name: "90"}) == ["ordinary"]
    assert forking.worker()[0] == "forked"


def test_orders_that_fail_neither_end_the_server_nor_leave_files_open(forking: Forking) -> None:
    before = forking.process.num_fds()
    for order in ("{}\n", "[]\n", "{", json.dumps({"environment": dict(os.environ, RAY_other="1")}) + "\n"):
        with forking.connected([0, 1, 2]) as client:
            client.sendall(order.encode())
            client.shutdown(socket.SHUT_WR)
            assert not client.recv(64).isdigit()
    assert forking.worker()[0] == "forked"
    until(lambda: forking.process.num_fds() <= before, what="the end of its connections")


def test_a_client_without_a_server_becomes_the_worker_quietly(forking: Forking) -> None:
    path = forking.folder / fork_client.SOCKET
    path.rename(path.with_name("away"))
    try:
        assert forking.client().communicate(timeout=60) == ("ordinary\n", "")
    finally:
        path.with_name("away").rename(path)
