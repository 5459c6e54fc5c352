"""A node of a Ray that several machines share.

`ray start`, watched, and ended with the process that started it.

`python -m workers.node HOST:PORT` is what `tangent worker join` runs: it lends this machine's cores and GPUs
to the Ray whose head is there. Ray itself is not imported here.
"""

__all__ = [
    "NODE_ENVIRONMENT",
    "OBJECT_STORE_BYTES",
    "WORKER_ENVIRONMENT",
    "Node",
    "NodeFailed",
    "check_token_mode",
    "join",
    "main",
    "start_head",
]

import argparse
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from studies.errors import TangentError
from studies.logs import write_logs
from studies.secret_files import secret_in
from workers.parent_watchdog import LEAVE_SIGNAL
from workers.settings import DispatcherSettings, fault

_log = logging.getLogger("tangent.node")
OBJECT_STORE_BYTES = 128 * 2**20
"""Of shared memory that a node takes for Ray's objects; packs and what they report are small."""

# Without the allocator settings every step gives its pages back to the system and takes them anew.
WORKER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
"""What Ray's workers inherit, where the environment does not say otherwise."""

# For an epoch's end and a checkpoint. The node itself then takes a second or so.
_LEAVE_WITHIN_S = 6.0

NODE_ENVIRONMENT = {
    **WORKER_ENVIRONMENT,
    "RAY_AUTH_MODE": "token",
    # A machine that is cut off counts as dead after 9 s; with Ray's own values it was 63 s.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    # A head that has ended has lost its cluster: its nodes join its successor the sooner they notice.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    # A node that is told to end takes no more packs for so long, while those that train there leave their
    # states: see `Node.stop`.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": f"{_LEAVE_WITHIN_S:g}",
}
"""What a node of several runs with, where the environment does not say otherwise.

docker-compose.yml says the same.
"""

_STARTED = "Ray runtime started"
_ERROR = re.compile(r"[\w.]+(Error|Exception): ")
_ADVICE = re.compile(r"(INFO|SUCC) (scripts|cli_output_helpers)\.py:")
_ANSWER_WITHIN_S = 5.0
_READY_WITHIN_S = 90.0
_END_WITHIN_S = 8.0
# What Ray calls the processes of Tune's trials.
_TRAINABLE = "ray::ResourceTrainable"
_LOOKS_IN_VAIN = 3
_LOOK_EVERY_S = 0.5
# Reserved for documentation (RFC 5737): nothing is sent to it, but the route there shows which address leads
# out.
_ANYWHERE = ("192.0.2.1", 9)


class NodeFailed(TangentError):
    """No node could be started on this machine; the message says why."""


