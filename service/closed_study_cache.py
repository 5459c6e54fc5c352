"""Answers about closed studies.

Nothing in them changes until the study is opened again, so each is written once and kept.
"""

__all__ = ["ClosedStudyCache"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from studies.store import Store

_MAX_BYTES = 64 * 2**20
_MAX_ENTRY_BYTES = 4 * 2**20
# What an entry needs besides its body: its key above all, which has what was asked for.
_ENTRY_BYTES = 2048


class ClosedStudyCache:
    """Bodies of answers, those asked for last. Safe to share between threads.

    Args:
        store: the record.
        max_bytes: so much is kept at most, keys and all.
    """

    def __init__(self, store: Store, *, max_bytes: int = _MAX_BYTES) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Hashable, bytes]] = OrderedDict()
        self._bytes = 0

    def get_or_write(self, study_id: str, what: Hashable, write: Callable[[], bytes]) -> bytes:
        """Return what `write` returns, or what it returned last.

        The latter where the study has not changed since this was last asked for.

        Args:
            study_id: the study.
            what: tells this answer from others about the study.
            write: makes the body; of an open study it does so every time.
        """
        stamp, key = self._store.closed_study_stamp(study_id), (study_id, what)
        if stamp is None:
            return write()
        with self._lock:
            if key in self._entries and self._entries[key][0] == stamp:
                self._entries.move_to_end(key)
                return self._entries[key][1]
        body = write()
        if len(body) <= _MAX_ENTRY_BYTES:
            with self._lock:
                before = self._entries.pop(key, None)
                self._bytes += _size(body) - (0 if before is None else _size(before[1]))
                self._entries[key] = stamp, body
                while self._bytes > self._max_bytes:
                    _, (_, dropped) = self._entries.popitem(last=False)
                    self._bytes -= _size(dropped)
        return body


def _size(body: bytes) -> int:
    return len(body) + _ENTRY_BYTES
