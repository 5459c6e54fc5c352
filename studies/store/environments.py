"""What trained a study: versions and processors by name, added to by every run that works on it."""

__all__ = ["noted"]

from collections.abc import Mapping

from studies.store import tables

_AND_THEN = "; "


def noted(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with what is so now added.

    Of each name all that were seen, in that order, with semicolons between.
    """
    found = dict(before)
    for name, value in now.items():
        key, said = tables.storable(name), tables.storable(value).replace(_AND_THEN, ", ")
        seen = [part for part in found.get(key, "").split(_AND_THEN) if part]
        found[key] = _AND_THEN.join(seen if said in seen else [*seen, said])
    return found
