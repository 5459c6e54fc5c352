"""Versions of the packages that add workloads and optimizers, from their metadata and their code.

None of their code runs for it. The code counts because a package that is installed for editing keeps its
version while its files change.
"""

__all__ = ["code_of", "describe_packages", "package_name", "package_versions", "version_difference"]

import hashlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from studies.catalog import PackageVersion

_GROUPS: Final = ("tangent.workloads", "tangent.optimizers")
_DIGITS: Final = 10


def package_versions() -> dict[str, PackageVersion]:
    """Return the version of each package that adds workloads or optimizers, by the package's name."""
    points: dict[str, list[EntryPoint]] = {}
    for group in _GROUPS:
        for point in entry_points(group=group):
            points.setdefault(package_name(point), []).append(point)
    return {name: _version(name, of_package) for name, of_package in sorted(points.items())}


def version_difference(
    name: str, found: PackageVersion | None, expected: Mapping[str, PackageVersion]
) -> str | None:
    """Return why this machine must not train with a workload or optimizer; None if it may.

    Args:
        name: kind and name of what the package adds, e.g. `workload 'moons'`.
        found: its package on this machine; None if it is built in.
        expected: packages by name, as the study's run has them.
    """
    theirs = None if found is None else expected.get(found.name)
    if found is None or theirs is None or theirs == found:
        return None
    return (
        f"expected {theirs}, the package of {name} where the study's run is, got {found} on "
        f"{socket.gethostname()}; install the same version on both, and start the study again"
    )


def describe_packages() -> str:
    """Return the packages that add workloads or optimizers with their versions, in one phrase."""
    try:
        found = [str(version) for version in package_versions().values()]
    except OSError as error:
        return f"unknown ({error})"
    return ", ".join(found) or "none"


def package_name(point: EntryPoint) -> str:
    """Return the name of an entry point's package, or of its module if the package has no metadata."""
    return point.module.partition(".")[0] if point.dist is None else point.dist.name


def code_of(*modules: str) -> str:
    """Return a digest of the Python files of top-level modules or packages.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        for place, path in _files(module):
            digest.update(f"{module}/{place}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]


def _version(name: str, points: Sequence[EntryPoint]) -> PackageVersion:
    distribution = points[0].dist
    return PackageVersion(
        name=name,
        version="" if distribution is None else distribution.version,
        code=code_of(*{point.module.partition(".")[0] for point in points}),
    )


def _files(module: str) -> Iterator[tuple[str, Path]]:
    """Yield the Python files of a top-level module or package in a fixed order, with their places in it."""
    try:
        spec = find_spec(module)
    # A package may bring a finder of its own, which may raise anything.
    except Exception:  # noqa: BLE001
        return
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(folder).as_posix(), path
    if spec is not None and not folders and spec.origin is not None and Path(spec.origin).is_file():
        yield Path(spec.origin).name, Path(spec.origin)
