"""A PostgreSQL server that is killed, frozen or restarted: calls time out, acknowledged writes survive."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from catalogs import catalog, study_body
from invariants import ClientView, broken
from postgres_server import PostgresServer, postgres_server
from simulated_dispatch import SimulatedDispatcher, SimulatedRun

from studies.errors import StoreUnavailable
from studies.spec import parse_spec
from studies.store import Store, postgres_liveness

__all__: list[str] = []

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A durable server for this file only, which the tests kill and freeze."""
    with postgres_server(synchronous_commit="on") as started:
        yield started


@pytest.fixture
def play(server: PostgresServer) -> Iterator[SimulatedDispatcher]:
    """A store in a new database on that server."""
    store = Store.open(server.url(server.create()))
    store.announce(catalog(), dispatcher="here")
    yield SimulatedDispatcher(store)
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe a silent server after a tenth of the usual time."""
    monkeypatch.setattr(postgres_liveness, "_PROBE_AFTER_S", 0.2)
    monkeypatch.setattr(postgres_liveness, "_PROBE_TIMEOUT_S", 0.3)


def given_up(call: Callable[[], object]) -> float:
    """Return the seconds until a call raises StoreUnavailable."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    return time.monotonic() - began


def sleep(store: Store, seconds: float) -> None:
    """Keep the server busy with one statement."""
    with store._database.read() as connection:
        connection.exec_driver_sql(f"SELECT pg_sleep({seconds})")


def test_a_killed_server_is_reported_at_once_and_the_first_call_after_its_restart_succeeds(
    server: PostgresServer, play: SimulatedDispatcher
) -> None:
    run = play.run()
    view = ClientView()
    view.accepted(run.study)
    run.complete(run.begin(0)[0], 0.9)
    view.saw(play.store.every_trial(run.claim.study_id))
    server.kill()
    assert given_up(play.store.ping) < 2
    assert given_up(play.submit) < 2
    server.start()
    assert run.study.progress.completed == 1
    run.complete(run.begin(1)[0], 0.8)
    assert broken(play.store, view) == []


def test_the_first_call_after_an_unnoticed_restart_succeeds(
    server: PostgresServer, play: SimulatedDispatcher
) -> None:
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: play.store.ping(), range(5)))
    server.kill()
    server.start()
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: play.store.heartbeat("here"), range(5)))


@pytest.mark.usefixtures("impatient")
def test_a_frozen_server_is_noticed_during_and_before_a_statement(
    server: PostgresServer, play: SimulatedDispatcher
) -> None:
    run = play.run()
    run.begin(0)
    with ThreadPoolExecutor(5) as pool:
        # The pool has idle connections, and one in use.
        list(pool.map(lambda _: play.store.ping(), range(4)))
        sleeping = pool.submit(given_up, lambda: sleep(play.store, 60.0))
        time.sleep(0.2)
        server.freeze()
        try:
            calls = [
                play.store.ping,
                run.writer.renew,
                play.submit,
                lambda: play.store.copy_to_optuna(run.claim.study_id),
            ]
            waits = [*pool.map(given_up, calls), sleeping.result()]
        finally:
            server.thaw()
    # Connecting takes its timeout of 2 s.
    assert max(waits) < 4
    assert run.writer.renew().value == "running"
    assert broken(play.store) == []


@pytest.mark.usefixtures("impatient")
def test_a_slow_statement_is_waited_for(play: SimulatedDispatcher) -> None:
    sleep(play.store, 1.0)


@pytest.mark.usefixtures("impatient")
def test_waiting_for_a_lock_is_not_an_outage(play: SimulatedDispatcher) -> None:
    run = play.run()
    with ThreadPoolExecutor(1) as pool:
        with play.store._database.write() as connection:
            connection.exec_driver_sql("SELECT 1 FROM study FOR UPDATE")
            renewed = pool.submit(run.writer.renew)
            time.sleep(1.0)
            assert not renewed.done()
        assert renewed.result(5).value == "running"


def test_connecting_to_a_port_that_accepts_nothing_times_out_after_seconds() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as deaf:
        port = deaf.getsockname()[1]
        # The kernel accepts connections up to its backlog and then none, as if the network were cut.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        assert given_up(lambda: Store.open(f"postgresql://ada@127.0.0.1:{port}/name")) < 8
        for one in waiting:
            one.close()


def test_all_threads_that_wait_for_a_returning_server_are_answered(
    server: PostgresServer, play: SimulatedDispatcher
) -> None:
    server.kill()
    with ThreadPoolExecutor(20) as pool:
        assert max(pool.map(given_up, [play.store.ping] * 20)) < 3
        server.start()
        list(pool.map(lambda _: play.store.ping(), range(20)))


T = TypeVar("T")


def persist(call: Callable[[], T]) -> T:
    """Retry a call until the database is available, and return its result."""
    while True:
        try:
            return call()
        except StoreUnavailable:
            time.sleep(0.1)


def work(play: SimulatedDispatcher, view: ClientView, is_over: threading.Event) -> None:
    """Submit studies and complete trials, retrying each step until it is acknowledged, as clients and
    runs do.
    """
    n = 0
    while not is_over.is_set():
        key = f"{threading.get_ident()}-{n}"
        study = persist(
            lambda key=key: play.store.submit(parse_spec(study_body(arms=["adamp"])), idempotency_key=key)
        )
        view.accepted(study)
        claim = persist(lambda: play.store.claim_next(dispatcher="here", lease_s=60))
        if claim is not None:
            run = SimulatedRun(play.store, claim, play.store.run_writer(claim, lease_s=60))
            trial = persist(lambda run=run: run.create(0))[0]
            persist(lambda run=run, trial=trial: run.writer.start([trial]))
            persist(lambda run=run, trial=trial: run.complete(trial, 0.5))
            view.saw([persist(lambda run=run, trial=trial: run.trial(trial))])
        n += 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_acknowledged_writes_survive_twenty_kills_and_freezes(
    server: PostgresServer, play: SimulatedDispatcher
) -> None:
    chance = random.Random(7)
    view, is_over = ClientView(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, play, view, is_over) for _ in range(3)]
        for n in range(20):
            time.sleep(chance.uniform(0.2, 1.5))
            if n % 2:
                server.freeze()
                time.sleep(chance.uniform(0.5, 6.0))
                server.thaw()
            else:
                server.kill()
                time.sleep(chance.uniform(0.0, 1.0))
                server.start()
        time.sleep(1.0)
        is_over.set()
        for each in working:
            each.result(60)
    assert len(view.finished) > 20
    assert broken(play.store, view) == []
