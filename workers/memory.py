"""Device memory: how much one worker may use, how much a trial run used, and which errors mean too little."""

__all__ = ["MemoryMeter", "is_out_of_memory", "spare_bytes"]

import os
import resource
from pathlib import Path

import psutil
import torch

_SHARE = 0.6
"""Share of the free memory that a worker counts on.

The rest is left for evaluation, other users of the device, and the error of an estimate.
"""
_CGROUP = Path("/sys/fs/cgroup")
_MESSAGES = (
    "DefaultCPUAllocator: can't allocate",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of error messages that mean out of memory where the error has no class of its own.

They come from the CPU's allocator, the CUDA driver and CUDA's libraries.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the machine ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        message in str(error) for message in _MESSAGES
    )


def spare_bytes(device: torch.device) -> int:
    """Return the bytes that one worker may count on.

    On a GPU that is a share of the free memory. On the CPU the machine's free memory is divided among as many
    workers as its cores can run.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (free + cached))
    workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    return int(_SHARE * _available_bytes() / workers)


class MemoryMeter:
    """Measures by how much the peak of the memory in use has grown since the meter was created.

    On a GPU it counts what torch allocated. On the CPU it reads the process's peak resident set, which never
    falls: memory that fits under an earlier peak is not seen, so the figure is a lower bound.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._start = torch.cuda.memory_allocated(device) if device.type == "cuda" else _peak_resident_set()

    def grown(self) -> int:
        """Return the bytes by which the peak has grown."""
        peak = (
            torch.cuda.max_memory_allocated(self._device)
            if self._device.type == "cuda"
            else _peak_resident_set()
        )
        return max(0, peak - self._start)


def _peak_resident_set() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _available_bytes() -> int:
    """Return the memory available to this process, within its container's limit if it has one."""
    available = psutil.virtual_memory().available
    # psutil does not know the limits of control groups.
    try:
        limit, used, stat = (
            (_CGROUP / name).read_text(encoding="ascii").strip()
            for name in ("memory.max", "memory.current", "memory.stat")
        )
    except OSError:
        return available
    # The usage includes the page cache, which the kernel frees on demand.
    cached = next(
        (int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")), 0
    )
    return min(available, max(0, int(limit) - int(used) + cached)) if limit.isdigit() else available
