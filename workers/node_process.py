"""The process of one Ray node: its environment, its readiness and its end.

It does not import Ray.
"""

__all__ = [
    "LOCAL_ENVIRONMENT",
    "NODE_ENVIRONMENT",
    "OBJECT_STORE_BYTES",
    "STARTED",
    "WORKER_ENVIRONMENT",
    "NodeFailed",
    "NodeProcess",
]

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from studies.child_environment import trial_environment
from studies.errors import TangentError
from studies.logs import without_colours
from studies.process_tree import end_adopted
from workers.guardian import FORK_SERVER
from workers.parent_watchdog import LEAVE_SIGNAL
from workers.ray_rejection import describe_rejection

_log = logging.getLogger("tangent.node")
OBJECT_STORE_BYTES = 128 * 2**20
"""Shared memory that a node reserves for Ray's objects. Packs and their reports are small."""

# Without the allocator settings, every step returns its pages to the system and requests them again.
WORKER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own logs: the largest size of a file, and how many older files of each are kept.
    "RAY_ROTATION_MAX_BYTES": "16777216",
    "RAY_ROTATION_BACKUP_COUNT": "2",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
"""Variables that Ray's workers inherit, unless the environment already sets them."""

# Time for an epoch to end and its checkpoint to be saved. The node itself then takes about a second.
_CHECKPOINT_WITHIN_S = 6.0

NODE_ENVIRONMENT = {
    **WORKER_ENVIRONMENT,
    "RAY_AUTH_MODE": "token",
    # An unreachable machine counts as dead after 9 s; with Ray's own values it was 63 s.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    # When a head ends, its cluster is lost. The sooner its nodes notice, the sooner they join its successor.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    # A stopping node accepts no more packs during this time, while the packs on it save checkpoints: see
    # `NodeProcess.stop`.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": f"{_CHECKPOINT_WITHIN_S:g}",
}
"""Variables that a node of a cluster runs with, unless the environment already sets them.

docker-compose.yml repeats them.
"""

LOCAL_ENVIRONMENT = {**WORKER_ENVIRONMENT, "RAY_AUTH_MODE": "token"}
"""Variables that a Ray for this machine alone runs with, unless the environment already sets them."""

STARTED = "Ray runtime started"
"""What a node prints once it is ready; a local Ray adds ` at HOST:PORT`."""

