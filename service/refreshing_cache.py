"""Values computed from studies, kept until the studies change and then computed again in the background.

A value that is behind is returned with its age, so that a page does not wait while a new one is computed.
Two kinds of values are waited for: the first one, and one that a study which has closed meanwhile needs.
"""

__all__ = ["RefreshingCache"]

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from service import errors
from service.analysis_pool import Timed
from service.cache_entry import Aged, Computed, Entry, Job, Key, RefreshBudget, Stamps, estimated_bytes
from service.errors import HTTPProblem
from studies.errors import StoreUnavailable, StudyNotFound
from studies.store import Store

_T = TypeVar("_T")

# More than the processes of a pool, because a job may wait for another study's job.
_JOB_THREADS = 4
# An entry that was not refreshed for this long needs no part of the budget.
_IDLE_AFTER_S = 60.0
# The longest wait for a value that a response requires.
_MAX_WAIT_S = 30.0
# How long the caller that starts a refresh waits for it: briefly, and longer if the value is old or from
# another state of its study.
_BRIEF_S = 0.3
_OLD_S = 30.0
_PATIENT_S = 5.0


@dataclass
class _Waits:
    """The waits of one request, which hold no thread.

    Attributes:
        began: when the request began.
        found: the values that it has waited for, by key; None where there was none in time.
    """

    began: float
    found: dict[Key, Computed | None] = field(default_factory=dict[Key, Computed | None])


class _Pending(Exception):
    """A request has to wait for a job.

    Attributes:
        key: the key of the job's entry.
        entry: the entry.
        job: the job.
        timeout_s: the longest wait.
        is_required: whether the response requires the value, so that an error of the job is its own.
        may_be_late: whether the response can do without the value if it is not ready in time.
    """

    def __init__(
        self, key: Key, entry: Entry, job: Job, *, timeout_s: float, is_required: bool, may_be_late: bool
    ) -> None:
        super().__init__(key)
        self.key = key
        self.entry = entry
        self.job = job
        self.timeout_s = timeout_s
        self.is_required = is_required
        self.may_be_late = may_be_late


_waits: ContextVar[_Waits | None] = ContextVar("waits", default=None)
_thread = threading.local()


