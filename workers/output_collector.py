"""Stores what a study's workers have printed, as long as its run goes on."""

__all__ = ["OutputCollector"]

import contextlib
import logging
import threading
import time
from collections.abc import Set as AbstractSet

from studies.errors import StoreUnavailable, Superseded
from studies.store import RunWriter
from workers.output_files import output_folder, read_outputs
from workers.storage import discard

_log = logging.getLogger("tangent.run")
_EVERY_S = 3.0
# The output of a worker that has died is written by another process, which may still be about to do so. None
# comes if it has printed nothing.
_WRITTEN_WITHIN_S = 4.0
_POLL_S = 0.1


class OutputCollector:
    """Moves output from a study's folder into the database. Safe to share between threads.

    Args:
        checkpoints: the study's folder for checkpoints, a path or URL.
        writer: writes to the study.
    """

    def __init__(self, checkpoints: str, *, writer: RunWriter) -> None:
        self._folder = output_folder(checkpoints)
        self._writer = writer
        self._lock = threading.Lock()
        # A file that cannot be deleted, because its disk has turned read-only, is not stored again.
        self._stored: set[str] = set()
        # The packs whose last output has come.
        self._complete: set[str] = set()
        self._last_error = ""

    def collect_until(self, is_done: threading.Event) -> None:
        """Collect every few seconds until an event is set."""
        while not is_done.wait(_EVERY_S):
            self.collect()

    def collect_last(self, *, lost_packs: AbstractSet[str]) -> None:
        """Collect once no pack is in training any more.

        Args:
            lost_packs: the ids of packs whose worker has died within the last seconds. Their last output is
                waited for, but not for ever.
        """
        give_up_at = time.monotonic() + _WRITTEN_WITHIN_S
        self.collect()
        while not lost_packs <= self._complete and time.monotonic() < give_up_at:
            time.sleep(_POLL_S)
            self.collect()

    def collect(self) -> None:
        """Store the output that workers have written since the last call.

        Nothing depends on it: what cannot be read or stored now is left for the next call.
        """
        try:
            with self._lock:
                for output in read_outputs(self._folder):
                    if output.url not in self._stored:
                        self._writer.record_output(
                            output.pack_id, output.attempts, text=output.text, size=output.size
                        )
                    self._stored.add(output.url)
                    if output.is_last:
                        self._complete.add(output.pack_id)
                    with contextlib.suppress(OSError):
                        discard(output.url)
                        self._stored.discard(output.url)
        # Whatever the storage answers, or a trial has written there.
        except Exception as error:  # noqa: BLE001
            if str(error) != self._last_error:
                is_expected = isinstance(error, Superseded | StoreUnavailable)
                level = logging.INFO if is_expected else logging.WARNING
                _log.log(level, "cannot collect the output of workers: %s", error)
                self._last_error = str(error)