class Node:
    """A running `ray start --block` in a session of its own.

    Args:
        command: the program and its arguments.
        address: `HOST:PORT` of the head of its Ray.
    """

    def __init__(self, command: Sequence[str], *, address: str) -> None:
        self.address = address
        self.last_line = "it said nothing"
        self._is_started = threading.Event()
        self._is_stopping = threading.Event()
        self._has_had_raylet = False
        # What trials run has no business with this service's secrets, nor with where they lie.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**NODE_ENVIRONMENT, **inherited, "TANGENT_PARENT_PID": str(os.getpid())},
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name="ray-node", daemon=True)
        self._listener.start()

    @property
    def has_ended(self) -> bool:
        """Whether the node is gone: `ray start`, or the raylet whose end it does not always notice."""
        if self._process.poll() is not None:
            return True
        has_raylet = "raylet" in _children(self._process.pid)
        self._has_had_raylet |= has_raylet
        return self._has_had_raylet and not has_raylet

    def wait_until_ready(self) -> None:
        """Return once the node has joined its Ray.

        Raises:
            NodeFailed: it ended, or took too long; nothing of it is left.
        """
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._is_started.wait(_LOOK_EVERY_S):
            if self._process.poll() is not None:
                # What it said last may still be on its way.
                self._listener.join(_LOOK_EVERY_S)
                raise NodeFailed(f"Ray did not start: {self.last_line}")
            if time.monotonic() > deadline:
                self.stop()
                raise NodeFailed(f"Ray did not start within {_READY_WITHIN_S:g} s: {self.last_line}")

    def follow(self, on_end: Callable[[], None]) -> None:
        """Call `on_end`, from a thread of its own, if the node ends before it is told to."""

        def watch() -> None:
            while not self._is_stopping.wait(_LOOK_EVERY_S):
                if self.has_ended:
                    on_end()
                    return

        threading.Thread(target=watch, name="ray-node-watch", daemon=True).start()

    def stop(self) -> None:
        """Ask the node to end, and let what trains on it leave its state meanwhile.

        What is left of it is ended by force.
        """
        self._is_stopping.set()
        # First: else what has left would be handed out to this very node again. Ray gives those who train as
        # long as `_let_leave` does.
        self._process.terminate()
        self._let_leave()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_WITHIN_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(_LOOK_EVERY_S)

    def _let_leave(self) -> None:
        """Return when all that train here have left their packs' states and ended.

        Or when they have had the time to.
        """
        deadline = time.monotonic() + _LEAVE_WITHIN_S
        asked: set[int] = set()
        # A process that is changing its title has none for a moment: one look that finds nobody proves
        # nothing.
        looks_in_vain = 0
        while time.monotonic() < deadline and looks_in_vain < _LOOKS_IN_VAIN:
            trainables = {
                pid
                for pid in _descendants(self._process.pid)
                if _TRAINABLE in _command_line(pid) and _hears(pid, LEAVE_SIGNAL)
            }
            for pid in trainables - asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, LEAVE_SIGNAL)
            asked |= trainables
            looks_in_vain = 0 if trainables else looks_in_vain + 1
            time.sleep(_LOOK_EVERY_S / 4)

    def _listen(self) -> None:
        assert self._process.stdout is not None, "it is started with a pipe"
        has_erred = False
        with self._process.stdout as said:
            for line in said:
                # How to go on by hand is no advice for those who read this: `ray stop` ends other people's
                # Rays too.
                is_advice = not line.strip() or (_ADVICE.search(line) is not None and _STARTED not in line)
                _log.log(logging.DEBUG if is_advice else logging.INFO, "%s", line.rstrip())
                # Why it does not start stands in the first error; what follows is advice, or errors that came
                # of it.
                if not is_advice and (not has_erred or self._is_started.is_set()):
                    self.last_line = line.strip()
                has_erred = has_erred or _ERROR.match(line) is not None
                if _STARTED in line:
                    self._is_started.set()


