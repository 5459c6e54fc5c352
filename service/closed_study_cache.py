"""Answers about closed studies.

Nothing in them changes until the study is opened again, so each is written once and kept.
"""

__all__ = ["ClosedStudyCache"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from studies.store import Store

_MOST_BYTES = 64 * 2**20
_MOST_OF_ONE = 4 * 2**20
# What an entry needs besides its body: its key above all, which has what was asked for.
_ENTRY_BYTES = 2048


class ClosedStudyCache:
    """Bodies of answers, those asked for last. Safe to share between threads.

    Args:
        store: the record.
        most_bytes: so much is kept at most, keys and all.
    """

    def __init__(self, store: Store, *, most_bytes: int = _MOST_BYTES) -> None:
        self._store = store
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Hashable], tuple[Hashable, bytes]] = OrderedDict()
        self._bytes = 0

    def of(self, study_id: str, what: Hashable, write: Callable[[], bytes]) -> bytes:
        """Return what `write` returns, or what it returned last.

        The latter where the study has not changed since this was last asked for.

        Args:
            study_id: the study.
            what: tells this answer from others about the study.
            write: makes the body; of an open study it does so every time.
        """
        stamp, key = self._store.settled(study_id), (study_id, what)
        if stamp is None:
            return write()
        with self._lock:
            if key in self._kept and self._kept[key][0] == stamp:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        body = write()
        if len(body) <= _MOST_OF_ONE:
            with self._lock:
                before = self._kept.pop(key, None)
                self._bytes += _size(body) - (0 if before is None else _size(before[1]))
                self._kept[key] = stamp, body
                while self._bytes > self._most:
                    _, (_, dropped) = self._kept.popitem(last=False)
                    self._bytes -= _size(dropped)
        return body


def _size(body: bytes) -> int:
    return len(body) + _ENTRY_BYTES
