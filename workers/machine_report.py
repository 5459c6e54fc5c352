"""What a dispatcher's own machine does: cores, memory, GPUs, and the workers below its Ray node."""

__all__ = ["measure_machine"]

import os
from pathlib import Path

import psutil

from studies.cluster_views import MachineView

_GPUS = Path("/proc/driver/nvidia/gpus")
_FORK_SERVER = "workers.fork_server"
# Ray gives its processes these titles.
_OF_RAY = "ray::"
_IDLE = "ray::IDLE"
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def measure_machine(node_pid: int, *, cpus: int | None) -> MachineView:
    """Return the state of this machine; the share of busy cores is that since the last call.

    Args:
        node_pid: the process of its Ray node, below which its workers run.
        cpus: cores that it lends to trials; None for all.
    """
    memory = psutil.virtual_memory()
    workers, warm, warm_bytes = 0, 0, 0
    for process in _below(node_pid):
        try:
            command = process.cmdline()
            title = command[0] if command else ""
            is_warm = title.startswith(_IDLE) or _FORK_SERVER in command
            if is_warm:
                used = process.memory_info()
                warm, warm_bytes = warm + 1, warm_bytes + used.rss - used.shared
            elif title.startswith(_OF_RAY) and not title.startswith(_AGENTS):
                workers += 1
        except psutil.Error:
            # It has ended.
            continue
    return MachineView(
        cpus=os.cpu_count() or 1 if cpus is None else cpus,
        cpu_share=psutil.cpu_percent(None) / 100,
        gpus=len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0,
        memory_bytes=memory.total,
        memory_used_bytes=memory.total - memory.available,
        workers=workers,
        warm_workers=warm,
        warm_bytes=warm_bytes,
    )


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
