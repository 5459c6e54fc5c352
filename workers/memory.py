"""Memory: how much one worker may use, and which errors mean that it was too little."""

__all__ = ["is_out_of_memory", "spare_bytes"]

import os
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
