"""Background maintenance: settles lost studies, deletes old failed logins, logs problems of dispatchers."""

__all__ = ["run_maintenance"]

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from studies.errors import StoreUnavailable
from studies.store import Store

_LOG = logging.getLogger("tangent.service")
_EVERY_S = 1.0
_JOIN_S = 2.0
_DELETE_EVERY_S = 3600.0
# Anyone who reaches the port can cause these entries, so they are the only ones that are deleted.
_REFUSED_LOGINS_KEPT = timedelta(days=30)


@contextmanager
def run_maintenance(store: Store) -> Generator[None]:
    """Maintain a store until the context is left.

    A stopped study ends about a second after its run's lease expires, even without a dispatcher.
    """
    stopping = threading.Event()
    problems: dict[str, str] = {}

    def work() -> None:
        deleted_at = -_DELETE_EVERY_S
        while not stopping.wait(_EVERY_S):
            try:
                store.settle_lapsed_leases()
                _log_problems(store, problems)
                if time.monotonic() - deleted_at >= _DELETE_EVERY_S:
                    store.delete_refused_logins(older_than=_REFUSED_LOGINS_KEPT)
                    deleted_at = time.monotonic()
            except StoreUnavailable:
                # Requests report it.
                continue
            except Exception:  # noqa: BLE001 # logged
                # Dispatchers settle lost runs too, and the rest can wait an hour.
                _LOG.exception("maintenance of the database failed")

    thread = threading.Thread(target=work, name="maintenance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(_JOIN_S)


def _log_problems(store: Store, known: dict[str, str]) -> None:
    """Log which dispatchers can start no run since the last call, and why, and which can again.

    Args:
        store: the database.
        known: the problems that were logged, by dispatcher; brought up to date.
    """
    heartbeats = store.dispatchers()
    for name, heartbeat in heartbeats.items():
        if heartbeat.problem is not None and known.get(name) != heartbeat.problem:
            known[name] = heartbeat.problem
            _LOG.warning("dispatcher %s can start no run: %s", name, heartbeat.problem)
        elif heartbeat.problem is None and known.pop(name, None) is not None:
            _LOG.warning("dispatcher %s can start runs again", name)
    for name in known.keys() - heartbeats.keys():
        del known[name]
