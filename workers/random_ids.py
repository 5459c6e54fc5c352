"""Ray's random ids in processes that are forked.

Ray's library draws the ids of objects, actors and placement groups from a generator that it seeds for the
first one and does not seed again after a fork. If a process has drawn one, all that it forks draw the same
ids, and `ray.get` may then return another process's data.
"""

__all__ = ["are_shared", "drawing_none"]

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

_KINDS = ("ObjectID", "ActorID", "PlacementGroupID", "UniqueID")


@contextmanager
def drawing_none() -> Generator[None]:
    """Keep imports from drawing: those that define actors, such as `ray.tune`, get ids from the system."""
    from ray import actor

    module: Any = actor
    drawn = module.ActorClassID
    module.ActorClassID = SimpleNamespace(from_random=lambda: drawn(os.urandom(drawn.size())))
    try:
        yield
    finally:
        module.ActorClassID = drawn


def are_shared() -> bool:
    """Return whether processes that this one forks draw the same ids, or none; it forks two to find out."""
    return len({*_drawn_by_child(), *_drawn_by_child()}) < 2 * len(_KINDS)


def _drawn_by_child() -> list[str]:
    from ray import _raylet

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ray = cast("Any", _raylet)
            os.write(writing, " ".join(getattr(ray, kind).from_random().hex() for kind in _KINDS).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as drawn:
        ids = drawn.read().split()
    # The system may forget children by itself.
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return ids
