"""Analyses in a pool of processes: the same results as in threads, and no process left behind."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_servers import process, wait_until_it_answers
from ports import free_port

from service.analysis_cache import AnalysisCache
from service.analysis_pool import ProcessAnalysisPool
from service.chosen_arms import ChosenArms
from service.dashboard.study_page import StudyPageQuery, study_html
from service.settings import ServiceSettings
from studies.actors import OPERATOR
from studies.errors import SpecInvalid, StudyNotFound, TangentError
from studies.store import Store

__all__: list[str] = []

Play = Callable[..., str]


@pytest.fixture
def pool(settings: ServiceSettings) -> Iterator[ProcessAnalysisPool]:
    """A pool of processes that read the store."""
    made = ProcessAnalysisPool(settings.database_url)
    yield made
    made.close()


def test_another_process_computes_the_same_result(
    store: Store, pool: ProcessAnalysisPool, play: Play, body: dict[str, Any]
) -> None:
    first, second = (play(body | {"suite": "small", "seed": seed}) for seed in (1, 2))
    in_threads, in_processes = AnalysisCache(store), AnalysisCache(store, pool=pool)
    assert in_processes.study(first) == in_threads.study(first)
    assert in_processes.suite("small") == in_threads.suite("small")
    chosen = ChosenArms.of([first], [f"{second}.adamw"])
    assert in_processes.comparison(chosen) == in_threads.comparison(chosen)
    page = partial(study_html, store, study_id=first, query=StudyPageQuery(), reader=OPERATOR)
    assert page(analyses=in_processes) == page(analyses=in_threads)


@pytest.mark.usefixtures("store")
def test_a_pool_leaves_the_environment_of_its_service_as_it_is(
    pool: ProcessAnalysisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    assert pool.run(safe_path).value
    assert dict(os.environ) == before


def safe_path(_store: Store) -> bool:
    """Return whether the interpreter leaves out the working directory."""
    return sys.flags.safe_path


def fails(error: TangentError, _store: Store) -> None:
    """Raise an error of the domain."""
    raise error


def test_an_error_comes_back_as_it_was_raised(
    store: Store, pool: ProcessAnalysisPool, play: Play, body: dict[str, Any]
) -> None:
    with pytest.raises(StudyNotFound) as raised:
        pool.run(partial(fails, StudyNotFound("nosuch")))
    assert str(raised.value) == str(StudyNotFound("nosuch"))
    studies = [play(body), play(body | {"workload": "char-lm"})]
    with pytest.raises(SpecInvalid, match="studies of one workload") as refused:
        AnalysisCache(store, pool=pool).comparison(ChosenArms.of(studies))
    assert [problem.pointer for problem in refused.value.problems] == ["/study"]


def dies_once(mark: Path, _store: Store) -> str:
    """Kill the process, but only once."""
    if mark.exists():
        return "lived"
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead")


def dies(_store: Store) -> None:
    """Kill the process."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("store")
def test_a_job_of_a_killed_process_is_run_once_more(pool: ProcessAnalysisPool, tmp_path: Path) -> None:
    assert pool.run(partial(dies_once, tmp_path / "mark")).value == "lived"
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        pool.run(dies)
    assert pool.run(partial(dies_once, tmp_path / "mark")).value == "lived", "later jobs must still run"


@pytest.mark.usefixtures("store")
def test_a_closed_pool_leaves_no_process(pool: ProcessAnalysisPool, tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    pool.run(partial(dies_once, tmp_path / "mark"))
    children = multiprocessing.active_children()
    assert children
    pool.close()
    for child in children:
        child.join(10)
    assert not multiprocessing.active_children()


def lingers(mark: Path, _store: Store) -> None:
    """Create a file and run for a long time."""
    with mark.open("a") as file:
        file.write("begun\n")
    time.sleep(600)


@pytest.mark.usefixtures("store")
def test_a_closed_pool_starts_no_jobs(pool: ProcessAnalysisPool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with ThreadPoolExecutor(1) as callers:
        asked = callers.submit(pool.run, partial(lingers, mark))
        deadline = time.monotonic() + 30
        while not mark.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pool.close()
        assert isinstance(asked.exception(timeout=10), BrokenProcessPool)
    with pytest.raises(BrokenProcessPool, match="closed"):
        pool.run(dies)
    assert mark.read_text() == "begun\n"


def test_nothing_of_a_service_outlives_its_kill(
    settings: ServiceSettings, play: Play, body: dict[str, Any], tmp_path: Path
) -> None:
    study, port = play(body), free_port()
    with process(tmp_path, TANGENT_DATABASE_URL=settings.database_url, TANGENT_PORT=str(port)) as service:
        wait_until_it_answers(port)
        assert httpx.get(f"http://127.0.0.1:{port}/studies/{study}", timeout=60).status_code == 200
        of_service = {
            pid
            for task in Path(f"/proc/{service.pid}/task").glob("*/children")
            for pid in task.read_text().split()
        }
        assert of_service, "the pool must have computed the page's analysis"
        service.kill()
        service.wait()
        deadline = time.monotonic() + 30
        while any(
            Path(f"/proc/{pid}/status").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text()
            for pid in of_service
        ):
            assert time.monotonic() < deadline, "the processes must end with their service"
            time.sleep(0.05)
