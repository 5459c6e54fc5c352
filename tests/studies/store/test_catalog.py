"""Announced cards and dispatchers' heartbeats."""

import threading
from datetime import UTC, datetime, timedelta

from catalogs import catalog

from studies.catalog import BrokenPackage, Catalog
from studies.store import Store

__all__: list[str] = []


def test_announced_cards_are_in_the_catalog_by_name(store: Store) -> None:
    assert store.catalog() == Catalog(
        optimizers=dict(sorted(catalog().optimizers.items())),
        workloads=dict(sorted(catalog().workloads.items())),
    )
    assert list(store.catalog().workloads) == ["char-lm", "digits-mlp"]


def test_the_catalog_is_empty_at_first(empty_url: str) -> None:
    store = Store.open(empty_url)
    assert store.catalog() == Catalog()
    assert store.dispatchers() == {}
    store.close()


def test_a_newer_card_replaces_the_older_one(store: Store) -> None:
    newer = catalog().optimizers["adamp"].model_copy(update={"title": "AdamP, newer"})
    own = catalog().workloads["char-lm"].model_copy(update={"name": "my-own"})
    store.announce(Catalog(optimizers={"adamp": newer}, workloads={"my-own": own}), dispatcher="there")
    cards = store.catalog()
    assert cards.optimizers["adamp"] == newer
    assert cards.optimizers["adamw"] == catalog().optimizers["adamw"], "other cards must stay"
    assert list(cards.workloads) == ["char-lm", "digits-mlp", "my-own"]


def test_a_dispatcher_is_listed_until_it_signs_off(store: Store) -> None:
    store.heartbeat("here")
    first = store.dispatchers()["here"].at
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
    store.heartbeat("here")
    store.heartbeat("there", problem="no Ray\0")
    heartbeats = store.dispatchers()
    assert set(heartbeats) == {"here", "there"}
    assert heartbeats["here"].at > first
    assert [heartbeats[name].problem for name in ("here", "there")] == [None, "no Ray?"]
    store.heartbeat("there")
    assert store.dispatchers()["there"].problem is None
    store.sign_off("here")
    store.sign_off("nobody")
    assert set(store.dispatchers()) == {"there"}
    assert store.catalog().optimizers, "its cards stay: studies can be submitted and wait"


def test_a_broken_package_is_listed_until_its_dispatcher_announces_without_it_or_signs_off(
    store: Store,
) -> None:
    broken = BrokenPackage(
        kind="workload", package="own 1.0", entry_point="moons = own:MOONS", error="ImportError: \0"
    )
    stored = broken.model_copy(update={"error": "ImportError: ?"})
    for dispatcher in ("here", "there", "there"):
        store.announce(Catalog(broken=(broken,)), dispatcher=dispatcher)
        assert store.catalog().broken == (stored,), "each once"
    store.announce(Catalog(), dispatcher="here")
    assert store.catalog().broken == (stored,)
    store.sign_off("there")
    assert store.catalog().broken == ()
    assert store.catalog().workloads, "cards stay"


def test_dispatchers_that_start_together_announce_the_same_cards(empty_url: str) -> None:
    Store.open(empty_url).close()
    raised: list[BaseException] = []
    barrier = threading.Barrier(6)
    cards = catalog()
    # In another order: updating the same rows in different orders could deadlock.
    turned = Catalog(
        optimizers=dict(reversed(cards.optimizers.items())), workloads=dict(reversed(cards.workloads.items()))
    )

    def announce(n: int) -> None:
        store = Store.open(empty_url, migrate=False)
        barrier.wait()
        try:
            for _ in range(5):
                store.announce(turned if n % 2 else cards, dispatcher=f"d{n}")
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            raised.append(error)
        store.close()

    threads = [threading.Thread(target=announce, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == []
    store = Store.open(empty_url, migrate=False)
    assert len(store.catalog().optimizers) == 4
    assert len(store.dispatchers()) == 6
    store.close()
