"""Many processes use one database at once: none sees a locked database, and nothing is lost."""

import json
import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from catalogs import catalog
from simulated_dispatch import SimulatedDispatcher

from studies.states import StudyMove, StudyState
from studies.store import Store

__all__: list[str] = []

CLAIMERS = 6


def in_processes(count: int, do: Callable[..., Any], *arguments: Any) -> Sequence[str | None]:
    """Run `do(n, *arguments)` in that many processes; return the traceback of each, or None."""
    # Forked: importing everything again would take longer than the test, and no connection is open here.
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_run, args=(pipes[n][1], do, n, *arguments), daemon=True) for n in range(count)
    ]
    for process in processes:
        process.start()
    results = [reader.recv() if reader.poll(60) else "no result" for reader, _ in pipes]
    for process in processes:
        process.join(10)
    return results


def _run(pipe: Connection, do: Callable[..., Any], *arguments: Any) -> None:
    try:
        do(*arguments)
        pipe.send(None)
    except BaseException:  # noqa: BLE001 # the test looks at it
        pipe.send(traceback.format_exc())


def open_and_close(_: int, url: str) -> None:
    Store.open(url).close()


def play_studies(n: int, url: str) -> None:
    store = Store.open(url)
    store.announce(catalog(), dispatcher=f"d{n}")
    play = SimulatedDispatcher(store)
    for _ in range(2):
        play.submit(budget={"trials_per_arm": 3, "epochs": 2})
    while (claim := store.claim_next(dispatcher=f"d{n}", lease_s=60)) is not None:
        run = play.of(claim)
        for trial in run.begin(0, 1, 2):
            run.writer.renew()
            run.complete(trial, 0.5 + trial.number / 10)
            run.writer.report_progress()
        run.writer.close(StudyMove.FINISH)
        store.copy_to_optuna(claim.study_id)
    store.close()


def claim_all(n: int, url: str, folder: str) -> None:
    store = Store.open(url, migrate=False)
    (Path(folder) / f"{n}.ready").touch()
    while len(list(Path(folder).glob("*.ready"))) < CLAIMERS:
        time.sleep(0.01)
    found: list[tuple[str, int]] = []
    quiet = 0
    # Of two claims at the same moment one may find nothing although studies are left.
    while quiet < 5:
        claim = store.claim_next(dispatcher=f"d{n}", lease_s=60)
        quiet = quiet + 1 if claim is None else 0
        found += [] if claim is None else [(claim.study_id, claim.attempt)]
    (Path(folder) / f"{n}.claims").write_text(json.dumps(found))
    store.close()


def test_concurrent_processes_claim_each_study_once(empty_url: str, tmp_path: Path) -> None:
    store = Store.open(empty_url)
    store.announce(catalog(), dispatcher="here")
    submitted = {SimulatedDispatcher(store).submit() for _ in range(24)}
    store.close()
    assert list(in_processes(CLAIMERS, claim_all, empty_url, str(tmp_path))) == [None] * CLAIMERS
    claims = [claim for file in tmp_path.glob("*.claims") for claim in json.loads(file.read_text())]
    assert sorted(claims) == sorted([study_id, 1] for study_id in submitted)


def test_processes_can_create_a_database_together(empty_url: str) -> None:
    assert list(in_processes(6, open_and_close, empty_url)) == [None] * 6
    store = Store.open(empty_url)
    assert store.studies().total == 0
    store.close()


def test_eight_processes_can_write_to_one_database(empty_url: str) -> None:
    assert list(in_processes(8, play_studies, empty_url)) == [None] * 8
    store = Store.open(empty_url)
    page = store.studies(page_size=50)
    assert page.total == 16
    assert {study.state for study in page.items} == {StudyState.COMPLETED}
    for study in page.items:
        assert (study.progress.completed, study.progress.running) == (3, 0)
        events = store.events(study.id)
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        assert len(events) == 2 + 3 * 3 + 2
        assert store.copy_to_optuna(study.id) == 0, "every trial must be copied"
    store.close()
