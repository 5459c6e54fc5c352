"""How much memory a device has to spare for one worker, and how much a trial run took.

Also which errors say that there was too little.
"""

__all__ = ["MemoryMeter", "is_out_of_memory", "spare_bytes"]

import os
import resource
from pathlib import Path

import torch

_SHARE = 0.6
"""Of what is free.

The rest is left to evaluation, other tenants of the device, and what an estimate misses.
"""
_CGROUP = Path("/sys/fs/cgroup")
_SIGNS = (
    "DefaultCPUAllocator: can't allocate",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What says so in errors that have no class of their own.

The CPU's allocator's, the driver's and those of CUDA's libraries.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device's memory, or the machine's, could not hold a tensor."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in _SIGNS
    )


def spare_bytes(device: torch.device) -> int:
    """Return the bytes that one worker may count on.

    On a GPU of its free memory, on the CPU of its share of the machine's, a worker to a core.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (free + idle))
    workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    return int(_SHARE * _free_on_the_machine() / workers)


class MemoryMeter:
    """Measures by how much memory in use grew at its highest, from its making on.

    On a GPU that is what torch allocated; on the CPU it is the process's resident set, whose highest mark
    never falls: what fits under an earlier mark is not seen, so that a figure there is a lower bound.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._start = torch.cuda.memory_allocated(device) if device.type == "cuda" else _peak_resident_set()

    def grown(self) -> int:
        """Return the bytes by which it grew."""
        peak = (
            torch.cuda.max_memory_allocated(self._device)
            if self._device.type == "cuda"
            else _peak_resident_set()
        )
        return max(0, peak - self._start)


def _peak_resident_set() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _free_on_the_machine() -> int:
    """Return the bytes that the kernel says are available, within this container's limit where it has one."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit, used, parts = (
            (_CGROUP / name).read_text(encoding="ascii").strip()
            for name in ("memory.max", "memory.current", "memory.stat")
        )
    except OSError:
        return free
    # What is in use counts every file that was read, which the kernel gives up for the asking.
    cached = next(
        (int(line.split()[1]) for line in parts.splitlines() if line.startswith("inactive_file ")), 0
    )
    return min(free, max(0, int(limit) - int(used) + cached)) if limit.isdigit() else free
