"""The analysis cache: one computation per change, and a limit in bytes."""

import gc
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
from simulated_dispatch import SimulatedDispatcher as Plays

from service.analysis_cache import AnalysisCache, RefreshBudget
from service.analysis_pool import Timed
from service.chosen_arms import MAX_COMPARED, ChosenArms
from service.dashboard.study_page import StudyPageQuery, study_html
from service.errors import HTTPProblem
from studies.actors import OPERATOR
from studies.analysis.views import StudyAnalysis
from studies.errors import SpecInvalid, StudyNotFound, SuiteNotFound
from studies.extension import Extension
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
SimulatedDispatcher = Callable[..., str]


@pytest.fixture
def analyses(store: Store) -> AnalysisCache:
    return AnalysisCache(store)


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the studies that were read completely, in order."""
    found: list[str] = []
    record = store.study_record

    def counted(study_id: str) -> Any:
        found.append(study_id)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", counted)
    return found


def test_an_analysis_is_computed_again_only_after_a_change(
    store: Store, analyses: AnalysisCache, reads: list[str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    first = analyses.study(study)
    assert analyses.study(study) is first
    assert reads == [study]
    store.move(study, StudyMove.PAUSE)
    assert analyses.study(study).state.value == "paused"
    assert reads == [study, study]


def test_a_finished_trial_is_a_change(
    analyses: AnalysisCache, reads: list[str], body: Body, play: SimulatedDispatcher, store: Store
) -> None:
    study = play(body | {"arms": ["adamp", "adamw"]}, confirm=3)
    assert {one.seeds for one in analyses.study(study).confirmed} == {3}
    reads.clear()
    store.extend(study, Extension(seeds=6))
    analyses.study(study)
    assert reads == [study]


def test_a_page_and_the_analysis_in_it_take_one_read(
    store: Store, analyses: AnalysisCache, reads: list[str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    study_html(store, analyses, study, StudyPageQuery(), reader=OPERATOR)
    analyses.study(study)
    assert reads == [study]


def test_concurrent_requests_share_one_computation(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = store.submit(parse_spec(body)).id
    analyses, record, reads = AnalysisCache(store), store.study_record, [0]

    def slow(study_id: str) -> Any:
        reads[0] += 1
        time.sleep(0.2)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", slow)
    found: list[StudyAnalysis] = []
    askers = [threading.Thread(target=lambda: found.append(analyses.study(study))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert reads == [1]
    assert len(found) == 8
    assert all(one is found[0] for one in found)


def test_analyses_of_different_studies_run_concurrently(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = (store.submit(parse_spec(body)).id for _ in range(2))
    analyses, record, may_go_on, has_begun = (
        AnalysisCache(store),
        store.study_record,
        threading.Event(),
        threading.Event(),
    )

    def waiting(study_id: str) -> Any:
        if study_id == slow:
            has_begun.set()
            assert may_go_on.wait(10)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", waiting)
    asker = threading.Thread(target=lambda: analyses.study(slow))
    asker.start()
    assert has_begun.wait(10)
    assert analyses.study(quick).study_id == quick
    may_go_on.set()
    asker.join()


def test_analyses_take_a_bounded_number_of_bytes_and_the_oldest_are_dropped_first(
    store: Store, reads: list[str], body: Body
) -> None:
    studies = [store.submit(parse_spec(body)).id for _ in range(4)]
    measure = AnalysisCache(store)
    for study in studies:
        measure.study(study)
    size = measure.size // 4
    analyses = AnalysisCache(store, max_bytes=3 * size + size // 2)
    for study in studies:
        analyses.study(study)
    assert 2 * size < analyses.size <= 3 * size + size // 2
    reads.clear()
    for study in studies[1:]:
        analyses.study(study)
    assert reads == []
    analyses.study(studies[0])
    assert reads == [studies[0]]


def test_an_analysis_above_the_limit_is_returned_but_not_kept(
    store: Store, reads: list[str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    analyses = AnalysisCache(store, max_bytes=1000)
    assert [analyses.study(study).study_id for _ in range(2)] == [study] * 2
    assert analyses.size == 0
    assert reads == [study] * 2


def test_an_analysis_above_the_limit_drops_no_other(store: Store, reads: list[str], body: Body) -> None:
    small, large = (store.submit(parse_spec(body)).id for _ in range(2))
    measure = AnalysisCache(store)
    measure.study(small)
    analyses = AnalysisCache(store, max_bytes=2 * measure.size)
    analyses.study(small)
    analyses.get(("page", large), (large,), lambda: Timed("x" * measure.size, 0.0))
    reads.clear()
    analyses.study(small)
    assert (reads, analyses.size) == ([], measure.size)


def test_the_estimated_size_is_near_the_memory_that_an_analysis_takes(
    store: Store, play: SimulatedDispatcher, body: Body
) -> None:
    study = play(body | {"budget": {"trials_per_arm": 50, "epochs": 2}}, confirm=3)
    analyses = AnalysisCache(store)
    content = analyses.study(study).model_dump_json()
    gc.collect()
    tracemalloc.start()
    try:
        copy = StudyAnalysis.model_validate_json(content)
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert copy.study_id == study
    assert memory / 2 < analyses.size < 2 * memory


def test_failed_computations_leave_no_entry(
    store: Store, analyses: AnalysisCache, reads: list[str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    analyses.study(study)
    for n in range(10):
        with pytest.raises(StudyNotFound):
            analyses.study(f"zzzzzzz{n}")
        with pytest.raises(StudyNotFound):
            analyses.comparison(ChosenArms.of([study, f"zzzzzzz{n}"]))
        with pytest.raises(SuiteNotFound):
            analyses.suite(f"none-{n}")
    assert analyses.study(study)
    assert reads == [study]


def test_a_new_study_changes_its_suite(store: Store, analyses: AnalysisCache, body: Body) -> None:
    first = store.submit(parse_spec(body | {"suite": "small"})).id
    before = analyses.suite("small")
    assert analyses.suite("small") is before
    second = store.submit(parse_spec(body | {"suite": "small", "workload": "char-lm"})).id
    assert [study.study_id for study in analyses.suite("small").studies] == [first, second]


def test_a_comparison_needs_two_to_sixteen_different_studies(
    store: Store, analyses: AnalysisCache, body: Body
) -> None:
    studies = [store.submit(parse_spec(body)).id for _ in range(2)]
    assert analyses.comparison(ChosenArms.of(studies)).workload == "digits-mlp"
    for wrong in ([], studies[:1], [studies[0], studies[0]], [f"study{n}" for n in range(MAX_COMPARED + 1)]):
        with pytest.raises(SpecInvalid):
            ChosenArms.of(wrong)


def test_an_expensive_analysis_may_be_stale_but_not_after_a_change_of_state(
    store: Store, reads: list[str], body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    spent, lavish = (
        AnalysisCache(store, budget=RefreshBudget(seconds=0.0, share=0.0)),
        AnalysisCache(store),
    )
    first = spent.study(study)
    assert lavish.study(study).study_id == study
    writer.report_progress()
    reads.clear()
    behind = spent.study(study)
    assert behind.age_s > 0
    assert behind.model_copy(update={"age_s": 0.0}) == first
    lavish.study(study)
    assert reads == [study]
    store.move(study, StudyMove.PAUSE)
    assert spent.study(study).state.value == "paused"


def test_refreshed_entries_share_one_budget(
    store: Store, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0, spent=0.0)

    def thread_time() -> float:
        # Every analysis takes a second.
        clock.spent += 1.0
        return clock.spent

    for module in ("cache_entry", "refreshing_cache"):
        monkeypatch.setattr(f"service.{module}.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("service.refreshing_cache._BRIEF_S", 30.0)
    monkeypatch.setattr("service.analysis_pool.time", SimpleNamespace(thread_time=thread_time))
    analyses = AnalysisCache(store, budget=RefreshBudget(seconds=0.0, share=0.5))
    runs = [Plays(store).run() for _ in range(2)]
    one, two = (run.claim.study_id for run in runs)
    numbers = iter(range(100))

    def is_read_again_after(seconds: float, *studies: str) -> bool:
        clock.now += seconds
        number = next(numbers)
        for run in runs:
            run.begin(number)
        reads.clear()
        for study in studies:
            analyses.study(study)
        return bool(reads)

    assert is_read_again_after(0.0, one)
    assert not is_read_again_after(1.9, one)
    assert is_read_again_after(0.2, one)
    assert is_read_again_after(0.0, two)
    assert is_read_again_after(2.2, one, two)
    assert not is_read_again_after(3.9, one, two), "two entries share the budget of one"
    assert is_read_again_after(0.2, one, two)


def test_callers_that_wait_for_an_analysis_block_no_other_threads(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = store.submit(parse_spec(body)).id
    analyses, record, may_go_on = AnalysisCache(store), store.study_record, threading.Event()

    def waiting(study_id: str) -> Any:
        assert may_go_on.wait(30)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", waiting)
    found: list[str] = []

    async def ask() -> None:
        found.append(await analyses.run_limited(lambda: analyses.study(study).study_id, caller=None))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            # More than a service has threads.
            for _ in range(60):
                tasks.start_soon(ask)
            with anyio.fail_after(10):
                await anyio.to_thread.run_sync(store.ping)
            assert not found
            may_go_on.set()

    anyio.run(main)
    assert found == [study] * 60


def test_the_waiting_work_of_one_caller_is_bounded(analyses: AnalysisCache) -> None:
    may_go_on, refused, done = threading.Event(), list[HTTPProblem](), list[str]()

    async def ask(caller: str | None) -> None:
        try:
            await analyses.run_limited(lambda: may_go_on.wait(30), caller=caller)
            done.append(str(caller))
        except HTTPProblem as refusal:
            refused.append(refusal)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for caller in ["ada"] * 40 + [None] * 40 + ["bob"]:
                tasks.start_soon(ask, caller)
            await anyio.sleep(0.1)
            may_go_on.set()
        await ask("ada")

    anyio.run(main)
    assert [(refusal.status_code, refusal.headers) for refusal in refused] == [
        (429, {"retry-after": "1"})
    ] * 8
    assert Counter(done) == {"ada": 33, "None": 40, "bob": 1}


def test_two_jobs_run_at_a_time(store: Store, body: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [store.submit(parse_spec(body)).id for _ in range(4)]
    analyses, record, at_work, seen, lock = (
        AnalysisCache(store),
        store.study_record,
        list[str](),
        set[int](),
        threading.Lock(),
    )

    def slow(study_id: str) -> Any:
        with lock:
            at_work.append(study_id)
            seen.add(len(at_work))
        time.sleep(0.05)
        with lock:
            at_work.remove(study_id)
        return record(study_id)

    monkeypatch.setattr(store, "study_record", slow)

    def page(study_id: str) -> str:
        return study_html(store, analyses, study_id, StudyPageQuery(), reader=OPERATOR).value

    with ThreadPoolExecutor(16) as pool:
        pages = [pool.submit(page, study_id) for study_id in studies * 2]
        verdicts = [pool.submit(analyses.study, study_id) for study_id in studies * 2]
        assert all(study_id in shown.result(30) for study_id, shown in zip(studies * 2, pages, strict=True))
        assert [verdict.result(30).study_id for verdict in verdicts] == studies * 2
    assert max(seen) == 2


class Slow:
    """Reads of whole studies that wait until they are released.

    Attributes:
        begun: how many reads have begun.
    """

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hold every read of a store from now on."""
        self.begun = threading.Semaphore(0)
        self._may_go_on = threading.Event()
        record = store.study_record

        def held(study_id: str) -> Any:
            self.begun.release()
            assert self._may_go_on.wait(30)
            return record(study_id)

        monkeypatch.setattr(store, "study_record", held)

    def release(self) -> None:
        """Let every read go on."""
        self._may_go_on.set()


