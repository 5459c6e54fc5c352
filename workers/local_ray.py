"""Ray for runs and dispatchers: join a cluster, start one on this machine, and count what fits on it.

A Ray that was started here ends with its process.
"""

__all__ = [
    "RayUnavailable",
    "accelerators",
    "check_ray",
    "insufficient_resources",
    "join_ray",
    "leave_ray",
    "lent_resources",
    "slots",
    "start_local_ray",
    "training_machines",
]

import logging
import os
import socket
import warnings
from typing import Any, cast

import ray
from ray.job_config import JobConfig

from studies.cluster_views import NodesView
from studies.errors import TangentError
from workers.node_process import OBJECT_STORE_BYTES, WORKER_ENVIRONMENT
from workers.ray_rejection import describe_rejection_in
from workers.ray_token import create_ray_token

_CONNECT_WITHIN_S = 5.0
# Ray gives each node with GPUs a resource of this name, followed by the GPU's name.
_ACCELERATOR = "accelerator_type:"
_CONNECTION_ERRORS = (OSError, OverflowError, RuntimeError, ValueError)
# Ray's functions have no complete types.
_ray = cast("Any", ray)


class RayUnavailable(TangentError):
    """Ray could not be started or reached; the message says why."""


class _InstalledCodeJob(JobConfig):
    """A job whose workers import only what they would import without it.

    Ray adds the driver's working directory to the import path of its workers, before Python's own modules.
    """

    def _serialize(self) -> str:
        self._py_driver_sys_path.clear()
        return super()._serialize()


def start_local_ray(*, cpus: int | None, folder: str | None = None) -> str:
    """Start a Ray that ends with this process, and return its address.

    Args:
        cpus: cores to lend to trials; None for all.
        folder: where Ray keeps its sockets and logs; by default in the folder for temporary files.

    Raises:
        RayUnavailable: it cannot be started.
    """
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        create_ray_token()
        return _connect(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )
    except _CONNECTION_ERRORS as error:
        raise RayUnavailable(f"cannot start a local Ray: {_reason(error)}") from error


def check_ray(address: str) -> None:
    """Connect to the Ray cluster at an address, and disconnect.

    Raises:
        RayUnavailable: none answers there.
    """
    join_ray(address)
    leave_ray()


def join_ray(address: str) -> None:
    """Connect to the Ray cluster at an address.

    Raises:
        RayUnavailable: none answers there, or it rejects this process's token.
    """
    try:
        _check_listening(address)
        _connect(address)
    except _CONNECTION_ERRORS as error:
        rejected = describe_rejection_in(error)
        problem = (
            f"no Ray cluster answers at {address}: {_reason(error)}"
            if rejected is None
            else f"cannot join the Ray cluster at {address}: {rejected}"
        )
        raise RayUnavailable(problem) from error


def insufficient_resources(cpus: float, gpus: float) -> str | None:
    """Return why a pack with this many CPUs and GPUs can never run here; None if it can.

    This is decided only for a cluster of one node. A larger cluster may start a bigger node on demand, and a
    head that lends nothing waits for its workers.
    """
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    if len(nodes) != 1 or not nodes[0].get("CPU"):
        return None
    available = {"CPU": float(nodes[0].get("CPU", 0)), "GPU": float(nodes[0].get("GPU", 0))}
    required = {"CPU": cpus, "GPU": gpus}
    short = [f"{amount:g} {name}" for name, amount in required.items() if amount > available[name]]
    if not short:
        return None
    has = " and ".join(f"{amount:g} {name}" for name, amount in available.items())
    return (
        f"each pack needs {' and '.join(short)}, but this machine has {has}; lower `resources` and submit "
        "again"
    )


def slots(cpus: float, gpus: float, processes: int = 1) -> int:
    """Return how many packs fit on the cluster if nothing else runs.

    Args:
        cpus: CPUs of a pack.
        gpus: GPUs of a pack.
        processes: processes of a pack, among which both are divided; they may be on several nodes.
    """
    cpus, gpus = cpus / processes, gpus / processes
    required = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount > 0}
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    # Three thirds must count as one despite rounding.
    fitting = sum(
        int(min(node.get(name, 0.0) / amount for name, amount in required.items()) + 1e-6) for node in nodes
    )
    return fitting // processes


def training_machines() -> int:
    """Return how many machines of the cluster lend cores to trials."""
    return sum(1 for node in _ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))


def lent_resources() -> NodesView:
    """Return the machines of the cluster that lend cores to trials, and what of them is in use."""
    total, free = _ray.cluster_resources(), _ray.available_resources()

    def used(name: str) -> float:
        return max(0.0, float(total.get(name, 0.0)) - float(free.get(name, 0.0)))

    return NodesView(
        machines=training_machines(),
        cpus=float(total.get("CPU", 0.0)),
        cpus_used=used("CPU"),
        gpus=float(total.get("GPU", 0.0)),
        gpus_used=used("GPU"),
    )


def accelerators() -> tuple[str, ...]:
    """Return the kinds of GPU in the cluster, each once, sorted."""
    kinds = {
        name.removeprefix(_ACCELERATOR)
        for node in _ray.nodes()
        if node["Alive"]
        for name in node["Resources"]
        if name.startswith(_ACCELERATOR)
    }
    return tuple(sorted(kinds))


def leave_ray() -> None:
    """Disconnect from Ray; what this process still runs there ends."""
    _ray.shutdown()


def _check_listening(address: str) -> None:
    """Raise OSError unless something listens at `HOST:PORT`; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_WITHIN_S).close()


def _connect(address: str, **options: Any) -> str:
    warnings.filterwarnings("ignore", module=r"ray\..*")
    context = _ray.init(
        address=address,
        job_config=_InstalledCodeJob(),
        logging_level=logging.ERROR,
        log_to_driver=False,
        **options,
    )
    return str(context.address_info["gcs_address"])


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error).strip()
    return (text or type(error).__name__).splitlines()[0]
