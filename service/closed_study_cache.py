"""Response bodies about closed studies, which do not change until a study is extended."""

__all__ = ["ClosedStudyCache"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from studies.store import Store

_MAX_BYTES = 64 * 2**20
_MAX_ENTRY_BYTES = 4 * 2**20
# What an entry needs besides its body, mostly its key with the query.
_ENTRY_OVERHEAD = 2048


class ClosedStudyCache:
    """The response bodies used last. Safe to share between threads.

    Args:
        store: the studies.
        max_bytes: the most memory that the bodies and their keys may take.
    """

    def __init__(self, store: Store, *, max_bytes: int = _MAX_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Hashable, bytes]] = OrderedDict()
        self._bytes = 0

    def get_or_write(self, study_id: str, key: Hashable, write: Callable[[], bytes]) -> bytes:
        """Return the cached body, or write it if the study is open or has changed.

        Args:
            study_id: the study.
            key: distinguishes this body from others about the study.
            write: writes the body.
        """
        stamp, full_key = self._store.closed_study_stamp(study_id), (study_id, key)
        if stamp is None:
            return write()
        with self._lock:
            if full_key in self._entries and self._entries[full_key][0] == stamp:
                self._entries.move_to_end(full_key)
                return self._entries[full_key][1]
        body = write()
        if len(body) <= _MAX_ENTRY_BYTES:
            with self._lock:
                old = self._entries.pop(full_key, None)
                self._bytes += _size(body) - (0 if old is None else _size(old[1]))
                self._entries[full_key] = stamp, body
                while self._bytes > self._max_bytes:
                    _, (_, dropped) = self._entries.popitem(last=False)
                    self._bytes -= _size(dropped)
        return body


def _size(body: bytes) -> int:
    return len(body) + _ENTRY_OVERHEAD
