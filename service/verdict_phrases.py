"""Verdicts in a phrase for lists of studies: analysed one after another in the background, and kept.

Those of closed studies are stored too, so that a restarted service, or another one, shows them at once.
"""

__all__ = ["VerdictPhrases"]

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.errors import HTTPProblem
from studies.analysis.views import StudyAnalysis
from studies.errors import StoreUnavailable, StudyNotFound
from studies.store import Store

_LOG = logging.getLogger("tangent.service")
# A phrase takes some hundred bytes.
_MAX_ENTRIES = 20_000
_MAX_WAITING = 100
# The background takes at most a quarter of a core, so that it delays no page for long.
_PAUSE_FACTOR = 3.0
# A running study changes every second.
_OPEN_FOR_S = 10.0
# To be raised with each change of a verdict or of its wording: every image has the same version of Tangent.
_PROGRAM = "phrases 1"
_Stamp = tuple[int, int, bool]


@dataclass(frozen=True)
class _Phrase:
    text: str
    stamp: _Stamp
    at: float


class VerdictPhrases:
    """The verdicts on a store's studies, in a phrase. Safe to share between threads.

    Args:
        store: the studies.
        analyse: returns the analysis of a study.
    """

    def __init__(self, store: Store, analyse: Callable[[str], StudyAnalysis]) -> None:
        self._store = store
        self._analyse = analyse
        self._guard = threading.Lock()
        self._known: OrderedDict[str, _Phrase] = OrderedDict()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._is_working = False
        self._program = _PROGRAM

    def of(self, study_ids: Sequence[str]) -> dict[str, str]:
        """Return the phrases that are known by study; those that are missing or behind follow later.

        A study without a verdict has an empty phrase.
        """
        if not study_ids:
            return {}
        stamps = self._store.change_stamps(study_ids)
        self._read_stored(stamps)
        now = time.monotonic()
        with self._guard:
            found = {study_id: self._known[study_id] for study_id in study_ids if study_id in self._known}
            for study_id, stamp in stamps.items():
                phrase = found.get(study_id)
                is_due = phrase is None or (
                    phrase.stamp != stamp and (stamp[2] or now - phrase.at > _OPEN_FOR_S)
                )
                if is_due:
                    self._waiting[study_id] = None
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
            if self._waiting and not self._is_working:
                self._is_working = True
                threading.Thread(target=self._work, name="verdict-phrases", daemon=True).start()
        return {
            study_id: phrase.text
            for study_id, phrase in found.items()
            # The last phrase of a study that has closed meanwhile may be wrong.
            if study_id in stamps and (phrase.stamp == stamps[study_id] or not stamps[study_id][2])
        }

    def _read_stored(self, stamps: Mapping[str, _Stamp]) -> None:
        """Take over what is stored of closed studies whose phrase is not known; usually there are none."""
        with self._guard:
            unknown = [
                study_id
                for study_id, stamp in stamps.items()
                if stamp[2] and (study_id not in self._known or self._known[study_id].stamp != stamp)
            ]
        if not unknown:
            return
        for study_id, text in self._store.verdict_phrases(unknown, program=self._program).items():
            self._keep(study_id, text, stamps[study_id])

    def _work(self) -> None:
        """Analyse the studies that wait, and end."""
        while True:
            with self._guard:
                if not self._waiting:
                    self._is_working = False
                    return
                study_id, _ = self._waiting.popitem(last=False)
            began = time.monotonic()
            try:
                self._phrase(study_id)
            except StoreUnavailable:
                # The next list asks again.
                pass
            except Exception:  # noqa: BLE001 # logged
                _LOG.exception("no verdicts for the list of studies")
            time.sleep(min(5.0, _PAUSE_FACTOR * (time.monotonic() - began)))

    def _phrase(self, study_id: str) -> None:
        # Imported here, because statistics take a second to import.
        from studies.analysis.phrase import verdict_phrase

        stamp = self._store.change_stamps([study_id]).get(study_id)
        if stamp is None:
            return
        try:
            text = verdict_phrase(self._analyse(study_id))
        except (HTTPProblem, StoreUnavailable, StudyNotFound):
            # The next list asks again.
            return
        except Exception:  # noqa: BLE001 # logged
            # It would fail again until the study changes.
            _LOG.exception("study %s: no verdict for the list of studies", study_id)
            self._keep(study_id, "", stamp)
            return
        self._keep(study_id, text, stamp)
        if stamp[2]:
            self._store.store_verdict_phrase(
                study_id, text, events_without_notes=stamp[1], program=self._program
            )

    def _keep(self, study_id: str, text: str, stamp: _Stamp) -> None:
        with self._guard:
            self._known[study_id] = _Phrase(text, stamp, time.monotonic())
            self._known.move_to_end(study_id)
            while len(self._known) > _MAX_ENTRIES:
                self._known.popitem(last=False)
