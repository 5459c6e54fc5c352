"""`python -m workers.fork_server FOLDER PIDS`: a process that has imported what workers need, and forks them.

Each Ray node has one. It listens on a socket in the node's folder, where `workers.fork_client`, which Ray
starts for each worker, asks for a process. A forked process runs Ray's own program for workers, as if it had
been started with that command line, but its imports are done: it is ready after some tens of milliseconds
instead of seconds, and shares the memory of what is imported.

A process may be forked only while it has one thread and no GPU in use. So this one imports and warms up, but
never connects to Ray. It imports no package that adds workloads or optimizers: each worker imports those as
they are when it starts. Before it answers a client, it writes the process id of the worker to PIDS, the
descriptor of a pipe that the node's guardian reads. The client may have stopped waiting by then and become
the worker itself. So the forked process starts only when the client tells it to.
"""

__all__ = ["UNFIT", "main"]

import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from studies.standard_error import write_line
from workers import random_ids
from workers.fork_client import SOCKET, START, peer_uid

UNFIT = 76
"""Exit code of a fork server that cannot fork workers on this machine. Another one could not either."""

_POLL_S = 0.5
_ORDERED_WITHIN_S = 5.0
# What the modules below import besides Ray, which is imported for the first worker.
_LIBRARIES = (
    *("fsspec", "numba", "numpy", "pandas", "psutil", "pyarrow.fs", "pydantic", "torch"),
    # The first gradient of a stack would import it.
    "torch._dynamo",
)
_MODULES = (
    *("ray._private.workers.default_worker", "ray.tune"),
    *("workers.memory_meters", "workers.optimizers", "workers.stacked.engine", "workers.trainable"),
    *("workers.training", "workers.trial_files", "workers.workloads", "workers.workloads.shared_data"),
)
# pyarrow otherwise starts a thread that releases memory.
_WHILE_IMPORTING = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
# Variables that the C library, Python and torch have read by now, and Ray when it is imported. A worker with
# other values must be started with them.
_READ_AT_START = (
    *("LD_", "MALLOC_", "PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_"),
    *("NUMBA_", "TORCH", "PYTORCH_", "TRITON_"),
)
_OF_RAY = "RAY_"
# Ray sets the first, as `python -u` does. A worker without a job learns its own with its first task.
_UNIMPORTANT = {"PYTHONUNBUFFERED", "RAY_JOB_ID"}
_NO_JOB = {"RAY_JOB_ID": "ffffffff"}


def main() -> int:
    """Fork workers until the guardian is gone, and return 0; in each worker, run Ray's program."""
    parent_pid, environment = os.getppid(), dict(os.environ)
    path = Path(sys.argv[1], SOCKET)
    with socket.socket(socket.AF_UNIX) as listening:
        _listen(listening, path)
        os.environ.update(_WHILE_IMPORTING)
        _import(_LIBRARIES)
        server = _ForkServer(environment, int(sys.argv[2]))
        # The system then forgets workers that have ended.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while os.getppid() == parent_pid:
            try:
                client = listening.accept()[0]
            except TimeoutError:
                continue
            with client:
                worker = server.answer(client)
            if worker is not None:
                break
            if server.problem is not None:
                path.unlink()
                write_line(f"workers are started without a fork server: {server.problem}")
                return UNFIT
        else:
            return 0
    return worker()