class RefreshingCache:
    """Values of a store's studies. Safe to share between threads.

    A running study changes every second, and an analysis of a large one can take as long. So each entry has a
    budget of processor time, and while that is spent its value stays as it is, unless a study's state
    changes. Of several callers that need the same value, the first starts a job and the others share it.

    Args:
        store: the studies.
        max_bytes: the most memory that the values may take, estimated; those unused for longest are dropped
            first, and a larger value is not kept.
        budget: of all entries together.
    """

    def __init__(self, store: Store, *, max_bytes: int, budget: RefreshBudget) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._budget = budget
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()
        self._jobs = ThreadPoolExecutor(_JOB_THREADS, thread_name_prefix="analysis")

    @property
    def size(self) -> int:
        """The estimated bytes of all values."""
        return self._bytes

    def close(self) -> None:
        """Start no more jobs."""
        self._jobs.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], _T], *, limiter: anyio.CapacityLimiter) -> _T:
        """Run work that uses values in a thread, and return its result.

        Where it has to wait for a value, the thread is released, and the work starts again afterwards.

        Raises:
            HTTPProblem: a value that the response requires was not ready in time.
        """
        waits = _Waits(time.monotonic())
        token = _waits.set(waits)
        try:
            while True:
                try:
                    return await anyio.to_thread.run_sync(work, limiter=limiter)
                except _Pending as pending:
                    await _wait(pending, waits)
        finally:
            _waits.reset(token)

    def get(
        self,
        key: Key,
        study_ids: Sequence[str],
        compute: Callable[[], Timed[_T]],
        *,
        is_patient: bool = False,
    ) -> Aged[_T]:
        """Return the value of a key with its age; start to compute it again if its studies have changed.

        Args:
            key: identifies the value.
            study_ids: the studies that it depends on.
            compute: computes it.
            is_patient: wait for a value that is being computed, also if there is an older one.

        Raises:
            StudyNotFound: one of the studies does not exist.
            HTTPProblem: a value that the response requires was not ready in time.
        """
        found = self._get(key, study_ids, compute, is_patient=is_patient, wait_s=None)
        assert found is not None, "without a limit there is a value or an error"
        return found

    def get_soon(
        self, key: Key, study_ids: Sequence[str], compute: Callable[[], Timed[_T]], *, wait_s: float
    ) -> Aged[_T] | None:
        """Return the value of a key as `get` does, or None if there is none to show after a wait.

        Meanwhile the value is computed, for the next call.

        Args:
            key: identifies the value.
            study_ids: the studies that it depends on.
            compute: computes it.
            wait_s: the longest wait.

        Raises:
            StudyNotFound: one of the studies does not exist.
        """
        return self._get(key, study_ids, compute, is_patient=False, wait_s=wait_s)

    def _get(
        self,
        key: Key,
        study_ids: Sequence[str],
        compute: Callable[[], Timed[_T]],
        *,
        is_patient: bool,
        wait_s: float | None,
    ) -> Aged[_T] | None:
        waits = _waits.get()
        asked_at = time.monotonic() if waits is None else waits.began
        with self._pinned(key) as entry:
            if getattr(_thread, "is_job", False):
                # In this thread, because a job that waited for jobs without a thread could wait for ever.
                return Aged(self._compute(entry, study_ids, compute), 0.0)
            stamps = self._stamps(study_ids)
            waited = None if waits is None else waits.found.get(key)

            def found() -> Computed | None:
                known = [one for one in (entry.last, waited) if one is not None]
                return max(known, key=lambda one: one.read_at, default=None)

            def is_current(one: Computed) -> bool:
                return one.stamps == stamps or one.read_at >= asked_at

            def refresh() -> None:
                self._wait_for_job(
                    key, entry, study_ids, compute, stamps=stamps, is_patient=is_patient, wait_s=wait_s
                )

            last, has_refreshed = found(), waits is not None and key in waits.found
            while last is None or (not is_current(last) and last.lacks_closed(stamps)):
                if wait_s is not None and has_refreshed:
                    return None
                refresh()
                last, has_refreshed = found(), True
            has_waited = waits is not None and key in waits.found
            if not is_current(last) and not has_waited:
                is_due = entry.is_due(stamps, self._budget_per_entry())
                if is_due or (is_patient and entry.job is not None):
                    refresh()
                    last = found() or last
            return Aged(last.value, 0.0 if is_current(last) else time.monotonic() - last.read_at)

    def _wait_for_job(
        self,
        key: Key,
        entry: Entry,
        study_ids: Sequence[str],
        compute: Callable[[], Timed[Any]],
        *,
        stamps: Stamps,
        is_patient: bool,
        wait_s: float | None,
    ) -> None:
        """Have a new value computed, and wait for it as long as the last one allows.

        Raises:
            HTTPProblem: the response requires the value, and it was not ready in time.
        """
        last = entry.last
        is_required = last is None or last.lacks_closed(stamps)
        job, is_new = self._start(key, entry, study_ids, compute)
        if is_required and wait_s is not None:
            timeout_s = wait_s
        elif last is None or is_required or is_patient:
            timeout_s = _MAX_WAIT_S
        elif not is_new:
            return
        else:
            is_old = last.has_other_state(stamps) or time.monotonic() - last.read_at > _OLD_S
            timeout_s = min(_PATIENT_S if is_old else _BRIEF_S, math.inf if wait_s is None else wait_s)
        if _waits.get() is not None:
            raise _Pending(
                key, entry, job, timeout_s=timeout_s, is_required=is_required, may_be_late=wait_s is not None
            )
        try:
            error = job.result(timeout_s)
        except TimeoutError:
            error = None if wait_s is not None else _not_ready()
        if error is not None and is_required:
            raise error

    def _start(
        self, key: Key, entry: Entry, study_ids: Sequence[str], compute: Callable[[], Timed[Any]]
    ) -> tuple[Job, bool]:
        """Return the job that computes an entry, and whether it was started by this call."""
        with self._guard:
            if entry.job is not None:
                return entry.job, False
            entry.job = self._jobs.submit(self._work, key, entry, tuple(study_ids), compute)
            entry.users += 1
            return entry.job, True

    def _work(
        self, key: Key, entry: Entry, study_ids: Sequence[str], compute: Callable[[], Timed[Any]]
    ) -> Exception | None:
        """Compute an entry in a thread of jobs, and return the error of a failure."""
        _thread.is_job = True
        try:
            self._compute(entry, study_ids, compute)
        except StoreUnavailable as error:
            return error
        except Exception as error:  # noqa: BLE001 # raised by those who wait
            # So that the next caller gets the error and not an ever older value.
            self._replace(entry, None)
            return error
        finally:
            with self._guard:
                entry.job = None
                self._unpin(key, entry)
        return None

    def _compute(self, entry: Entry, study_ids: Sequence[str], compute: Callable[[], Timed[_T]]) -> _T:
        """Return the current value of an entry, computed in this thread if its studies have changed."""
        with entry.lock:
            # Read before the studies: a change in between causes one more computation, and is never missed.
            read_at, stamps = time.monotonic(), self._stamps(study_ids)
            if entry.last is not None and entry.last.stamps == stamps:
                entry.last = replace(entry.last, read_at=read_at)
                return cast("_T", entry.last.value)
            outer_s, _thread.inner_s = getattr(_thread, "inner_s", 0.0), 0.0
            computed = compute()
            # A value that is made from another one pays for both.
            seconds = computed.seconds + _thread.inner_s
            _thread.inner_s = outer_s + seconds
            entry.spend(seconds, self._budget_per_entry())
            self._replace(entry, Computed(computed.value, stamps, read_at, estimated_bytes(computed.value)))
        for key, value in computed.further.items():
            with self._pinned(key) as other, other.lock:
                if other.last is None or other.last.read_at < read_at:
                    self._replace(other, Computed(value, stamps, read_at, estimated_bytes(value)))
        return computed.value

    def current(self, key: Key, study_ids: Sequence[str]) -> Any | None:
        """Return the value of a key if its studies have not changed since it was computed, else None."""
        with self._guard:
            entry = self._entries.get(key)
            last = None if entry is None else entry.last
        return last.value if last is not None and last.stamps == self._stamps(study_ids) else None

    def last(self, key: Key) -> Aged[Any] | None:
        """Return the last value of a key, however old, without computing one; None if there is none."""
        with self._guard:
            entry = self._entries.get(key)
            last = None if entry is None else entry.last
        return None if last is None else Aged(last.value, time.monotonic() - last.read_at)

    def _replace(self, entry: Entry, computed: Computed | None) -> None:
        with self._guard:
            self._bytes += self._kept_bytes(computed) - self._kept_bytes(entry.last)
            entry.last = computed

    def _budget_per_entry(self) -> RefreshBudget:
        """Return the part of the budget that each recently refreshed entry gets."""
        since = time.monotonic() - _IDLE_AFTER_S
        with self._guard:
            refreshed = sum(e.is_refreshed and e.budget_at_s > since for e in self._entries.values())
        return replace(self._budget, share=self._budget.share / max(1, refreshed))

    def _stamps(self, study_ids: Sequence[str]) -> Stamps:
        found = self._store.change_stamps(study_ids)
        missing = next((study_id for study_id in study_ids if study_id not in found), None)
        if missing is not None:
            raise StudyNotFound(missing)
        return tuple(found[study_id] for study_id in study_ids)

    @contextmanager
    def _pinned(self, key: Key) -> Generator[Entry]:
        """Yield the entry of a key, which stays in the cache meanwhile."""
        with self._guard:
            entry = self._entries.setdefault(key, Entry())
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            yield entry
        finally:
            with self._guard:
                self._unpin(key, entry)

    def _unpin(self, key: Key, entry: Entry) -> None:
        """Release an entry, and drop entries above the limit. The caller holds the cache's lock."""
        entry.users -= 1
        # A failed computation, for example of a study that does not exist, leaves no entry. A value above the
        # limit is not kept: all others would have to go for it.
        if entry.users == 0 and (entry.last is None or entry.last.size > self._max_bytes):
            self._drop(key)
        for other in [key for key, entry in self._entries.items() if entry.users == 0]:
            if self._bytes <= self._max_bytes:
                break
            self._drop(other)

    def _drop(self, key: Key) -> None:
        self._bytes -= self._kept_bytes(self._entries.pop(key).last)

    def _kept_bytes(self, computed: Computed | None) -> int:
        return 0 if computed is None or computed.size > self._max_bytes else computed.size


async def _wait(pending: _Pending, waits: _Waits) -> None:
    """Wait for a job without holding a thread.

    Raises:
        HTTPProblem: the response requires the value, and it was not ready in time.
    """
    loop, has_ended = asyncio.get_running_loop(), asyncio.Event()

    def end(_job: Job) -> None:
        # The loop may have been closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(has_ended.set)

    pending.job.add_done_callback(end)
    error: Exception | None
    try:
        async with asyncio.timeout(min(pending.timeout_s, waits.began + _MAX_WAIT_S - time.monotonic())):
            await has_ended.wait()
        error = pending.job.result()
    except TimeoutError:
        error = None if pending.may_be_late else _not_ready()
    waits.found[pending.key] = pending.entry.last
    if error is not None and pending.is_required:
        raise error


def _not_ready() -> HTTPProblem:
    return HTTPProblem(errors.ANALYSIS_PENDING, errors.ANALYSIS_PENDING.example, headers={"retry-after": "5"})
