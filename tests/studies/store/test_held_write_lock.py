"""A SQLite database whose write lock another process holds: writers give up in time, readers go on."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from simulated_dispatch import SimulatedDispatcher

from studies.errors import StoreUnavailable
from studies.states import TrialState
from studies.store import Store

__all__: list[str] = []

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

WRITERS = 20


@contextmanager
def held_lock(url: str) -> Iterator[None]:
    """Hold the write lock, as another process's long transaction does."""
    other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def given_up(call: Callable[[], object]) -> float:
    """Return after how many seconds a call reports that the database cannot be written."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="database is locked"):
        call()
    return time.monotonic() - began


def test_writers_that_wait_together_wait_no_longer_than_one(database_url: str) -> None:
    store = Store.open(database_url, lock_wait_s=0.5)
    with held_lock(database_url), ThreadPoolExecutor(WRITERS) as pool:
        waits = list(pool.map(lambda _: given_up(lambda: store.heartbeat("here")), range(WRITERS)))
        assert store.studies().total == 0
    assert 0.4 < min(waits) <= max(waits) < 2
    store.heartbeat("here")
    store.close()


def test_a_reader_is_authenticated_without_a_wait_and_its_use_is_recorded_later(store: Store) -> None:
    secret = store.create_token("ada", role="viewer")
    with held_lock(store._database._engine.url.render_as_string()):
        began = time.monotonic()
        found = store.authenticate(secret)
        assert time.monotonic() - began < 1
        assert found is not None
        assert store.token("ada").last_used_at is None
    assert store.authenticate(secret) is not None
    assert store.token("ada").last_used_at is not None


def test_a_lease_that_could_not_be_renewed_is_not_lost(
    database_url: str, play: SimulatedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.store.dispatching._RENEWAL_S", 1.0)
    run = play.run()
    (flying,) = run.begin(0)
    run.lapse()
    service, dispatcher = Store.open(database_url), Store.open(database_url)
    settling = [
        threading.Thread(target=service.settle_lapsed_leases),
        threading.Thread(target=lambda: dispatcher.claim_next(dispatcher="there", lease_s=60)),
    ]
    with held_lock(database_url):
        for one in settling:
            one.start()
        time.sleep(1.0)
    for one in settling:
        one.join()
    assert (run.trial(flying).state, run.trial(flying).attempt) == (TrialState.RUNNING, 1)
    assert run.writer.renew().value == "running"
    # A run that does not renew although it could is lost as ever.
    run.lapse()
    time.sleep(1.0)
    service.settle_lapsed_leases()
    assert (run.trial(flying).state, run.trial(flying).attempt) == (TrialState.QUEUED, 2)
    for one in (service, dispatcher):
        one.close()