def _listen(listening: socket.socket, path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    listening.bind(os.fspath(path))
    os.umask(mask)
    # Workers that start before this process serves wait, which is quicker than importing beside it.
    listening.listen(socket.SOMAXCONN)
    listening.settimeout(_POLL_S)


class _ForkServer:
    """Answers clients.

    Args:
        environment: the variables with which this process was started.
        pids: the descriptor to which it writes the process ids of workers, a line for each.

    Attributes:
        problem: why this process cannot fork workers; None if it can.
    """

    def __init__(self, environment: Mapping[str, str], pids: int) -> None:
        self._environment = dict(environment)
        self._pids = pids
        # Imports set some, as they would in the worker.
        self._added: dict[str, str] = {}
        self._is_warm = False
        self.problem: str | None = None

    def answer(self, client: socket.socket) -> Callable[[], int] | None:
        """Fork a worker for a client; return what to run in the worker, and None in this process."""
        if peer_uid(client) != os.getuid():
            return None
        client.settimeout(_ORDERED_WITHIN_S)
        streams: list[int] = []
        pid: int | None = None
        # The client may have ended meanwhile.
        try:
            streams = socket.recv_fds(client, 1, 3)[1]
            with client.makefile("rb") as lines:
                order = json.loads(lines.readline())
            if not self._is_warm:
                self._warm_up(order["environment"])
            refusal = self.problem or self._differing(order["environment"])
            pid = None if refusal else os.fork()
            if pid == 0:
                return partial(self._become_worker, order, streams, client.detach())
            if pid is not None:
                os.write(self._pids, b"%d\n" % pid)
            client.sendall((refusal or str(pid)).encode())
        except (OSError, KeyError, TypeError, ValueError) as error:
            write_line(f"a worker was not forked: {error!r}")
        finally:
            if pid != 0:
                for stream in streams:
                    os.close(stream)
        return None

    def _become_worker(self, order: Mapping[str, Any], streams: Sequence[int], connection: int) -> int:
        os.close(self._pids)
        with socket.socket(fileno=connection) as client:
            client.settimeout(None)
            try:
                is_wanted = client.recv(1) == START
            except ConnectionResetError:
                is_wanted = False
        if is_wanted:
            _run_worker(order, self._added | order["environment"], streams)
        return 0

    def _warm_up(self, environment: Mapping[str, str]) -> None:
        """Import Ray with the variables of the first worker, such as its raylet's process id."""
        of_ray = {name: value for name, value in environment.items() if name.startswith(_OF_RAY)}
        self._environment |= of_ray
        os.environ.update(of_ray | _NO_JOB)
        with random_ids.drawing_none():
            _import(_MODULES)
        # The first gradient looks for GPUs, which must not be used before a fork.
        if not Path("/proc/driver/nvidia").exists():
            _take_gradient()
        gc.collect()
        # A collection in a worker would otherwise write to, and so copy, the memory that it shares.
        gc.freeze()
        known = {*self._environment, *_WHILE_IMPORTING}
        self._added = {name: value for name, value in os.environ.items() if name not in known}
        self._is_warm = True
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads > 1:
            self.problem = f"it has {threads} threads"
        elif "libcuda.so" in Path("/proc/self/maps").read_text():
            self.problem = "it has loaded the driver of the GPUs"
        elif random_ids.are_shared():
            self.problem = "the processes that it forks draw the same random ids from Ray"

    def _differing(self, environment: Mapping[str, str]) -> str | None:
        """Return which variable this process has read with another value than the worker must have."""
        names = {
            name for name in {*self._environment, *environment} if name.startswith((*_READ_AT_START, _OF_RAY))
        }
        for name in sorted(names - _UNIMPORTANT):
            if self._environment.get(name) != environment.get(name):
                return f"it has another {name}"
        return None


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def _take_gradient() -> None:
    import torch
    from torch.func import grad, vmap

    weights, inputs = torch.ones(2, 3, 3), torch.ones(4, 3)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return (inputs @ weight).relu().sum()

    vmap(grad(loss))(weights)
    torch.autograd.grad(weights.requires_grad_().sum(), weights)


def _run_worker(order: Mapping[str, Any], environment: Mapping[str, str], streams: Sequence[int]) -> None:
    """Run Ray's program for workers in this process, as its command line says."""
    import numpy as np
    from ray import _raylet

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, order["blocked"])
    if order["leads_group"]:
        # Ray ends the whole group with the worker.
        os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for kind, soft, hard in order["limits"]:
        resource.setrlimit(kind, (soft, hard))
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(environment)
    cast("Any", _raylet).Config.initialize("")
    # All workers would otherwise draw the same numbers where nothing is seeded.
    np.random.seed()  # noqa: NPY002
    importlib.invalidate_caches()
    sys.argv = list(order["command"])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())
