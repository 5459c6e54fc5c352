"""Trials whose machine lacks a file: where and for how long they are tried, and which of a pack fail."""

from dataclasses import replace

from running import Running

from studies.states import TrialState
from studies.store import Store
from workers.workload_errors import WorkloadFault

__all__: list[str] = []

ONE = {"max_pack_size": 1}
WITHOUT_FILE = WorkloadFault(
    "FileNotFoundError: points.csv", "Traceback", is_for_all=True, unfit_machine="10.0.0.7"
)


def test_trials_that_miss_a_file_are_tried_on_another_machine_once(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 2, "epochs": 1})
    running.machines = 2
    assert running.begin("a").not_on == ()
    running.recorder.ended("a", fault=WITHOUT_FILE)
    assert running.begin("b").not_on == ("10.0.0.7",)
    running.recorder.ended("b", is_handed_back=True)
    pack = running.begin("c")
    assert (pack.not_on, len(pack.members)) == (("10.0.0.7",), 2)
    assert {(trial.attempt, trial.retries) for trial in running.trials()} == {(3, 0)}
    running.recorder.ended("c", fault=replace(WITHOUT_FILE, unfit_machine="10.0.0.8"))
    assert {(trial.state, trial.reason) for trial in running.trials()} == {
        (TrialState.FAILED, WITHOUT_FILE.reason)
    }


def test_a_trial_that_no_other_machine_takes_fails_with_its_reason(store: Store) -> None:
    running = Running(store, slots=1, resources=ONE)
    running.machines = 2
    running.begin("a")
    running.recorder.ended("a", fault=WITHOUT_FILE)
    for pack_id in ("b", "c"):
        running.begin(pack_id)
        running.seconds += 31
        running.recorder.ended(pack_id, is_handed_back=True)
    trial = running.trials()[0]
    assert trial.state is TrialState.FAILED
    assert trial.reason == f"{WITHOUT_FILE.reason}; no other machine took it"


def test_a_trial_waits_for_a_machine_that_trains_another_pack(store: Store) -> None:
    running = Running(store, slots=2, arms=["adamp"], resources=ONE)
    running.machines = 2
    running.begin("lacking")
    busy = running.begin("busy")
    running.recorder.ended("lacking", fault=WITHOUT_FILE)
    for n, busy_epoch in enumerate((0, 1)):
        held = running.begin(f"held {n}")
        assert held.not_on == ("10.0.0.7",)
        if busy_epoch:
            running.report(busy, epoch=busy_epoch, value=lambda _trial, _epoch: 0.5)
        running.seconds += 61
        running.recorder.ended(held.pack_id, is_handed_back=True)
        assert running.trials()[0].state is TrialState.QUEUED
    running.recorder.ended("busy", fault=WITHOUT_FILE)
    # Two packs that are held do not train.
    for pack_id in ("held 2", "held 3"):
        assert running.begin(pack_id).not_on
    running.seconds += 61
    running.recorder.ended("held 2", is_handed_back=True)
    assert running.states().count("failed") == 1


def test_only_members_that_have_waited_too_long_fail(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 3, "epochs": 1})
    running.machines = 2
    assert len(running.begin("a").members) == 3
    ids = [trial.id for trial in running.trials()]
    tries = running.recorder.unfit_machines
    assert tries.worth_a_try(ids[:1], host="10.0.0.7", reason="no file", epoch=0) == {ids[0]}
    running.seconds += 40
    assert tries.worth_a_try(ids[:2], host="10.0.0.7", reason="no file", epoch=0) == {ids[1]}
    running.seconds += 40
    running.recorder.ended("a", is_handed_back=True)
    assert running.states() == ["failed", "queued", "queued"]
    assert len(running.begin("b").members) == 2
    running.recorder.ended("b", fault=WITHOUT_FILE)
    assert running.states() == ["failed", "failed", "queued"]


def test_a_trial_that_has_trained_further_elsewhere_may_be_tried_again(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 1, "epochs": 9})
    running.machines = 2

    def train(pack_id: str, *, not_on: tuple[str, ...], epochs: int) -> None:
        pack = running.begin(pack_id)
        assert pack.not_on == not_on
        for epoch in range(pack.from_epoch + 1, epochs + 1):
            running.report(pack, epoch=epoch, value=lambda _trial, _epoch: 0.5, with_checkpoints=epoch == 1)
        running.recorder.ended(pack_id, fault=WITHOUT_FILE)

    train("a", not_on=(), epochs=1)
    train("b", not_on=("10.0.0.7",), epochs=3)
    assert running.states() == ["queued"]
    # It lacks the same after the same epoch everywhere.
    train("c", not_on=("10.0.0.7",), epochs=3)
    assert running.states() == ["failed"]


def test_on_one_machine_a_missing_file_fails_a_trial_at_once(store: Store) -> None:
    running = Running(store, resources=ONE)
    running.begin("a")
    running.recorder.ended("a", fault=WITHOUT_FILE)
    assert running.trials()[0].state is TrialState.FAILED
