"""The state of the cluster, read about every two seconds for all readers."""

__all__ = ["ClusterStatus"]

import time
from datetime import UTC, datetime
from typing import Final

from service.dispatcher_health import DispatcherHealth
from studies.cluster_views import ClusterView
from studies.formatting import percent, plural
from studies.store import Store
from studies.store.catalog import Heartbeat

_FRESH_FOR_S: Final = 2.0
_FULL: Final = 0.9


class ClusterStatus:
    """The state of the cluster of one service. Safe to share between threads."""

    def __init__(self) -> None:
        self._last: tuple[Store, float, ClusterView] | None = None

    def read(self, store: Store) -> ClusterView:
        """Return the state of the cluster; it may be two seconds old.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        last = self._last
        if last is None or last[0] is not store or time.monotonic() - last[1] > _FRESH_FOR_S:
            view = store.cluster()
            view = view.model_copy(update={"problems": _problems(store, view)})
            # Without a lock: readers would wait for one another while the database cannot be reached.
            self._last = last = store, time.monotonic(), view
        return last[2]


def _problems(store: Store, view: ClusterView) -> tuple[str, ...]:
    """Return what is wrong with a cluster, each in a sentence."""
    now = datetime.now(UTC)
    beats = {str(n): Heartbeat(each.seen_at, each.problem) for n, each in enumerate(view.dispatchers)}
    health = DispatcherHealth.of(beats, now=now)
    found = [] if health.outage is None else [health.outage]
    if health.outage is None:
        found += [f"A dispatcher can start no run: {problem}." for problem in health.problems]
    gone = [each for each in view.dispatchers if not each.is_alive]
    if health.able and gone:
        ago = _roughly((now - max(each.seen_at for each in gone)).total_seconds())
        found.append(f"{plural(len(gone), 'dispatcher')} without a heartbeat, the last one {ago} ago.")
    machines = [each.machine for each in view.dispatchers if each.is_alive and each.machine is not None]
    found += [
        f"A machine has {percent(1 - each.memory_used_bytes / each.memory_bytes)} of its memory left, so "
        "trials may be killed."
        for each in machines
        if each.memory_used_bytes > _FULL * each.memory_bytes
    ]
    broken = store.catalog().broken
    if broken:
        found.append(
            f"{plural(len(broken), 'package')} with workloads or optimizers cannot be loaded; "
            "the catalogue says why."
        )
    return tuple(found)


def _roughly(seconds: float) -> str:
    """Return seconds in whole minutes or hours, so that the sentence seldom changes."""
    if seconds < 60:
        return "less than a minute"
    return plural(int(seconds // 60), "minute") if seconds < 3600 else plural(int(seconds // 3600), "hour")
