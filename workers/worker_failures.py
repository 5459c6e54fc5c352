"""Why a pack ended without an outcome, as a sentence for users, parsed from Ray's error text.

It does not import Ray.
"""

__all__ = ["WorkerFailure", "from_ray", "hung", "out_of_memory"]

import re
from dataclasses import dataclass

# Wording of Ray 2.60. Any other text is described as a lost worker.
_MEMORY = re.compile(
    r"Memory on the node \(IP: (?P<ip>[^,]+),.*?was (?P<used>[\d.]+) ?GB.*?/ (?P<limit>[\d.]+) ?GB", re.DOTALL
)
_NODE_DIED = "its node has died"
_NODE_LEFT = ("node was terminated expectedly", "node was preempted", "exit_actor() is called")
_ADDRESS = re.compile(r"^\s*ip: (?P<ip>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class WorkerFailure:
    """Why a pack ended without an outcome.

    Attributes:
        reason: shown to users.
        is_own_fault: whether one of its own trials is known to be the cause; each then runs alone.
        is_charged: whether it counts as a retry; False if the pack was ended on purpose.
        has_died: whether its process is gone, but not its machine.
    """

    reason: str
    is_own_fault: bool = False
    is_charged: bool = True
    has_died: bool = False


def hung(seconds: float, *, silent_s: float | None = None) -> WorkerFailure:
    """Describe a pack that finished no epoch for `seconds`, and was last heard of `silent_s` before."""
    heard = ""
    if silent_s is not None:
        heard = f"; it was last heard of {silent_s:.0f} s before"
        if silent_s < seconds / 2:
            heard += ": raise epoch_timeout_s if an epoch takes this long"
    return WorkerFailure(
        f"no epoch finished within {seconds:g} s, so its process was killed{heard}",
        is_own_fault=True,
        has_died=True,
    )


def out_of_memory(error: str) -> WorkerFailure:
    """Describe a pack that ended with an out-of-memory error."""
    return WorkerFailure(f"out of memory: {error}", is_own_fault=True)


def from_ray(text: str) -> WorkerFailure:
    """Describe the failure that Ray's error text reports."""
    memory = _MEMORY.search(text)
    if memory is not None:
        return WorkerFailure(
            f"its worker was killed: {memory['ip']} ran out of memory ({memory['used']} of "
            f"{memory['limit']} GB in use)",
            is_own_fault=True,
            has_died=True,
        )
    address = _ADDRESS.search(text)
    machine = f"its machine {address['ip']}" if address is not None else "its machine"
    if any(phrase in text for phrase in _NODE_LEFT):
        return WorkerFailure(f"{machine} left the cluster", is_charged=False)
    if _NODE_DIED in text:
        return WorkerFailure(f"its worker was lost: {machine} died or became unreachable")
    return WorkerFailure(
        "its worker was lost: the process crashed, or the system killed it because memory ran out",
        has_died=True,
    )
