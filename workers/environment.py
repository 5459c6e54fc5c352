"""What a study is trained with: package versions and processors, as far as its run can see them."""

__all__ = ["environment"]

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_DISTRIBUTIONS = ("torch", "numpy", "optuna", "ray", "tangent-studies")
_CPU_INFO = Path("/proc/cpuinfo")


def environment(*, accelerators: Sequence[str]) -> dict[str, str]:
    """Return versions, the platform, this machine's processor and the accelerators, by name.

    On a cluster this is the machine of the study's run. Its workers are expected to have the same packages.

    Args:
        accelerators: Ray's names of the GPUs that packs may use.
    """
    versions = {name: _version(name) for name in _DISTRIBUTIONS}
    found = {
        "python": platform.python_version(),
        **{name: installed for name, installed in versions.items() if installed is not None},
        "platform": platform.platform(),
        "cpu": _cpu(),
    }
    return found | ({"gpu": ", ".join(sorted(accelerators))} if accelerators else {})


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's name, or its architecture if the system does not name it."""
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown"