def check_token_mode() -> None:
    """Return when this process, and so the Ray it is to start or join, asks for a token.

    Raises:
        NodeFailed: it does not. Ray reads it when it is imported, so that it cannot be set any more.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise NodeFailed(
            "whoever reaches a Ray without a token runs programs on it; set RAY_AUTH_MODE=token, "
            "and RAY_AUTH_TOKEN_PATH to its file"
        )


def start_head(*, port: int, node_address: str, cpus: int) -> Node:
    """Return a new head, ready to be joined; it ends with this process.

    Args:
        port: where other nodes reach it.
        node_address: this machine's address or name, as others reach it; empty for where its routes lead out.
        cpus: cores that it lends to trials itself.

    Raises:
        NodeFailed: the head cannot be started.
    """
    _check_token()
    host = _own_address(node_address, towards=_ANYWHERE)
    if host.startswith("127."):
        raise NodeFailed(
            f"no other machine reaches a Ray head at {host}; set TANGENT_NODE_ADDRESS to this machine's "
            "address on the network of its workers"
        )
    options = ["--head", f"--port={port}", "--include-dashboard=false", *_options(host, cpus=cpus, gpus=0)]
    return _ready(Node(_command(options), address=f"{host}:{port}"))


def join(address: str, *, node_address: str, cpus: int | None, gpus: int | None) -> Node:
    """Return a new node of the Ray whose head is at `HOST:PORT`; it ends with this process.

    Args:
        address: the head's.
        node_address: this machine's address or name, as others reach it; empty for where the route to the
            head begins.
        cpus: cores that it lends to trials; None for all.
        gpus: GPUs that it lends to trials; None for all.

    Raises:
        NodeFailed: no head answers there, it does not let this machine in, or the node cannot be started.
    """
    name, colon, port = address.rpartition(":")
    if not (name and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise NodeFailed(f"expected HOST:PORT of a Ray head, such as 10.0.0.1:6379, got {address!r}")
    _check_token()
    try:
        with socket.create_connection((name, int(port)), timeout=_ANSWER_WITHIN_S) as knock:
            # Ray wants an address where a name may have several; this one answered.
            head = str(knock.getpeername()[0])
    except OSError as error:
        raise NodeFailed(
            f"no Ray answers at {address}: {error.strerror or error}; start its head with "
            "`python -m workers --ray head`, or name another"
        ) from error
    host = _own_address(node_address, towards=(head, int(port)))
    options = [f"--address={head}:{port}", *_options(host, cpus=cpus, gpus=gpus)]
    return _ready(Node(_command(options), address=f"{head}:{port}"))


def main() -> int:
    """Lend this machine until SIGTERM or SIGINT, and return 0.

    Return 1, with a line on stderr, when the node cannot be started or has ended.
    """
    parser = argparse.ArgumentParser(
        prog="python -m workers.node", description="Lend this machine's cores and GPUs to a Ray."
    )
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument("--cpus", type=int, help="CPU cores to lend (default: all)")
    parser.add_argument("--gpus", type=int, help="GPUs to lend (default: all)")
    parser.add_argument(
        "--node-address", default="", help="address or name of this machine by which the others reach it"
    )
    given = parser.parse_args()
    try:
        write_logs(DispatcherSettings().log_format, process="worker", node=socket.gethostname())
    except ValidationError as error:
        sys.stderr.write(f"error: {fault(error)}\n")
        return 1
    is_ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: is_ending.set())
    try:
        node = join(given.address, node_address=given.node_address, cpus=given.cpus, gpus=given.gpus)
    except NodeFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    node.follow(is_ending.set)
    is_ending.wait()
    has_ended = node.has_ended
    node.stop()
    if has_ended:
        sys.stderr.write(
            f"error: this machine's node of the Ray at {given.address} has ended: {node.last_line}\n"
        )
    return 1 if has_ended else 0


def _ready(node: Node) -> Node:
    node.wait_until_ready()
    return node


def _command(options: Sequence[str]) -> list[str]:
    # Without the folder of the moment on the path: it may hold somebody's own `workers`.
    return [sys.executable, "-u", "-P", "-m", "workers.ray_start", *options, "--block"]


def _options(host: str, *, cpus: int | None, gpus: int | None) -> list[str]:
    lent = [
        f"--num-{kind}={number}" for kind, number in (("cpus", cpus), ("gpus", gpus)) if number is not None
    ]
    return [
        f"--node-ip-address={host}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        *lent,
    ]


def _check_token() -> None:
    """Return when Ray will find a token, or is told to use none.

    Raises:
        NodeFailed: it would not.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        secret_in(Path(named) if named else Path.home() / ".ray" / "auth_token")
    except ValueError as error:
        raise NodeFailed(
            f"{error}; set RAY_AUTH_TOKEN_PATH to the file with the token of this "
            "Ray, the same on all its machines"
        ) from None


def _own_address(named: str, *, towards: tuple[str, int]) -> str:
    """Return the IPv4 address of this machine.

    Of its name, where there is one, else the one that its route leads out from.
    """
    try:
        if named:
            return socket.gethostbyname(named)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: a datagram's socket only looks its route up.
            probe.connect(towards)
            return str(probe.getsockname()[0])
    except OSError as error:
        if named:
            raise NodeFailed(
                f"{named!r} is no address of this machine: {error.strerror}; set "
                "TANGENT_NODE_ADDRESS to one that is"
            ) from error
        return "127.0.0.1"


def _descendants(pid: int) -> set[int]:
    """Return the processes below a process, as far as they can be seen."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        # Each thread has the children that it started itself.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found |= {child, *_descendants(child)}
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _hears(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal, which would end it else."""
    try:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def _children(pid: int) -> set[str]:
    """Return the names of a process's children that have not ended."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                name, _, rest = Path(f"/proc/{child}/stat").read_text().partition(") ")
                if not rest.startswith("Z"):
                    names.add(name.partition("(")[2])
    return names


if __name__ == "__main__":
    sys.exit(main())
