"""Studies on PostgreSQL, with a real dispatcher and Ray, while runs are killed and the server is away."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process, until
from invariants import ClientView, broken
from postgres_server import PostgresServer, postgres_server
from processes import is_alive

from studies.states import StudyState, TrialState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """This file's own server, which keeps whatever it has acknowledged."""
    with postgres_server(synchronous_commit="on") as started:
        yield started


@pytest.fixture(scope="module")
def there(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DispatcherProcess]:
    """A dispatcher on that server."""
    with dispatcher_process(
        tmp_path_factory.mktemp("cluster"), database=server.url(server.create())
    ) as running:
        yield running


def test_a_study_on_postgresql_survives_the_death_of_its_run(there: DispatcherProcess) -> None:
    told = ClientView()
    rungs = {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}
    study_id = there.submit(
        "slow-plane", arms=["adamp", "sgd"], trials=3, epochs=4, pruner=rungs, confirmation={"seeds": 1}
    )
    told.accepted(there.store.study(study_id))
    until(
        lambda: any(t.is_waiting or t.epochs_done > 1 for t in there.store.every_trial(study_id)),
        what="trials at their rung",
    )
    told.saw(there.store.every_trial(study_id))
    os.kill(there.run_of(study_id), signal.SIGKILL)
    study = there.closed(study_id)
    told.saw(there.store.every_trial(study_id, phase=None))
    assert (study.state, study.progress.finished, study.progress.failed) == (StudyState.COMPLETED, 6, 0)
    assert study.progress.confirmations_finished >= 2
    assert broken(there.store, told) == []


def _kill(server: PostgresServer) -> None:
    server.kill()
    time.sleep(1.0)
    server.start()


def _kill_for_long(server: PostgresServer) -> None:
    server.kill()
    time.sleep(12.0)
    server.start()


def _freeze(server: PostgresServer) -> None:
    server.freeze()
    time.sleep(2.0)
    server.thaw()


def _freeze_for_long(server: PostgresServer) -> None:
    server.freeze()
    time.sleep(15.0)
    server.thaw()


@pytest.mark.slow
@pytest.mark.parametrize("fail", [_kill, _kill_for_long, _freeze, _freeze_for_long])
def test_a_study_survives_an_outage_of_its_database(
    there: DispatcherProcess, server: PostgresServer, fail: Callable[[PostgresServer], None]
) -> None:
    told = ClientView()
    study_id = there.submit(
        "slow-plane", arms=["adamp", "sgd"], trials=4, resources={"max_pack_size": 1}, max_retries=3
    )
    told.accepted(there.store.study(study_id))
    until(lambda: there.store.study(study_id).progress.completed >= 1, what="a completed trial")
    told.saw(there.store.every_trial(study_id))
    fail(server)
    study = there.closed(study_id)
    told.saw(there.store.every_trial(study_id))
    assert study.state is StudyState.COMPLETED
    assert {t.state for t in there.store.every_trial(study_id)} == {TrialState.COMPLETED}
    assert broken(there.store, told) == []
    assert is_alive(there.pid), "the dispatcher has waited"
