"""A run whose database fails while it closes its study, and a run whose Ray does not answer."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from catalogs import catalog
from commit_faults import lost_answers
from invariants import broken
from postgres_server import postgres_server
from running import Running

from studies.errors import StoreUnavailable, Superseded
from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.trials import Claim
from workers.study_run import StudyRun

__all__: list[str] = []


def trained(store: Store, *, lease_s: float = 600.0) -> tuple[Running, StudyRun]:
    """Return a study whose trials have all ended, and the run that is about to close it."""
    running = Running(store)
    running.train_all(value=lambda _trial, _epoch: 0.5)
    return running, _run(store, running.claim, lease_s=lease_s)


def _run(store: Store, claim: Claim, *, lease_s: float) -> StudyRun:
    return StudyRun(
        store,
        claim,
        lease_s=lease_s,
        checkpoints="/nowhere",
        artifacts="/nowhere",
        machines="here",
        turn_s=60.0,
    )


def test_a_study_is_closed_once_even_if_the_answer_is_lost(store: Store) -> None:
    running, run = trained(store)
    with lost_answers(store, count=1):
        assert run._close(running.scheduler, StudyState.RUNNING) is StudyState.COMPLETED
    assert broken(store) == []


def test_a_superseded_run_cannot_close_its_study(store: Store) -> None:
    running, run = trained(store)
    store.release(running.claim)
    running.claim_next()
    with pytest.raises(Superseded):
        run._close(running.scheduler, StudyState.RUNNING)
    running.close()
    with pytest.raises(Superseded):
        run._close(running.scheduler, StudyState.RUNNING)


@pytest.mark.postgres
def test_a_run_waits_for_its_database_to_close_its_study_but_no_longer_than_a_lease() -> None:
    with postgres_server(synchronous_commit="on") as server:
        store = Store.open(server.url(server.create()))
        store.announce(catalog(), dispatcher="here")
        running, run = trained(store)
        server.kill()
        back = threading.Timer(1.0, server.start)
        back.start()
        assert run._close(running.scheduler, StudyState.RUNNING) is StudyState.COMPLETED
        back.join()
        assert broken(store) == []
        impatient = trained(store, lease_s=0.5)
        server.kill()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            impatient[1]._close(impatient[0].scheduler, StudyState.RUNNING)
        assert time.monotonic() - began < 5
        server.start()
        store.close()


def test_a_run_stuck_in_ray_exits_once_its_study_is_stopped(store: Store, tmp_path: Path) -> None:
    running = Running(store)
    program = f"""
import time
import workers.study_run
from studies.store import Store
from studies.trials import Claim
workers.study_run._END_WITHIN_S = 0.5
run = workers.study_run.StudyRun(
    Store.open("sqlite:///{tmp_path}/tangent.db", migrate=False),
    Claim({running.claim.study_id!r}, {running.claim.attempt}), lease_s=60.0,
    checkpoints="/nowhere", artifacts="/nowhere", machines="here", turn_s=60.0,
    count_slots=lambda cpus, gpus: time.sleep(600) or 1,
)
print("begun", flush=True)
run.carry_out()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as stuck:
        assert stuck.stdout is not None
        assert stuck.stdout.readline() == "begun\n"
        store.move(running.study.id, StudyMove.STOP)
        assert stuck.wait(30) == 1
    store.release(running.claim)
    assert store.study(running.study.id).state is StudyState.COMPLETED
