"""What a service does by itself, beside the answering of requests.

It settles studies whose run was lost, and forgets logins that were refused.
"""

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
_PATIENCE_S = 2.0
_FORGET_EVERY_S = 3600.0
# Anybody who reaches the port can cause entries, so these alone are not kept for good.
_REFUSED_LOGINS_KEPT = timedelta(days=30)


@contextmanager
def run_maintenance(store: Store) -> Generator[None]:
    """See to a store until the context is left.

    What an owner has stopped ends within a second or so of its run's lease, though no dispatcher lives.
    """
    ending = threading.Event()

    def work() -> None:
        forgot_at = -_FORGET_EVERY_S
        while not ending.wait(_EVERY_S):
            try:
                store.settle_lapsed_leases()
                if time.monotonic() - forgot_at >= _FORGET_EVERY_S:
                    store.delete_refused_logins(older_than=_REFUSED_LOGINS_KEPT)
                    forgot_at = time.monotonic()
            except StoreUnavailable:
                # Whoever asks for something is told.
                continue
            except Exception:  # noqa: BLE001 # told in the log
                # Dispatchers settle as well, and the next hour is soon enough for the rest.
                _LOG.exception("the record could not be seen to")

    thread = threading.Thread(target=work, name="run_maintenance", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(_PATIENCE_S)
