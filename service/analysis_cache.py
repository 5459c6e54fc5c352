"""Analyses on demand: worked out from the record when somebody asks.

They are kept until the record has changed, for API, dashboard and reports alike.
"""

__all__ = ["MAX_COMPARED", "MAX_IN_SUITE", "AnalysisCache", "RefreshBudget"]

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from service import errors
from service.analysis_pool import AnalysisPool, Job, ThreadAnalysisPool, Timed
from service.errors import HTTPProblem
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import StudyAnalysis
from studies.errors import Conflict, SpecInvalid, SpecProblem, StudyNotFound
from studies.store import Store

MAX_COMPARED = 16
"""Studies that one comparison may be of."""

MAX_IN_SUITE = 200
"""Studies that a suite may have to be analysed."""

_KEPT = 128
_THREADS = 6
_FILES = 2
# Of one caller: what callers have given up is worked out all the same.
_MOST_WAITING = 32
# What nobody has asked for since needs no part of the allowance.
_FORGOTTEN_AFTER_S = 60.0
_T = TypeVar("_T")
_Stamps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RefreshBudget:
    """How much of a processor's time may go into keeping things up to date while their studies run.

    Attributes:
        seconds: that may be spent at once on each.
        share: of a core, lastingly, on all together: each has an equal part of it. What takes a fifth of a
            second is then at most `0.2 / share` seconds old where one thing is asked for, and `2 / share`
            where ten are.
    """

    seconds: float = 0.5
    share: float = 0.15


