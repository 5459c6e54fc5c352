"""Analyses, cached until their studies change, for the API, the dashboard and reports."""

__all__ = ["MAX_IN_SUITE", "AnalysisCache", "RefreshBudget"]

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from service import errors
from service.analysis_pool import AnalysisPool, Job, ThreadAnalysisPool, Timed
from service.cache_entry import Aged, Key, RefreshBudget
from service.chosen_arms import ChosenArms
from service.errors import HTTPProblem
from service.refreshing_cache import RefreshingCache
from service.verdict_phrases import VerdictPhrases
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.power_views import StudyPower
from studies.analysis.views import StudyAnalysis
from studies.errors import Conflict
from studies.store import Store

MAX_IN_SUITE = 200
"""The most studies in a suite that is analysed."""

_MAX_BYTES = 256 * 2**20
_THREADS = 6
_FILE_THREADS = 2
# Per caller: a job runs to its end even if the caller has gone.
_MAX_WAITING = 32
_T = TypeVar("_T")
_Analysis = TypeVar("_Analysis", StudyAnalysis, SuiteAnalysis, Comparison)


class AnalysisCache(RefreshingCache):
    """Analyses of a store's studies, each with its age. Safe to share between threads.

    Attributes:
        phrases: their verdicts in a phrase.

    Args:
        store: the studies.
        max_bytes: the most memory that the values may take, estimated.
        budget: of all analyses together.
        pool: where analyses are computed; by default in threads of this process.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_bytes: int = _MAX_BYTES,
        budget: RefreshBudget | None = None,
        pool: AnalysisPool | None = None,
    ) -> None:
        super().__init__(store, max_bytes=max_bytes, budget=budget or RefreshBudget())
        self._threads: anyio.CapacityLimiter | None = None
        # Only the event loop uses it.
        self._waiting: Counter[str | None] = Counter()
        self._file_threads: anyio.CapacityLimiter | None = None
        self._pool = pool or ThreadAnalysisPool(store)
        self.phrases = VerdictPhrases(store, self.study)

    async def run_limited(self, work: Callable[[], _T], *, caller: str | None) -> _T:
        """Run work that uses analyses in threads of its own, and return its result.

        However many requests wait for slow analyses, other requests still get a thread. While it waits, the
        work holds none; afterwards it starts again.

        Args:
            work: the work.
            caller: name of the caller's token; None on an open service, which has no limits.

        Raises:
            HTTPProblem: too much work of this caller is waiting already, or a first analysis was not ready in
                time.
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
            return await self.run(work, limiter=self._threads)
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
        super().close()
        self._pool.close()

    def study(self, study_id: str, *, is_patient: bool = False) -> StudyAnalysis:
        """Return the analysis of a study.

        Args:
            study_id: the study.
            is_patient: wait for an analysis that is being computed, also if there is an older one.

        Raises:
            StudyNotFound: the study does not exist.
        """
        return _with_age(
            self.get(
                _study_key(study_id),
                (study_id,),
                lambda: self.compute(partial(_analyse_study, study_id)),
                is_patient=is_patient,
            )
        )

    def current_study(self, study_id: str) -> StudyAnalysis | None:
        """Return the analysis of a study if there is one and the study has not changed since, else None.

        Raises:
            StudyNotFound: the study does not exist.
        """
        return self.current(_study_key(study_id), (study_id,))

    def compute_with_study(self, study_id: str, job: Job[tuple[_T, StudyAnalysis]]) -> Timed[_T]:
        """Run a job that analyses a study on its way, and keep this analysis with its result."""
        computed = self.compute(job)
        value, analysis = computed.value
        return Timed(value, computed.seconds, {_study_key(study_id): analysis})

    def power(self, study_id: str) -> StudyPower:
        """Return what a study could have detected by its paired trials.

        Raises:
            StudyNotFound: the study does not exist.
        """
        job = partial(_power_of_study, study_id)
        return self.get(("power", study_id), (study_id,), lambda: self.compute(job)).value

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
        return _with_age(
            self.get(("suite", name, *ids), ids, lambda: self.compute(partial(_analyse_suite, name, ids)))
        )

    def comparison(self, chosen: ChosenArms) -> Comparison:
        """Return arms of one workload, side by side.

        Raises:
            StudyNotFound: one of the studies does not exist.
            SpecInvalid: one of the arms does not exist, or the workloads of the studies differ.
        """
        key, job = ("comparison", *chosen.key), partial(_compare, chosen)
        return _with_age(self.get(key, chosen.studies, lambda: self.compute(job)))

    def compute(self, job: Job[_T]) -> Timed[_T]:
        """Run a job in the pool and return its result with its processor time."""
        return self._pool.run(job)


def _study_key(study_id: str) -> Key:
    return "study", study_id


def _with_age(found: Aged[_Analysis]) -> _Analysis:
    """Return an analysis that states its age."""
    if not found.age_s:
        return found.value
    # Rounded up, because 0 means that the analysis is current.
    return found.value.model_copy(update={"age_s": math.ceil(10 * found.age_s) / 10})


def _analyse_study(study_id: str, store: Store) -> StudyAnalysis:
    # Imported here and below: statistics take a second to import, and a service that only accepts and shows
    # studies does not need them.
    from studies.analysis.analyse import analyse

    return analyse(store.study_record(study_id))


def _power_of_study(study_id: str, store: Store) -> StudyPower:
    from studies.analysis.power import study_power

    return study_power(store.study_record(study_id))


def _analyse_suite(name: str, study_ids: Sequence[str], store: Store) -> SuiteAnalysis:
    from studies.analysis.suite import analyse_suite

    return analyse_suite(name, [store.study_record(study_id) for study_id in study_ids])


def _compare(chosen: ChosenArms, store: Store) -> Comparison:
    from studies.analysis.compare import compare

    return compare([store.study_record(study_id) for study_id in chosen.studies], chosen=chosen.arms)
