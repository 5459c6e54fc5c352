"""Ray as runs and dispatchers meet it.

Joined, or started on this machine, quiet and ended with the process that started it.
"""

__all__ = [
    "RayUnavailable",
    "accelerators",
    "insufficient_resources",
    "join_ray",
    "leave_ray",
    "slots",
    "start_ray",
]

import logging
import os
import socket
import warnings
from typing import Any, cast

import ray

from studies.errors import TangentError
from workers.node_process import OBJECT_STORE_BYTES, WORKER_ENVIRONMENT

_ANSWER_WITHIN_S = 5.0
# Ray gives a node with GPUs one unit of a resource with this name and the GPU's.
_ACCELERATOR = "accelerator_type:"
# Ray's functions have no complete types.
_ray = cast("Any", ray)


class RayUnavailable(TangentError):
    """No Ray could be started or reached; the message says why."""


def start_ray(address: str, *, cpus: int | None) -> str:
    """Return the address of a running Ray.

    The one given, or that of a new local one that lives as long as this process.

    Args:
        address: `local`, or `HOST:PORT` of a cluster's head.
        cpus: cores of a local Ray; None takes all.

    Raises:
        RayUnavailable: it cannot be started or reached.
    """
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local":
        return _connect(
            "local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES
        )
    return _connect(address)


def join_ray(address: str) -> None:
    """Join the Ray at an address.

    Raises:
        RayUnavailable: none answers there.
    """
    _connect(address)


def insufficient_resources(cpus: float, gpus: float) -> str | None:
    """Return why a pack with this many CPUs and GPUs can never run here; None if it can.

    This is decided only for a cluster of one node. A larger cluster may start a bigger node on demand, and a
    head that lends nothing waits for its workers.
    """
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    if len(nodes) != 1 or not nodes[0].get("CPU"):
        return None
    there = {"CPU": float(nodes[0].get("CPU", 0)), "GPU": float(nodes[0].get("GPU", 0))}
    short = [f"{wanted:g} {name}" for name, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted > there[name]]
    if not short:
        return None
    has = " and ".join(f"{number:g} {name}" for name, number in there.items())
    return (
        f"each pack asks for {' and '.join(short)}, but this machine has {has}; "
        "lower `resources` and submit again"
    )


def slots(cpus: float, gpus: float) -> int:
    """Return how many packs that need so many CPUs and GPUs fit on this Ray's machines together.

    That is, were nothing else running there.
    """
    wanted = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount > 0}
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    # Rounding: three thirds are one.
    return sum(
        int(min(node.get(name, 0.0) / amount for name, amount in wanted.items()) + 1e-6) for node in nodes
    )


def accelerators() -> tuple[str, ...]:
    """Return the kinds of GPU that the machines of this Ray have, each once; empty where there is none."""
    named = {
        name.removeprefix(_ACCELERATOR)
        for node in _ray.nodes()
        if node["Alive"]
        for name in node["Resources"]
        if name.startswith(_ACCELERATOR)
    }
    return tuple(sorted(named))


def leave_ray() -> None:
    """Leave Ray; what this process still ran there ends."""
    _ray.shutdown()


def _knock(address: str) -> None:
    """Return when something listens at `HOST:PORT`; Ray itself would go on trying for minutes.

    Raises:
        OSError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN_S).close()


def _connect(address: str, **options: Any) -> str:
    warnings.filterwarnings("ignore", module=r"ray\..*")
    try:
        _knock(address)
        context = _ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        said = (
            (error.strerror if isinstance(error, OSError) else None)
            or str(error).strip()
            or type(error).__name__
        )
        cause = said.splitlines()[0]
        what = "a local Ray cannot start" if address == "local" else f"no Ray cluster answers at {address}"
        raise RayUnavailable(f"{what}: {cause}") from error
    return str(context.address_info["gcs_address"])
