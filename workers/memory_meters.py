"""How much memory a pack or a run used, and the release of memory that it has freed."""

__all__ = ["MemoryMeter", "PackMeter", "release_free_memory"]

import ctypes
import math
import resource
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from studies.process_tree import child_pids, descendants

_CLEAR, _PEAK = Path("/proc/self/clear_refs"), "5"
"""Writing this number resets the process's peak resident set to its current one (proc(5))."""
_STATUS = Path("/proc/self/status")
_OTHERS_EVERY_S = 1.0
_MUCH = 256 * 2**20
"""Free memory below which a pack does not give it back: it would soon have to ask for it again."""


class MemoryMeter:
    """Measures by how much the peak of the memory in use has grown since the meter was created.

    On a GPU it counts what torch allocated. On the CPU it reads the process's peak resident set, which falls
    only when a pack begins: memory that fits under an earlier peak is not seen, so the figure is a lower
    bound.
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


class PackMeter:
    """Measures the peak memory of this process and those below it while it trains a pack.

    Of this process it is the peak resident set, with everything that it has loaded before. Other processes
    are read at most once a second, and count with their proportional set: pages that several share count
    once. On a GPU it is the peak of what torch allocated in this process.

    Args:
        device: where the pack is trained.
        keeper_pid: a process below this one that does not belong to the pack; None if there is none.
    """

    def __init__(self, device: torch.device, *, keeper_pid: int | None = None) -> None:
        self._device, self._keeper_pid = device, keeper_pid
        self._others, self._read_at = 0, -math.inf
        release_free_memory(at_least=_MUCH)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        # Not every container allows it; then the peak is that of the process's whole life.
        with suppress(OSError):
            _CLEAR.write_text(_PEAK, encoding="ascii")

    def read(self) -> tuple[int, int | None]:
        """Return the peaks so far, in bytes: of the processes, and of the GPU's memory or None on CPUs."""
        if time.monotonic() - self._read_at > _OTHERS_EVERY_S:
            self._others = max(self._others, sum(map(_proportional_set, self._below())))
            self._read_at = time.monotonic()
        on_gpu = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None
        return _peak_resident_set() + self._others, on_gpu

    def _below(self) -> list[psutil.Process]:
        # To find descendants, psutil reads files of every process on the machine.
        if child_pids() <= {self._keeper_pid}:
            return []
        return [process for process in descendants() if process.pid != self._keeper_pid]


def release_free_memory(*, at_least: int = 0) -> None:
    """Give the memory that Python and torch have freed back to the system.

    A worker's allocator keeps it otherwise (`MALLOC_TRIM_THRESHOLD_`), which makes small packs faster.

    Args:
        at_least: how many bytes must be free for it.
    """
    library = ctypes.CDLL(None)
    # Only the GNU C library has these functions.
    if hasattr(library, "mallinfo2") and hasattr(library, "malloc_trim"):
        library.mallinfo2.restype = _MallocInfo
        if library.mallinfo2().fordblks >= at_least:
            library.malloc_trim(0)


class _MallocInfo(ctypes.Structure):
    """The result of `mallinfo2`; `fordblks` are the bytes of free blocks."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _proportional_set(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    # It may have ended, or run as another user.
    except psutil.Error:
        return 0


def _peak_resident_set() -> int:
    # The peak of getrusage is never below that of the process which started this one.
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