def timed(analyses: AnalysisCache, study: str) -> tuple[StudyAnalysis, float]:
    """Return an analysis as a request gets it, and how many seconds that took."""

    async def ask() -> tuple[StudyAnalysis, float]:
        began = time.monotonic()
        found = await analyses.run_limited(lambda: analyses.study(study), caller=None)
        return found, time.monotonic() - began

    return anyio.run(ask)


def until_current(analyses: AnalysisCache, study: str) -> StudyAnalysis:
    """Ask for an analysis until it is current, and return it."""
    deadline = time.monotonic() + 20
    while (found := analyses.study(study)).age_s:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_last_analysis_is_returned_with_its_age_while_a_new_one_is_computed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, analyses = Plays(store).run(), AnalysisCache(store)
    study = run.claim.study_id
    first = analyses.study(study)
    assert first.age_s == 0
    slow = Slow(store, monkeypatch)
    run.complete(run.begin(0)[0], 0.9)
    starter, waited = timed(analyses, study)
    assert slow.begun.acquire(timeout=10)
    assert waited < 5, "the request that starts the computation waits for it briefly"
    after = [timed(analyses, study)[0] for _ in range(10)]
    assert all(found.model_copy(update={"age_s": 0.0}) == first for found in (starter, *after))
    assert 0 < starter.age_s <= after[-1].age_s
    assert not slow.begun.acquire(blocking=False), "they share one computation"
    slow.release()
    assert until_current(analyses, study) != first


