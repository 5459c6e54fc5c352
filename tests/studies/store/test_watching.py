"""What the store says of running studies, of lists and of the cluster, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

from catalogs import catalog
from simulated_dispatch import SimulatedDispatcher
from sqlalchemy import select, update
from trained_studies import Trained

from studies.catalog import BrokenPackage
from studies.cluster_views import MachineView, NodesView
from studies.states import StudyState
from studies.store import Store, tables
from studies.study_filter import StudyFilter, StudyOrder

__all__: list[str] = []


class _NewerMachine(MachineView):
    disks: int = 3


class _NewerNodes(NodesView):
    disks: int = 3


def ids(store: Store, **chosen: Any) -> list[str]:
    return [study.id for study in store.studies(StudyFilter(**chosen)).items]


def test_studies_are_found_by_words_and_tags_in_every_order(
    play: SimulatedDispatcher, database_url: str
) -> None:
    store = play.store
    first = play.submit(name="Warm restarts, 100 %, Übung", tags=["thesis", "chapter-3"])
    second = play.submit(name="adam sweep", workload="char-lm", tags=["thesis"])
    assert ids(store, tag="thesis") == [second, first]
    assert (
        ids(store, tag="chapter-3") == ids(store, text="WARM restarts") == ids(store, text="0 %") == [first]
    )
    assert ids(store, text="chapter-3 digits") == [first]
    # PostgreSQL's letters are those of the database's locale.
    if database_url.startswith("sqlite"):
        assert ids(store, text="übung") == ids(store, text="ÜBUNG") == [first]
    assert ids(store, tag="chapter") == ids(store, text="warm adam") == ids(store, owner="alice") == []
    orders: dict[StudyOrder, list[str]] = {"oldest": [first, second], "name": [second, first]}
    for order, expected in orders.items():
        assert ids(store, order=order) == expected
    for order in ("newest", "ended", "state"):
        assert ids(store, order=order) == [second, first]
    assert store.studies(StudyFilter(tag="chapter-3")).items[0].tags == ("thesis", "chapter-3")


def test_a_running_study_has_its_trials_packs_and_states(store: Store) -> None:
    run = Trained(store, width=4, budget={"trials_per_arm": 4, "epochs": 4}).train(3)
    live = store.live(run.id)
    assert (live.state, live.in_training) == (StudyState.RUNNING, len(live.trials))
    assert all(trial.epochs == tuple(range(1, trial.epochs_done + 1)) for trial in live.trials)
    assert sum(pack.running for pack in live.packs) == live.in_training
    assert sum(each.trials for each in live.states) == len(store.every_trial(run.id))
    run.train()
    assert {trial.arm for trial in store.live(run.id).best} == set(run.study.arms)


def test_the_cluster_has_the_queue_the_machines_and_the_nodes(play: SimulatedDispatcher) -> None:
    store = play.store
    machine = MachineView(cpus=4, cpu_share=0.5, memory_bytes=100, memory_used_bytes=10)
    store.heartbeat("here", machine=machine)
    nodes = NodesView(machines=2, cpus=8, cpus_used=3)
    before = store.catalog()
    for cpus_used in (1.0, 3.0):
        store.report_nodes(nodes.model_copy(update={"cpus_used": cpus_used}), cluster="head:6379")
    assert store.catalog() is before, "a report is not a new card"
    waiting = [play.submit(), play.submit()]
    cluster = store.cluster()
    assert cluster.nodes == (nodes,)
    assert machine in [each.machine for each in cluster.dispatchers]
    assert [study.id for study in cluster.queue] == waiting
    assert cluster.studies == {StudyState.QUEUED: 2}


def test_reports_of_other_releases_do_not_break_the_cluster(play: SimulatedDispatcher) -> None:
    machine = MachineView(cpus=4, cpu_share=0.5, memory_bytes=100, memory_used_bytes=10)
    nodes = NodesView(machines=2, cpus=8, cpus_used=3)
    play.store.heartbeat("newer", machine=_NewerMachine(**machine.model_dump()))
    play.store.heartbeat("broken", machine=machine.model_copy(update={"memory_bytes": 0}))
    play.store.report_nodes(_NewerNodes(**nodes.model_dump()), cluster="head:6379")
    cluster = play.store.cluster()
    assert [each.machine for each in cluster.dispatchers if each.machine] == [machine]
    assert cluster.nodes == (nodes,)


def test_what_a_killed_dispatcher_left_is_forgotten_after_a_day(play: SimulatedDispatcher) -> None:
    store = play.store
    package = BrokenPackage(kind="optimizer", package="mine 1.0", entry_point="a = b:C", error="no")
    broken = catalog().model_copy(update={"broken": (package,)})
    store.announce(broken, dispatcher="killed")
    store.report_nodes(NodesView(machines=2, cpus=8, cpus_used=3), cluster="ended")
    with store._database.write() as connection:
        connection.execute(update(tables.offer).values(seen_at=datetime.now(UTC) - timedelta(hours=25)))
    assert store.cluster().dispatchers == ()
    assert len(store.catalog().broken) == 1
    store.announce(catalog(), dispatcher="here")
    assert store.catalog().broken == ()
    with store._database.read() as connection:
        kinds = connection.execute(select(tables.offer.c.kind, tables.offer.c.name)).all()
    assert [name for kind, name in kinds if kind not in {"optimizer", "workload"}] == ["here"]
