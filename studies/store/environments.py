"""The environment that trained a study: versions and processors by name, merged over all its runs."""

__all__ = ["merged"]

from collections.abc import Mapping

from studies.store import tables

_SEPARATOR = "; "


def merged(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the current values added.

    A name with several values has all of them, in the order in which runs reported them, with semicolons
    between.
    """
    result = dict(before)
    for name, value in now.items():
        key, current = tables.storable(name), tables.storable(value).replace(_SEPARATOR, ", ")
        known = [part for part in result.get(key, "").split(_SEPARATOR) if part]
        result[key] = _SEPARATOR.join(known if current in known else [*known, current])
    return result