def test_requests_that_wait_for_a_first_analysis_delay_no_others(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, analyses = Plays(store).run(), AnalysisCache(store)
    known, unknown = run.claim.study_id, store.submit(parse_spec(body)).id
    analyses.study(known)
    slow = Slow(store, monkeypatch)
    run.begin(0)
    found: list[str] = []

    async def ask(study: str) -> None:
        found.append((await analyses.run_limited(lambda: analyses.study(study), caller=None)).study_id)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            # More than the cache has threads.
            for _ in range(20):
                tasks.start_soon(ask, unknown)
            await anyio.to_thread.run_sync(slow.begun.acquire)
            with anyio.fail_after(5):
                for _ in range(20):
                    await ask(known)
            assert found == [known] * 20
            slow.release()

    anyio.run(main)
    assert found[20:] == [unknown] * 20


def test_the_analysis_of_a_closed_study_is_current(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Plays(store).run()
    study, analyses = run.claim.study_id, AnalysisCache(store)
    analyses.study(study)
    slow = Slow(store, monkeypatch)
    run.begin(0)
    assert timed(analyses, study)[0].age_s > 0
    assert slow.begun.acquire(timeout=10)
    run.writer.close(StudyMove.FINISH)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(timed, analyses, study), pool.submit(analyses.study, study)]
        time.sleep(0.5)
        assert not any(one.done() for one in asked), "a computation that began before is not enough"
        slow.release()
        found = [asked[0].result(20)[0], asked[1].result(20)]
    assert [(one.state.value, one.age_s) for one in found] == [("completed", 0.0)] * 2


@pytest.mark.parametrize("ask", [timed, lambda analyses, study: (analyses.study(study), 0.0)])
def test_the_wait_for_a_first_analysis_is_bounded(
    store: Store, body: Body, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any]
) -> None:
    monkeypatch.setattr("service.refreshing_cache._MAX_WAIT_S", 0.2)
    study, analyses = store.submit(parse_spec(body)).id, AnalysisCache(store)
    slow = Slow(store, monkeypatch)
    with pytest.raises(HTTPProblem) as refused:
        ask(analyses, study)
    assert refused.value.kind.slug == "analysis-pending"
    assert refused.value.headers == {"retry-after": "5"}
    slow.release()
    monkeypatch.setattr("service.refreshing_cache._MAX_WAIT_S", 20.0)
    assert ask(analyses, study)[0].study_id == study
    # Its computation went on after the refusal, and was the only one.
    assert [slow.begun.acquire(blocking=False) for _ in range(2)] == [True, False]


def test_an_analysis_that_fails_is_not_replaced_by_ever_older_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, analyses = Plays(store).run(), AnalysisCache(store)
    study = run.claim.study_id
    analyses.study(study)

    def fail(_study_id: str) -> Any:
        raise ValueError("a fault")

    monkeypatch.setattr(store, "study_record", fail)
    run.begin(0)

    def ask_until_it_fails() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            timed(analyses, study)

    with pytest.raises(ValueError, match="a fault"):
        ask_until_it_fails()
