"""Analyses, cached until their studies change, for the API, the dashboard and reports."""

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
from pydantic_core import to_json

from service import errors
from service.analysis_pool import AnalysisPool, Job, ThreadAnalysisPool, Timed
from service.errors import HTTPProblem
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import StudyAnalysis
from studies.errors import Conflict, SpecInvalid, SpecProblem, StudyNotFound
from studies.store import Store

MAX_COMPARED = 16
"""The most studies in one comparison."""

MAX_IN_SUITE = 200
"""The most studies in a suite that is analysed."""

_MAX_BYTES = 256 * 2**20
# A key, a lock and the bookkeeping of an entry.
_ENTRY_BYTES = 2048
# Measured: an analysis takes twelve times the bytes of its JSON, a page with its charts five times.
_OBJECT_OVERHEAD = 12
_THREADS = 6
_FILE_THREADS = 2
# Per caller: a job runs to its end even if the caller has gone.
_MAX_WAITING = 32
# An entry that was not refreshed for so long needs no part of the budget.
_IDLE_AFTER_S = 60.0
_T = TypeVar("_T")
_Stamps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RefreshBudget:
    """The processor time that may be spent on keeping analyses of running studies up to date.

    Attributes:
        seconds: that an entry may spend at once.
        share: of a core, sustained, of all entries together; each gets an equal part. An analysis that
            takes 0.2 s is at most `0.2 / share` seconds old if it is the only one, and `2 / share` if there
            are ten.
    """

    seconds: float = 0.5
    share: float = 0.15


