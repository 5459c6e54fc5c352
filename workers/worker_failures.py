"""Why a pack ended without an outcome, in people's words: read off what Ray says of an actor that is no more.

Ray itself is not imported here.
"""

__all__ = ["WorkerFailure", "exhausted", "hung", "of_worker"]

import re
from dataclasses import dataclass

# Ray's own words, of 2.60. What is not among them is told as a lost worker.
_MEMORY = re.compile(
    r"Memory on the node \(IP: (?P<ip>[^,]+),.*?was (?P<used>[\d.]+) ?GB.*?/ (?P<limit>[\d.]+) ?GB", re.DOTALL
)
_NODE = "its node has died"
_LEFT = ("node was terminated expectedly", "node was preempted", "exit_actor() is called")
_ADDRESS = re.compile(r"^\s*ip: (?P<ip>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class WorkerFailure:
    """A pack that ended without an outcome.

    Attributes:
        reason: why, for the record.
        is_own: whether its own trials are known to be the cause, so that each is to be tried alone.
        is_charged: False where it was ended on purpose, so that this costs no retry.
    """

    reason: str
    is_own: bool = False
    is_charged: bool = True


def hung(seconds: float) -> WorkerFailure:
    """Return the loss of a pack that was silent for so many seconds."""
    return WorkerFailure(f"no epoch was finished within {seconds:g} s; its process was ended", is_own=True)


def exhausted(said: str) -> WorkerFailure:
    """Return the loss of a pack whose memory ran out; `said` is the error."""
    return WorkerFailure(f"memory ran out: {said}", is_own=True)


def of_worker(said: str) -> WorkerFailure:
    """Return the loss that Ray's words for an actor's end describe."""
    memory = _MEMORY.search(said)
    if memory is not None:
        in_use = f"where {memory['used']} GB of {memory['limit']} GB were in use"
        return WorkerFailure(
            f"its worker was lost: memory ran out on {memory['ip']}, {in_use}, and its process was ended",
            is_own=True,
        )
    where = _ADDRESS.search(said)
    machine = f"its machine {where['ip']}" if where is not None else "its machine"
    if any(words in said for words in _LEFT):
        return WorkerFailure(f"{machine} left the cluster", is_charged=False)
    if _NODE in said:
        return WorkerFailure(f"its worker was lost: {machine} died or was cut off")
    return WorkerFailure(
        "its worker was lost: the process was killed, as the system does when memory runs out, or crashed"
    )
