"""Loads what installed packages add to the catalogue, through Python entry points.

A broken entry point is left out and reported, and does not affect the others.
"""

__all__ = ["Carded", "Installed", "Loaded", "OnBroken", "by_name", "load_entries", "no_report"]

import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, Protocol, TypeVar, cast

from studies.catalog import BrokenPackage, OptimizerCard, PackageVersion, WorkloadCard
from workers.package_versions import package_name, package_versions, version_difference


class Carded(Protocol):
    """An optimizer or workload with its card."""

    @property
    def card(self) -> OptimizerCard | WorkloadCard:
        """Its description in the catalogue."""
        ...


OnBroken = Callable[[BrokenPackage], None]
"""Called with each package that could not be loaded, after a warning in the log."""

T = TypeVar("T")
C = TypeVar("C", bound=Carded)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """An optimizer or workload, and the package that adds it."""

    entry: T
    package: PackageVersion


class Installed(dict[str, C]):
    """Optimizers or workloads by name.

    Attributes:
        packages: the package of each one that is not built in, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.packages: dict[str, PackageVersion] = {}

    def why_unfit(self, name: str, *, kind: str, expected: Mapping[str, PackageVersion]) -> str | None:
        """Return why this machine must not train with an entry; None if it may.

        Args:
            name: its name.
            kind: `workload` or `optimizer`.
            expected: packages by name, as the study's run has them.
        """
        if name not in self:
            return (
                f"expected {kind} {name!r} on {socket.gethostname()}, got none; install the package that "
                "adds it on this machine too"
            )
        return version_difference(f"{kind} {name!r}", self.packages.get(name), expected)


# Of an error's text; the database and every page keep it.
_MAX_ERROR = 1000


def no_report(package: BrokenPackage) -> None:
    """Report nothing: the warning in the log is enough."""
    del package


def load_entries(group: str, *kinds: type[T], on_broken: OnBroken = no_report) -> list[Loaded[T]]:
    """Return the entries of all installed entry points of a group, in the order of their names.

    An entry point names an instance of one of `kinds`, a list or tuple of instances, or a callable without
    arguments that returns either, such as the class itself. One that cannot be imported, raises an error, or
    names anything else is left out, and a warning names it.

    Args:
        group: entry point group, e.g. `tangent.workloads`.
        kinds: the classes of the entries.
        on_broken: called with each package that could not be loaded.
    """
    entries: list[Loaded[T]] = []
    # Read before the code, so that a change in between is noticed later.
    versions = package_versions()
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        try:
            package = versions[package_name(point)]
            entries += [Loaded(entry, package) for entry in _entries_of(point, kinds)]
        # Importing a foreign module may raise anything, and may even exit.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            logging.getLogger(__name__).warning(
                "left out entry point %s = %s of %s: %s: %s; repair its package or uninstall it",
                point.name,
                point.value,
                group,
                type(error).__name__,
                error,
            )
            on_broken(_described(point, error))
    return entries


def by_name(builtin: Iterable[C], loaded: Iterable[Loaded[C]], *, group: str) -> Installed[C]:
    """Return our own entries and those of packages by the names on their cards, in this order.

    Of two entries with the same name the first is kept, and a warning names both: no package can replace one
    of ours.
    """
    named: Installed[C] = Installed()
    packages = [(entry, None) for entry in builtin] + [(each.entry, each.package) for each in loaded]
    for entry, package in packages:
        name = entry.card.name
        if name in named:
            logging.getLogger(__name__).warning(
                "left out %r of %s: %r already has the name %r; rename it on its card",
                entry.card.title,
                group,
                named[name].card.title,
                name,
            )
            continue
        named[name] = entry
        if package is not None:
            named.packages[name] = package
    return named


def _described(point: EntryPoint, error: BaseException) -> BrokenPackage:
    dist = point.dist
    return BrokenPackage(
        kind="optimizer" if point.group == "tangent.optimizers" else "workload",
        package=f"{dist.name} {dist.version}" if dist is not None else point.module,
        entry_point=f"{point.name} = {point.value}",
        error=f"{type(error).__name__}: {error}"[:_MAX_ERROR],
    )


def _entries_of(point: EntryPoint, kinds: tuple[type[T], ...]) -> list[T]:
    loaded: object = point.load()
    value = (
        loaded
        if isinstance(loaded, kinds) or not callable(loaded)
        else cast("Callable[[], object]", loaded)()
    )
    values = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
    entries: list[T] = []
    for entry in values:
        if not isinstance(entry, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"expected an instance of {names}, or a list of them, got {type(entry).__name__}")
        entries.append(entry)
    return entries