@dataclass
class _Entry:
    """The last value computed for a key.

    Attributes:
        lock: held while the value is computed, so that concurrent callers get the same value.
        users: how many threads hold or wait for the lock; guarded by the cache's lock.
        stamps: version and last event of each study at the time of the value; empty before the first value.
        value: the value.
        size: its estimated bytes.
        is_refreshed: whether it was computed again after a change.
        budget_left_s: what is left of its budget.
        budget_at_s: when that was so.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    stamps: _Stamps = ()
    value: Any = None
    size: int = 0
    is_refreshed: bool = False
    budget_left_s: float = 0.0
    budget_at_s: float = 0.0

    def may_be_stale(self, stamps: _Stamps, budget: RefreshBudget) -> bool:
        """Return whether the value may be returned although its studies have changed.

        It may if the budget is spent, but never after a change of a study's state.
        """
        has_new_state = [version for version, _ in self.stamps] != [version for version, _ in stamps]
        left_s = self.budget_left_s + budget.share * (time.monotonic() - self.budget_at_s)
        return not has_new_state and left_s <= 0

    def spend(self, seconds: float, budget: RefreshBudget) -> None:
        """Subtract the time of one computation from the budget."""
        now = time.monotonic()
        left_s = (
            min(budget.seconds, self.budget_left_s + budget.share * (now - self.budget_at_s))
            if self.stamps
            else budget.seconds
        )
        self.is_refreshed = bool(self.stamps)
        self.budget_left_s, self.budget_at_s = left_s - seconds, now


class AnalysisCache:
    """Analyses of a store's studies. Safe to share between threads.

    One thread computes a value while others wait for it, and it is computed again only after a change.

    A running study changes every second, and the analysis of a large one can take as long. So each entry has
    a budget. Once it is spent, callers get the last value, slightly stale, unless a study's state has
    changed.

    Args:
        store: the studies.
        max_bytes: the most memory that the values may take, estimated; those unused for longest are dropped
            first, and a larger value is not kept.
        budget: of all entries together.
        pool: where analyses are computed; by default in the threads of the callers.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_bytes: int = _MAX_BYTES,
        budget: RefreshBudget | None = None,
        pool: AnalysisPool | None = None,
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._budget = budget or RefreshBudget()
        self._threads: anyio.CapacityLimiter | None = None
        # Only the event loop uses it.
        self._waiting: Counter[str | None] = Counter()
        self._file_threads: anyio.CapacityLimiter | None = None
        self._pool = pool or ThreadAnalysisPool(store)
        self._entries: OrderedDict[tuple[str, ...], _Entry] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    @property
    def size(self) -> int:
        """The estimated bytes of all values."""
        return self._bytes

    async def run_limited(self, work: Callable[[], _T], *, caller: str | None) -> _T:
        """Run work that may wait for an analysis in threads of its own, and return its result.

        However many requests wait for a slow analysis, other requests still get a thread.

        Args:
            work: the work.
            caller: name of the caller's token; None on an open service, which has no limits.

        Raises:
            HTTPProblem: too much work of this caller is waiting already.
        """
        if caller is not None and self._waiting[caller] >= _MAX_WAITING:
            detail = (
                f"token {caller!r} already waits for {_MAX_WAITING} analyses, pages or reports; "
                "wait until some are done"
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
        """Run work that assembles a large file, and return its result.

        Two run at a time, because each may hold all trials of a study in memory.
        """
        self._file_threads = self._file_threads or anyio.CapacityLimiter(_FILE_THREADS)
        return await anyio.to_thread.run_sync(work, limiter=self._file_threads)

    def close(self) -> None:
        """End the computations that are under way."""
        self._pool.close()

    def study(self, study_id: str) -> StudyAnalysis:
        """Return the analysis of a study; raise StudyNotFound if there is none."""
        return self.get(
            ("study", study_id), (study_id,), lambda: self.compute(partial(_analyse_study, study_id))
        )

    def suite(self, name: str) -> SuiteAnalysis:
        """Return the analysis of a suite.

        Raises:
            SuiteNotFound: no study has this label.
            Conflict: more than `MAX_IN_SUITE` studies have it.
        """
        ids = self._store.study_ids_of_suite(name)
        if len(ids) > MAX_IN_SUITE:
            raise Conflict(
                f"suite {name!r} has {len(ids)} studies, and at most {MAX_IN_SUITE} are analysed "
                "together; give new studies another label"
            )
        return self.get(("suite", name, *ids), ids, lambda: self.compute(partial(_analyse_suite, name, ids)))

    def comparison(self, study_ids: Sequence[str]) -> Comparison:
        """Return the arms of several studies of one workload, side by side.

        Raises:
            StudyNotFound: one of the studies does not exist.
            SpecInvalid: there are fewer than two or more than `MAX_COMPARED` studies, one appears twice, or
                their workloads differ.
        """
        ids = tuple(study_ids)
        repeated = next((study_id for n, study_id in enumerate(ids) if study_id in ids[:n]), None)
        if repeated is not None:
            raise SpecInvalid(
                [SpecProblem("/study", f"{repeated!r} appears more than once; name each study once")]
            )
        if not 2 <= len(ids) <= MAX_COMPARED:
            raise SpecInvalid(
                [SpecProblem("/study", f"expected 2 to {MAX_COMPARED} studies to compare, got {len(ids)}")]
            )
        return self.get(("comparison", *ids), ids, lambda: self.compute(partial(_compare, ids)))

    def compute(self, job: Job[_T]) -> Timed[_T]:
        """Run a job in the pool and return its result with its processor time."""
        return self._pool.run(job)

    def get(self, key: tuple[str, ...], study_ids: Sequence[str], compute: Callable[[], Timed[_T]]) -> _T:
        """Return the cached value of a key, computed again if its studies have changed.

        Args:
            key: identifies the value.
            study_ids: the studies that it depends on.
            compute: computes it, by way of `AnalysisCache.compute`.

        Raises:
            StudyNotFound: one of the studies does not exist.
        """
        with self._locked(key) as entry:
            # Read before the studies: a change in between causes one more computation, and is never missed.
            stamps = self._stamps(study_ids)
            if entry.stamps != stamps and not entry.may_be_stale(stamps, budget := self._budget_per_entry()):
                computed = compute()
                entry.spend(computed.seconds, budget)
                entry.value, entry.stamps = computed.value, stamps
                self._resize(entry, _estimated_bytes(computed.value))
            return cast("_T", entry.value)

    def _budget_per_entry(self) -> RefreshBudget:
        """Return the part of the budget that each recently refreshed entry gets."""
        since = time.monotonic() - _IDLE_AFTER_S
        with self._guard:
            refreshed = sum(e.is_refreshed and e.budget_at_s > since for e in self._entries.values())
        return replace(self._budget, share=self._budget.share / max(1, refreshed))

    def _stamps(self, study_ids: Sequence[str]) -> _Stamps:
        found = self._store.change_stamps(study_ids)
        missing = next((study_id for study_id in study_ids if study_id not in found), None)
        if missing is not None:
            raise StudyNotFound(missing)
        return tuple(found[study_id] for study_id in study_ids)

    def _resize(self, entry: _Entry, size: int) -> None:
        with self._guard:
            self._bytes += size - entry.size
            entry.size = size

    @contextmanager
    def _locked(self, key: tuple[str, ...]) -> Generator[_Entry]:
        """Yield the entry of a key to this thread alone, and drop entries above the limit afterwards."""
        with self._guard:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            with entry.lock:
                yield entry
        finally:
            with self._guard:
                entry.users -= 1
                # A failed computation, for example of a study that does not exist, leaves no entry. A value
                # above the limit is dropped before others are: they would all have to go for it.
                if entry.users == 0 and (not entry.stamps or entry.size > self._max_bytes):
                    self._drop(key)
                for other in [key for key, entry in self._entries.items() if entry.users == 0]:
                    if self._bytes <= self._max_bytes:
                        break
                    self._drop(other)

    def _drop(self, key: tuple[str, ...]) -> None:
        self._bytes -= self._entries.pop(key).size


def _estimated_bytes(value: object) -> int:
    """Return about how much memory a value takes: `_OBJECT_OVERHEAD` times its size as JSON."""
    return _ENTRY_BYTES + _OBJECT_OVERHEAD * len(to_json(value, fallback=str, inf_nan_mode="strings"))


def _analyse_study(study_id: str, store: Store) -> StudyAnalysis:
    # Imported here and below: statistics take a second to import, and a service that only accepts and shows
    # studies does not need them.
    from studies.analysis.analyse import analyse

    return analyse(store.study_record(study_id))


def _analyse_suite(name: str, study_ids: Sequence[str], store: Store) -> SuiteAnalysis:
    from studies.analysis.suite import analyse_suite

    return analyse_suite(name, [store.study_record(study_id) for study_id in study_ids])


def _compare(study_ids: Sequence[str], store: Store) -> Comparison:
    from studies.analysis.compare import compare

    return compare([store.study_record(study_id) for study_id in study_ids])
