"""Leases, sessions and heartbeats use the database's clock, whatever a machine's own clock says."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from simulated_dispatch import SimulatedDispatcher

from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.store.clock import now
from studies.trials import Claim

__all__: list[str] = []

pytestmark = pytest.mark.postgres

_ROOT = Path(__file__).parents[3]
# Found before the server's own function of the same name.
_SHIFTED = (
    "CREATE SCHEMA shifted",
    (
        "CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz RETURN "
        "pg_catalog.clock_timestamp() + interval '{hours} hours'"
    ),
    "ALTER DATABASE {name} SET search_path = public, shifted, pg_catalog",
)


@pytest.fixture(params=[-5, 5])
def play(
    request: pytest.FixtureRequest, postgres: PostgresServer, postgres_template: str
) -> Iterator[SimulatedDispatcher]:
    """A store on a database whose clock is hours ahead of, or behind, this machine's."""
    name = postgres.create(template=postgres_template)
    for statement in _SHIFTED:
        postgres.run(statement.format(hours=request.param, name=name), database=name)
    store = Store.open(postgres.url(name), migrate=False)
    with store._database.read() as connection:
        ahead = now(connection) - datetime.now(UTC)
    assert abs(ahead - timedelta(hours=request.param)) < timedelta(minutes=1)
    yield SimulatedDispatcher(store)
    store.close()
    postgres.drop(name)


def test_a_lease_lasts_as_long_as_requested_whatever_this_machines_clock_says(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    run.begin(0)
    play.store.settle_lapsed_leases()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    play.store.run_writer(run.claim, lease_s=0.3).renew()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    time.sleep(0.4)
    assert play.store.claim_next(dispatcher="there", lease_s=60) == Claim(run.claim.study_id, 2)


def test_a_stopped_study_waits_for_its_run(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert play.store.move(run.claim.study_id, StudyMove.STOP).state is StudyState.STOPPING
    run.lapse()
    play.store.settle_lapsed_leases()
    assert run.study.state is StudyState.COMPLETED


def test_heartbeats_are_converted_to_this_machines_clock(play: SimulatedDispatcher) -> None:
    play.store.heartbeat("here")
    for found in (play.store.dispatchers(), play.store.metrics_reader().snapshot().dispatchers):
        assert abs(datetime.now(UTC) - found["here"].at) < timedelta(seconds=30)
    play.submit()
    waited = play.store.metrics_reader().snapshot().queued_for_s
    assert waited is not None
    assert 0 <= waited < 30


def test_a_session_lasts_as_long_as_requested(play: SimulatedDispatcher) -> None:
    secret = play.store.create_token("alice", role="viewer")
    long, short = (
        play.store.log_in(secret, lifetime=timedelta(seconds=seconds), address=None) for seconds in (60, 0.2)
    )
    time.sleep(0.3)
    assert long is not None
    assert short is not None
    assert play.store.session_owner(long) is not None
    assert play.store.session_owner(short) is None


def test_events_are_in_order_though_machines_clocks_differ(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.complete(run.begin(0)[0], 0.5)
    run.writer.close(StudyMove.FINISH)
    study, trial = run.study, play.store.every_trial(run.claim.study_id)[0]
    assert study.started_at is not None
    assert (
        study.created_at
        <= study.started_at
        <= trial.created_at
        <= (trial.started_at or trial.created_at)
        <= (trial.ended_at or study.created_at)
    )
    times = [event.at for event in play.store.events(study.id)]
    assert times == sorted(times)


_ACT = """
import sys, time
from studies.store import Store
store = Store.open(sys.argv[1], migrate=False)
store.heartbeat(sys.argv[2])
store.settle_lapsed_leases()
claim = store.claim_next(dispatcher=sys.argv[2], lease_s=float(sys.argv[3]))
print(int(time.time()), None if claim is None else claim.attempt)
"""


@pytest.mark.clock
@pytest.mark.slow
def test_processes_whose_clocks_are_hours_apart_respect_each_others_leases(
    postgres: PostgresServer, postgres_template: str
) -> None:
    url = postgres.url(postgres.create(template=postgres_template))

    def act(hours: int, *, lease_s: float) -> str:
        command = [
            "faketime",
            "-f",
            f"{hours:+}h",
            sys.executable,
            "-c",
            _ACT,
            url,
            f"{hours:+}h",
            str(lease_s),
        ]
        output = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, cwd=_ROOT
        ).stdout.split()
        assert abs(int(output[0]) - time.time() - 3600 * hours) < 60, "the process must have a wrong clock"
        return output[1]

    store = Store.open(url, migrate=False)
    play = SimulatedDispatcher(store)
    play.submit()
    assert act(+3, lease_s=600) == "1"
    assert act(-3, lease_s=600) == "None"
    assert act(+9, lease_s=600) == "None"
    assert all(
        abs(datetime.now(UTC) - beat.at) < timedelta(minutes=1) for beat in store.dispatchers().values()
    )
    play.submit()
    assert act(-3, lease_s=0.1) == "1"
    assert act(-9, lease_s=600) == "2", "the lease must have lapsed"
    store.close()
