"""Analyses on demand: worked out from the record when somebody asks, kept until the record has changed, for API, dashboard and reports alike."""

__all__ = ["MAX_COMPARED", "MAX_IN_SUITE", "Analyses"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from studies.analysis.joint_views import Comparison, SuiteAnalysis
from studies.analysis.views import StudyAnalysis
from studies.errors import Conflict, SpecInvalid, SpecProblem, StudyNotFound
from studies.store import Store

MAX_COMPARED = 16
"""Studies that one comparison may be of."""

MAX_IN_SUITE = 200
"""Studies that a suite may have to be analysed."""

_KEPT = 128
_T = TypeVar("_T", bound=BaseModel)
_Stamps = tuple[tuple[int, int], ...]


@dataclass
class _Kept:
    """What was worked out last under one key.

    Attributes:
        lock: held while it is worked out, so that whoever asks meanwhile gets the same.
        users: how many hold or wait for the lock; guarded by the lock of all.
        stamps: version and last event of each study that the value comes from.
        value: None until it was first worked out.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    stamps: _Stamps = ()
    value: BaseModel | None = None


class Analyses:
    """Analyses of a store's studies. Safe to share between threads; each is worked out by one thread at a time, and again only after a change.

    Args:
        store: where the record stands.
        kept: at most so many are kept, those asked for last.
    """

    def __init__(self, store: Store, *, kept: int = _KEPT) -> None:
        self._store = store
        self._limit = kept
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, study_id: str) -> StudyAnalysis:
        """Return what a study's record says of its arms.

        Raises:
            StudyNotFound: there is none.
        """

        def work_out() -> StudyAnalysis:
            # Statistics take a second to import, and a service that only submits and watches needs none.
            from studies.analysis.analyse import analyse

            return analyse(self._store.record(study_id))

        return self._current(StudyAnalysis, ("study", study_id), (study_id,), work_out)

    def suite(self, name: str) -> SuiteAnalysis:
        """Return what the studies of a suite say together.

        Raises:
            SuiteNotFound: no study has this label.
            Conflict: too many have it.
        """
        ids = self._store.every_study_of(name)
        if len(ids) > MAX_IN_SUITE:
            raise Conflict(f"suite {name!r} has {len(ids)} studies, and at most {MAX_IN_SUITE} are analysed together; give new ones another label")

        def work_out() -> SuiteAnalysis:
            from studies.analysis.suite import analyse_suite

            return analyse_suite(name, [self._store.record(study_id) for study_id in ids])

        return self._current(SuiteAnalysis, ("suite", name, *ids), ids, work_out)

    def comparison(self, study_ids: Sequence[str]) -> Comparison:
        """Return the arms of several studies of one workload, side by side.

        Raises:
            StudyNotFound: one of them is none.
            SpecInvalid: they are fewer than two, more than `MAX_COMPARED`, one stands there twice, or their workloads differ.
        """
        ids = tuple(study_ids)
        twice = next((study_id for n, study_id in enumerate(ids) if study_id in ids[:n]), None)
        if twice is not None:
            raise SpecInvalid([SpecProblem("/study", f"{twice!r} stands there twice; name each study once")])
        if not 2 <= len(ids) <= MAX_COMPARED:
            raise SpecInvalid([SpecProblem("/study", f"expected 2 to {MAX_COMPARED} studies to compare, got {len(ids)}")])

        def work_out() -> Comparison:
            from studies.analysis.compare import compare

            return compare([self._store.record(study_id) for study_id in ids])

        return self._current(Comparison, ("comparison", *ids), ids, work_out)

    def _current(self, kind: type[_T], key: tuple[str, ...], study_ids: Sequence[str], work_out: Callable[[], _T]) -> _T:
        with self._held(key) as kept:
            # Before the record is read: what changes in between is then worked out again, never missed.
            stamps = self._stamps(study_ids)
            if not isinstance(kept.value, kind) or kept.stamps != stamps:
                kept.value, kept.stamps = work_out(), stamps
            assert isinstance(kept.value, kind), "a key stands for one kind"
            return kept.value

    def _stamps(self, study_ids: Sequence[str]) -> _Stamps:
        found = self._store.stamps(study_ids)
        missing = next((study_id for study_id in study_ids if study_id not in found), None)
        if missing is not None:
            raise StudyNotFound(missing)
        return tuple(found[study_id] for study_id in study_ids)

    @contextmanager
    def _held(self, key: tuple[str, ...]) -> Generator[_Kept]:
        """Yield what is kept under a key, for this thread alone."""
        with self._guard:
            kept = self._kept.setdefault(key, _Kept())
            kept.users += 1
            self._kept.move_to_end(key)
        try:
            with kept.lock:
                yield kept
        finally:
            with self._guard:
                kept.users -= 1
                # What came to nothing, a study that does not exist above all, takes no room.
                if kept.users == 0 and kept.value is None:
                    del self._kept[key]
                idle = [other for other, one in self._kept.items() if one.users == 0]
                for other in idle[: max(0, len(self._kept) - self._limit)]:
                    del self._kept[other]