@dataclass
class _Kept:
    """What was worked out last under one key.

    Attributes:
        lock: held while it is worked out, so that whoever asks meanwhile gets the same.
        users: how many hold or wait for the lock; guarded by the lock of all.
        stamps: version and last event of each study that the value comes from.
        value: what was worked out; meaningless while there are no stamps.
        is_kept_up: whether it had been worked out before, of a record that has changed since.
        left_s: what is left of its allowance.
        at_s: when that was so.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    stamps: _Stamps = ()
    value: Any = None
    is_kept_up: bool = False
    left_s: float = 0.0
    at_s: float = 0.0

    def may_be_older(self, stamps: _Stamps, allowance: RefreshBudget) -> bool:
        """Return whether the value, older than the record, may be given to whoever asks.

        What changes a study's state is never left out of it.
        """
        is_moved = [version for version, _ in self.stamps] != [version for version, _ in stamps]
        return not is_moved and self.left_s + allowance.share * (time.monotonic() - self.at_s) <= 0

    def spend(self, seconds: float, allowance: RefreshBudget) -> None:
        """Note that working it out took so long."""
        now = time.monotonic()
        before = (
            allowance.seconds
            if not self.stamps
            else min(allowance.seconds, self.left_s + allowance.share * (now - self.at_s))
        )
        self.is_kept_up = bool(self.stamps)
        self.left_s, self.at_s = before - seconds, now


class AnalysisCache:
    """Analyses of a store's studies.

    Safe to share between threads; each is worked out by one thread at a time, and again only after a change.

    While a study runs it changes every second, and a large one's analysis can take as long. So each has an
    allowance: once that is spent, whoever asks gets what was worked out last, which is then a little older
    than the record; but not after the study's state has changed.

    Args:
        store: where the record stands.
        kept: at most so many are kept, those asked for last.
        allowance: of all together.
        workshop: where they are worked out; by default in the threads of those who ask.
    """

    def __init__(
        self,
        store: Store,
        *,
        kept: int = _KEPT,
        allowance: RefreshBudget | None = None,
        pool: AnalysisPool | None = None,
    ) -> None:
        self._store = store
        self._limit = kept
        self._allowance = allowance or RefreshBudget()
        self._threads: anyio.CapacityLimiter | None = None
        # Touched by the event loop alone.
        self._waiting: Counter[str | None] = Counter()
        self._filing: anyio.CapacityLimiter | None = None
        self._pool = pool or ThreadAnalysisPool(store)
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()
        self._guard = threading.Lock()

    async def run_limited(self, work: Callable[[], _T], *, caller: str | None) -> _T:
        """Return what some work returns that may wait for an analysis, done in threads of their own.

        However many wait for a slow one, all other requests have theirs.

        Args:
            work: what is to be done.
            caller: the token of whoever asks; None on an open service, which has no limits.

        Raises:
            Refusal: so much of what this caller asked for waits already that others would have to.
        """
        if caller is not None and self._waiting[caller] >= _MOST_WAITING:
            detail = (
                f"{_MOST_WAITING} analyses, pages or reports for token {caller!r} are being "
                "worked out; wait for some of them"
            )
            raise HTTPProblem(errors.RATE_LIMITED, detail, headers={"retry-after": "1"})
        self._threads = self._threads or anyio.CapacityLimiter(_THREADS)
        self._waiting[caller] += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    async def run_file_job(self, work: Callable[[], _T]) -> _T:
        """Return what some work returns that puts a large file together.

        Two at a time, for each may hold all trials of a study in memory.
        """
        self._filing = self._filing or anyio.CapacityLimiter(_FILES)
        return await anyio.to_thread.run_sync(work, limiter=self._filing)

    def close(self) -> None:
        """End what is being worked out."""
        self._pool.close()

    def study(self, study_id: str) -> StudyAnalysis:
        """Return what a study's record says of its arms.

        Raises:
            StudyNotFound: there is none.
        """
        return self.get(("study", study_id), (study_id,), lambda: self.compute(partial(_of_study, study_id)))

    def suite(self, name: str) -> SuiteAnalysis:
        """Return what the studies of a suite say together.

        Raises:
            SuiteNotFound: no study has this label.
            Conflict: too many have it.
        """
        ids = self._store.study_ids_of_suite(name)
        if len(ids) > MAX_IN_SUITE:
            raise Conflict(
                f"suite {name!r} has {len(ids)} studies, and at most {MAX_IN_SUITE} are analysed "
                "together; give new ones another label"
            )
        return self.get(("suite", name, *ids), ids, lambda: self.compute(partial(_of_suite, name, ids)))

    def comparison(self, study_ids: Sequence[str]) -> Comparison:
        """Return the arms of several studies of one workload, side by side.

        Raises:
            StudyNotFound: one of them is none.
            SpecInvalid: they are fewer than two or more than `MAX_COMPARED`, one appears more than once, or
                their workloads differ.
        """
        ids = tuple(study_ids)
        twice = next((study_id for n, study_id in enumerate(ids) if study_id in ids[:n]), None)
        if twice is not None:
            raise SpecInvalid(
                [SpecProblem("/study", f"{twice!r} appears more than once; name each study once")]
            )
        if not 2 <= len(ids) <= MAX_COMPARED:
            raise SpecInvalid(
                [SpecProblem("/study", f"expected 2 to {MAX_COMPARED} studies to compare, got {len(ids)}")]
            )
        return self.get(("comparison", *ids), ids, lambda: self.compute(partial(_of_comparison, ids)))

    def compute(self, work: Job[_T]) -> Timed[_T]:
        """Return what some work makes of the record, in the workshop."""
        return self._pool.run(work)

    def get(self, key: tuple[str, ...], study_ids: Sequence[str], work_out: Callable[[], Timed[_T]]) -> _T:
        """Return what is worked out of these studies' record.

        It is kept under a key that stands for one kind of thing.

        Args:
            key: what it is kept under.
            study_ids: studies that it comes from.
            work_out: works it out, by `AnalysisCache.compute` in the end.

        Raises:
            StudyNotFound: one of them is none.
        """
        with self._held(key) as kept:
            # Before the record is read: what changes in between is then worked out again, never missed.
            stamps = self._stamps(study_ids)
            if kept.stamps != stamps and not kept.may_be_older(stamps, allowance := self._part()):
                worked = work_out()
                kept.spend(worked.seconds, allowance)
                kept.value, kept.stamps = worked.value, stamps
            return cast("_T", kept.value)

    def _part(self) -> RefreshBudget:
        """Return what one thing may have of what is allowed for all that are kept up to date now."""
        since = time.monotonic() - _FORGOTTEN_AFTER_S
        with self._guard:
            kept_up = sum(one.is_kept_up and one.at_s > since for one in self._kept.values())
        return replace(self._allowance, share=self._allowance.share / max(1, kept_up))

    def _stamps(self, study_ids: Sequence[str]) -> _Stamps:
        found = self._store.change_stamps(study_ids)
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
                if kept.users == 0 and not kept.stamps:
                    del self._kept[key]
                idle = [other for other, one in self._kept.items() if one.users == 0]
                for other in idle[: max(0, len(self._kept) - self._limit)]:
                    del self._kept[other]


def _of_study(study_id: str, store: Store) -> StudyAnalysis:
    # Here and below: statistics take a second to import, and a service that only submits and watches needs
    # none.
    from studies.analysis.analyse import analyse

    return analyse(store.study_record(study_id))


def _of_suite(name: str, study_ids: Sequence[str], store: Store) -> SuiteAnalysis:
    from studies.analysis.suite import analyse_suite

    return analyse_suite(name, [store.study_record(study_id) for study_id in study_ids])


def _of_comparison(study_ids: Sequence[str], store: Store) -> Comparison:
    from studies.analysis.compare import compare

    return compare([store.study_record(study_id) for study_id in study_ids])
