"""What installed packages add to the catalogue.

Python entry points, loaded so that a broken one cannot take the rest down.
"""

__all__ = ["Carded", "by_name", "load_entries"]

import logging
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar, cast

from studies.catalog import OptimizerCard, WorkloadCard


class Carded(Protocol):
    """Anything that a card describes."""

    @property
    def card(self) -> OptimizerCard | WorkloadCard:
        """What it says of itself."""
        ...


T = TypeVar("T")
C = TypeVar("C", bound=Carded)


def load_entries(group: str, kind: type[T]) -> list[T]:
    """Return what the installed entry points of a group offer, in the order of their names.

    An entry point names one `kind`, a list or tuple of them, or something that returns either when called
    without arguments, such as the class itself. One that cannot be imported, raises, or gives anything else
    is left out, with a warning in the log that names it.

    Args:
        group: entry point group, e.g. `tangent.workloads`.
        kind: the class that every entry must be an instance of.
    """
    found: list[T] = []
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        try:
            found += _offered(point, kind)
        # A stranger's module may raise anything, and even exit, on import.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            logging.getLogger(__name__).warning(
                "left out entry point %s = %s of %s: %s: %s; repair its package or uninstall it",
                point.name,
                point.value,
                group,
                type(error).__name__,
                error,
            )
    return found


def by_name(entries: Iterable[C], *, group: str) -> dict[str, C]:
    """Return entries under the names on their cards, in the order given.

    Of two with one name the first is kept, and a warning in the log names both: put our own first, and no
    package can replace them.
    """
    named: dict[str, C] = {}
    for entry in entries:
        name = entry.card.name
        if name in named:
            logging.getLogger(__name__).warning(
                "left out %r of %s: its name %r is taken by %r; rename it on its card",
                entry.card.title,
                group,
                name,
                named[name].card.title,
            )
        else:
            named[name] = entry
    return named


def _offered(point: EntryPoint, kind: type[T]) -> list[T]:
    loaded: object = point.load()
    offered = (
        loaded if isinstance(loaded, kind) or not callable(loaded) else cast("Callable[[], object]", loaded)()
    )
    several = cast("Sequence[object]", offered) if isinstance(offered, list | tuple) else [offered]
    entries: list[T] = []
    for entry in several:
        if not isinstance(entry, kind):
            raise TypeError(f"expected {kind.__name__}, or a list of them, got {type(entry).__name__}")
        entries.append(entry)
    return entries
