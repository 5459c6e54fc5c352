"""Background maintenance: settles studies whose run was lost, and deletes old failed logins."""

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

    def work() -> None:
        deleted_at = -_DELETE_EVERY_S
        while not stopping.wait(_EVERY_S):
            try:
                store.settle_lapsed_leases()
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