_STARTED_AT = re.compile(rf"{STARTED} at (\S+)")
_ERROR = re.compile(r"[\w.]+(Error|Exception): ")
# Ray's advice for people, and the end of its raylet's log, which it prints when the raylet has ended.
_ADVICE = re.compile(r"(INFO|SUCC) (scripts|cli_output_helpers)\.py:|^ *\[[-\d]+ [\d:,]+ [IW] \d+ \d+\] \(")
_READY_WITHIN_S = 90.0
_STOP_WITHIN_S = 8.0
# Without any of these a node is of no use. The raylet ends with its agents.
_VITAL = frozenset({"raylet", "gcs_server"})
# The path of a socket has at most 107 bytes (unix(7)). This is how Ray names its own in the temporary folder.
_LONGEST_TEMPORARY_FOLDER = 107 - len(
    "/ray-xxxxxxxx/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)
_SHORT_TEMPORARY_FOLDER = "/tmp"  # noqa: S108 # Ray itself uses it unless TMPDIR is set
# Ray's title for the processes of Tune's trials.
_TRAINABLE = "ray::ResourceTrainable"
_EMPTY_POLLS = 3
_POLL_S = 0.5


class NodeFailed(TangentError):
    """A Ray node could not be started on this machine; the message says why."""


class NodeProcess:
    """A running `ray start --block` or `workers.local_node` below a guardian, in a session of its own.

    Args:
        command: the program and its arguments.
        address: `HOST:PORT` of the head of its cluster; by default, the one that the node prints.
        environment: variables that it runs with, unless this process's environment already sets them.
        has_workers: whether workers may start on it, which are then forked.

    Raises:
        NodeFailed: Ray's temporary folder is too long for the paths of sockets.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        address: str = "",
        environment: Mapping[str, str] = NODE_ENVIRONMENT,
        has_workers: bool = False,
    ) -> None:
        self.address = address
        self.last_line = "it printed nothing"
        self._rejected: str | None = None
        self._is_started = threading.Event()
        self._is_stopping = threading.Event()
        self._vital: list[psutil.Process] = []
        self._process = subprocess.Popen(
            # -P keeps the working directory off the path: it may contain another package named `workers`.
            [
                *(sys.executable, "-u", "-P", "-m", "workers.guardian"),
                *([FORK_SERVER] if has_workers else []),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Trials inherit it.
            env={
                **environment,
                **trial_environment(os.environ),
                **_short_temporary_folder(),
                "TANGENT_PARENT_PID": str(os.getpid()),
            },
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, name="ray-node", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process below which the node and its workers run."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended, or its raylet or GCS, whose end that process may not notice."""
        if self._process.poll() is not None:
            return True
        if not self._vital:
            self._vital = _vital_below(self._process.pid)
        return not all(map(_is_alive, self._vital))

    def wait_until_ready(self) -> None:
        """Wait until the node has joined its cluster.

        Raises:
            NodeFailed: it ended, or took too long; its processes are gone.
        """
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._is_started.wait(_POLL_S):
            if self._process.poll() is not None:
                # Its last lines may still be in the pipe.
                self._reader.join(_POLL_S)
                raise NodeFailed(f"Ray did not start: {self._rejected or self.last_line}")
            if time.monotonic() > deadline:
                self.stop()
                raise NodeFailed(f"Ray did not start within {_READY_WITHIN_S:g} s: {self.last_line}")

    def call_when_ended(self, on_end: Callable[[], None]) -> None:
        """Call `on_end`, from another thread, if the node ends before `stop`."""

        def watch() -> None:
            while not self._is_stopping.wait(_POLL_S):
                if self.has_ended:
                    on_end()
                    return

        threading.Thread(target=watch, name="ray-node-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop the node after its packs have saved checkpoints; kill whatever is left of it."""
        self._is_stopping.set()
        # The node ends first: otherwise Ray would dispatch the interrupted packs to this very node again. Ray
        # gives running packs as long as `_wait_for_checkpoints` does.
        self._process.terminate()
        self._wait_for_checkpoints()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_WITHIN_S)
        self.kill()

    def kill(self) -> None:
        """Kill whatever is left of the node."""
        self._is_stopping.set()
        # First what is below it: its guardian keeps hold of that until it ends itself.
        for process in _children(self._process.pid, recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        end_adopted()
        self._reader.join(_POLL_S)

    def _wait_for_checkpoints(self) -> None:
        """Ask every training process of the node to save its checkpoints and end; wait, but not for long."""
        deadline = time.monotonic() + _CHECKPOINT_WITHIN_S
        asked: set[int] = set()
        # A process that is changing its title has none for a moment, so one empty poll proves nothing.
        empty_polls = 0
        while time.monotonic() < deadline and empty_polls < _EMPTY_POLLS:
            trainables = _trainables_below(self._process.pid)
            for pid in trainables - asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, LEAVE_SIGNAL)
            asked |= trainables
            empty_polls = 0 if trainables else empty_polls + 1
            time.sleep(_POLL_S / 4)

    def _read_output(self) -> None:
        assert self._process.stdout is not None, "it is started with a pipe"
        has_erred = False
        with self._process.stdout as output:
            for line in output:
                # Ray's advice is for people who start nodes by hand. Here it would do harm: `ray stop` also
                # ends other users' clusters on the machine.
                is_advice = not line.strip() or (_ADVICE.search(line) is not None and STARTED not in line)
                _log.log(logging.DEBUG if is_advice else logging.INFO, "%s", without_colours(line.rstrip()))
                # The first error is the cause; later lines are advice, or errors that follow from it.
                if not is_advice and (not has_erred or self._is_started.is_set()):
                    self.last_line = line.strip()
                self._rejected = self._rejected or describe_rejection(line)
                has_erred = has_erred or _ERROR.match(line) is not None
                if at := _STARTED_AT.search(line):
                    self.address = at[1]
                if STARTED in line:
                    self._is_started.set()


def _short_temporary_folder() -> dict[str, str]:
    """Return the variable that keeps the paths of Ray's sockets short enough; none if they are anyway.

    Raises:
        NodeFailed: there is no shorter folder, or the user has chosen a long one for Ray.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    length = 0 if name is None else len(os.fsencode(os.environ[name]))
    if length <= _LONGEST_TEMPORARY_FOLDER:
        return {}
    if name == "RAY_TMPDIR" or not os.access(_SHORT_TEMPORARY_FOLDER, os.W_OK | os.X_OK):
        raise NodeFailed(
            "Ray's sockets need a temporary folder with a path of at most "
            f"{_LONGEST_TEMPORARY_FOLDER} bytes, but {name} has {length}; set RAY_TMPDIR to a folder with a "
            "shorter path"
        )
    _log.warning(
        "the path in TMPDIR is too long for Ray's sockets, so Ray's files are in %s", _SHORT_TEMPORARY_FOLDER
    )
    return {"RAY_TMPDIR": _SHORT_TEMPORARY_FOLDER}


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.Error:
        return []


def _vital_below(pid: int) -> list[psutil.Process]:
    """Return the processes below `pid` that its node cannot do without; none until its raylet has started."""
    found: dict[str, psutil.Process] = {}
    for child in _children(pid, recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.name() in _VITAL and _is_alive(child):
                found[child.name()] = child
    # The GCS starts first, and only in a head.
    return list(found.values()) if "raylet" in found else []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _trainables_below(pid: int) -> set[int]:
    """Return the processes below `pid` that train packs and can be asked to leave."""
    found: set[int] = set()
    for process in _children(pid, recursive=True):
        with contextlib.suppress(psutil.Error):
            if _TRAINABLE in " ".join(process.cmdline()) and _handles_signal(process.pid, LEAVE_SIGNAL):
                found.add(process.pid)
    return found


def _handles_signal(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal, which would otherwise kill it."""
    try:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
