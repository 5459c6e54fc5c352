"""Studies on PostgreSQL, with a real dispatcher and Ray, while runs are killed and the server is down."""

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
    """A durable server for this file only."""
    with postgres_server(synchronous_commit="on") as started:
        yield started


@pytest.fixture(scope="module")
def own_dispatcher(
    server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DispatcherProcess]:
    """A dispatcher on that server."""
    with dispatcher_process(
        tmp_path_factory.mktemp("cluster"), database=server.url(server.create())
    ) as running:
        yield running


def test_a_study_on_postgresql_survives_the_death_of_its_run(own_dispatcher: DispatcherProcess) -> None:
    client = ClientView()
    rungs = {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}
    study_id = own_dispatcher.submit(
        "slow-plane", arms=["adamp", "sgd"], trials=3, epochs=4, pruner=rungs, confirmation={"seeds": 1}
    )
    client.accepted(own_dispatcher.store.study(study_id))
    until(
        lambda: any(t.is_waiting or t.epochs_done > 1 for t in own_dispatcher.store.every_trial(study_id)),
        what="trials at their rung",
    )
    client.saw(own_dispatcher.store.every_trial(study_id))
    os.kill(own_dispatcher.run_of(study_id), signal.SIGKILL)
    study = own_dispatcher.closed(study_id)
    client.saw(own_dispatcher.store.every_trial(study_id, phase=None))
    assert (study.state, study.progress.finished, study.progress.failed) == (StudyState.COMPLETED, 6, 0)
    assert study.progress.confirmations_finished >= 2
    assert broken(own_dispatcher.store, client) == []


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
    own_dispatcher: DispatcherProcess, server: PostgresServer, fail: Callable[[PostgresServer], None]
) -> None:
    client = ClientView()
    study_id = own_dispatcher.submit(
        "slow-plane", arms=["adamp", "sgd"], trials=4, resources={"max_pack_size": 1}, max_retries=3
    )
    client.accepted(own_dispatcher.store.study(study_id))
    until(lambda: own_dispatcher.store.study(study_id).progress.completed >= 1, what="a completed trial")
    client.saw(own_dispatcher.store.every_trial(study_id))
    fail(server)
    study = own_dispatcher.closed(study_id)
    client.saw(own_dispatcher.store.every_trial(study_id))
    assert study.state is StudyState.COMPLETED
    assert {t.state for t in own_dispatcher.store.every_trial(study_id)} == {TrialState.COMPLETED}
    assert broken(own_dispatcher.store, client) == []
    assert is_alive(own_dispatcher.pid), "the dispatcher must survive the outage"
