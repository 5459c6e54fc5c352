"""The scheduler and the recorder on a real database: fair between arms, and able to resume from it."""

from dataclasses import replace
from typing import Any

import pytest
from running import BROKEN, Running

from studies.states import TrialState
from studies.store import Store
from studies.trials import CardDifference
from workers.pack_protocol import EpochReport, StackWidth
from workers.scheduler import RunMode
from workers.worker_failures import WorkerFailure, hung, out_of_memory

__all__: list[str] = []

ONE = {"max_pack_size": 1}


def fit(width: int, *, optimizer: str = "adamp", **fields: Any) -> StackWidth:
    return StackWidth(
        **{
            "workload": "digits-mlp",
            "optimizer": optimizer,
            "batch_size": 32,
            "device": "cpu",
            "width": width,
            **fields,
        }
    )


def diverging(_trial: str, _epoch: int) -> None:
    return None


@pytest.mark.parametrize(
    ("resources", "size", "seconds"), [({}, 1, 3600.0), ({"epoch_timeout_s": 90}, 4, 90.0)]
)
def test_a_pack_carries_the_studys_epoch_timeout(
    store: Store, resources: dict[str, float], size: int, seconds: float
) -> None:
    running = Running(store, slots=1, arms=["adamp"], resources={"max_pack_size": size, **resources})
    assert running.begin("a").epoch_timeout_s == seconds


def test_arms_alternate_and_each_starts_with_its_defaults(store: Store) -> None:
    running = Running(store, slots=6, resources=ONE)
    packs = [running.begin(f"p{n}") for n in range(6)]
    assert [pack.optimizer for pack in packs] == ["adamp", "adamw"] * 3
    defaults = {arm.name: arm.defaults for arm in store.arms(running.study.id)}
    assert [pack.members[0].parameters == defaults[pack.optimizer] for pack in packs] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert len({pack.members[0].seed for pack in packs}) == 1
    assert running.scheduler.next_pack("p7") is None
    assert not running.scheduler.is_finished
    for pack in packs:
        running.finish(pack)
    assert running.scheduler.is_finished
    assert running.recorder.failure_reason() is None
    assert running.states() == ["completed"] * 6


def test_a_trial_stays_queued_until_a_worker_starts_its_pack(store: Store) -> None:
    running = Running(store, resources=ONE)
    assert running.scheduler.next_pack("p") is not None
    assert running.states() == ["queued"]
    running.recorder.started("p")
    assert running.states() == ["running"]


def test_a_pack_is_as_large_as_the_fastest_stack_width(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 100, "epochs": 1})
    first = running.begin("a")
    assert (len(first.members), first.width) == (16, None), "no width has been measured yet"
    running.report(first, epoch=1, value=lambda _trial, _epoch: 0.5, fit=fit(5))
    running.recorder.ended("a")
    second = running.begin("b")
    assert (len(second.members), second.width) == (5, 5)
    running.reload()
    again = running.begin("c")
    assert (len(again.members), again.width) == (5, 5), "the measured width must be stored"


def test_a_width_measured_on_another_device_or_batch_size_is_ignored(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 100, "epochs": 1})
    for other in (fit(3, device="NVIDIA H100"), fit(4, batch_size=64), fit(5, optimizer="adamw")):
        running.writer.record_stack_width(other.model_dump(mode="json", exclude={"is_for_own_seeds"}))
    running.reload()
    assert running.begin("a").width is None


def test_max_pack_size_limits_packs_and_a_single_trial_measures_no_width(store: Store) -> None:
    running = Running(
        store, slots=1, resources={"max_pack_size": 2}, budget={"trials_per_arm": 3, "epochs": 1}
    )
    assert [
        (len(pack.members), pack.width)
        for pack in running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    ] == [
        (2, None),
        (2, None),
        (1, 1),
        (1, 1),
    ]


def test_packs_shrink_so_that_every_worker_gets_one(store: Store) -> None:
    running = Running(store, slots=4, arms=["adamp"], budget={"trials_per_arm": 10, "epochs": 1})
    assert [len(running.begin(f"p{n}").members) for n in range(4)] == [3, 3, 2, 2]


def test_near_the_end_packs_shrink_but_stay_above_a_minimum(store: Store) -> None:
    running = Running(store, slots=2, arms=["adamp"], budget={"trials_per_arm": 60, "epochs": 1})
    sizes = [len(pack.members) for pack in running.train_all(value=lambda _trial, _epoch: 0.5)]
    assert sizes == [16, 16, 14, 7, 4, 3]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 10.0, 4: 12.0, 8: 16.0, 16: 15.0, 32: 15.0}, [16, 16, 16, 8, 4, 4]),
        ({1: 10.0, 4: 40.0, 8: 75.0, 16: 150.0, 32: 155.0}, [16, 16, 16, 16]),
    ],
)
def test_packs_shrink_less_if_wide_stacks_are_much_faster(
    store: Store, rates: dict[int, float], expected: list[int]
) -> None:
    running = Running(store, slots=2, arms=["adamp"], budget={"trials_per_arm": 64, "epochs": 1})
    measured = {"workload": "digits-mlp", "optimizer": "adamp", "device": "cpu", "width": 16}
    batch_size = running.writer.plan().batch_size
    running.writer.record_stack_width({**measured, "batch_size": batch_size, "trial_steps_per_s": rates})
    running.reload()
    sizes = [len(pack.members) for pack in running.train_all(value=lambda _trial, _epoch: 0.5)]
    assert sizes == expected


def test_an_adaptive_sampler_creates_few_trials_at_once_after_its_random_start(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], sampler="tpe", budget={"trials_per_arm": 32, "epochs": 1}
    )
    sizes = [len(pack.members) for pack in running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)]
    assert sizes == [9, 8, 8, 7]


def test_a_checkpoint_that_is_reported_twice_is_not_outdated(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], resources=ONE, budget={"trials_per_arm": 1, "epochs": 4}
    )
    pack = running.begin("a")
    for _ in range(2):
        running.report(pack, epoch=1, value=lambda _trial, _epoch: 0.5, with_checkpoints=True)
    assert running.recorder.outdated_checkpoints() == ()
    running.report(pack, epoch=2, value=lambda _trial, _epoch: 0.5, with_checkpoints=True)
    assert [url.rpartition("-")[2] for url in running.recorder.outdated_checkpoints()] == ["1"]


def test_the_members_of_a_pack_have_different_learning_rates(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], sampler="tpe", budget={"trials_per_arm": 96, "epochs": 1}
    )
    for pack in running.train_all(
        value=lambda trial, _epoch: 1 / (1 + int(trial.rpartition(".")[2])), at_once=1
    ):
        rates = sorted(float(member.parameters["lr"]) for member in pack.members)
        assert len(set(rates)) == len(rates)


def test_a_trial_whose_worker_failed_goes_first(store: Store) -> None:
    running = Running(store, resources=ONE)
    first = running.begin("a")
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    again = running.begin("b")
    assert again.members[0].trial_id == first.members[0].trial_id
    assert again.members[0].parameters == first.members[0].parameters
    assert again.members[0].attempt == 2


def test_after_two_worker_failures_members_run_alone_and_only_the_cause_fails(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1}, max_retries=3
    )
    sizes = []
    while (pack := running.scheduler.next_pack(f"p{len(sizes)}")) is not None:
        running.recorder.started(pack.pack_id)
        sizes.append(len(pack.members))
        if any(member.trial_id.endswith(".2") for member in pack.members):
            running.recorder.ended(pack.pack_id, worker_failure=WorkerFailure("its worker was lost"))
        else:
            running.finish(pack)
    assert sizes == [4, 4, 1, 1, 1, 1, 1]
    assert running.states() == ["completed", "completed", "failed", "completed"]
    assert [trial.retries for trial in running.trials()] == [2, 2, 3, 2]


def poisoned(running: Running, lost: WorkerFailure) -> list[int]:
    """Train all packs, where every pack that holds the third trial fails; return the sizes of the packs."""
    sizes: list[int] = []
    while (pack := running.scheduler.next_pack(f"p{len(sizes)}")) is not None:
        running.recorder.started(pack.pack_id)
        sizes.append(len(pack.members))
        if any(member.trial_id.endswith(".2") for member in pack.members):
            running.recorder.ended(pack.pack_id, worker_failure=lost)
        else:
            running.finish(pack)
    return sizes


@pytest.mark.parametrize("lost", [hung(600), out_of_memory("RuntimeError: can't allocate")])
def test_after_a_hang_or_out_of_memory_members_run_alone_at_once_and_only_the_cause_fails(
    store: Store, lost: WorkerFailure
) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1}, max_retries=3
    )
    assert poisoned(running, lost) == [4, 1, 1, 1, 1, 1, 1]
    assert running.states() == ["completed", "completed", "failed", "completed"]
    assert [trial.retries for trial in running.trials()] == [1, 1, 3, 1]
    assert running.trials()[2].reason == f"{lost.reason}; given up after 4 attempts"
    assert running.recorder.failure_reason() is None


def test_a_trial_never_fails_because_of_its_pack_even_without_retries(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1}, max_retries=0
    )
    assert poisoned(running, WorkerFailure("its worker was lost")) == [4, 1, 1, 1, 1]
    assert running.states() == ["completed", "completed", "failed", "completed"]
    assert (running.trials()[2].reason, running.trials()[2].attempt) == ("its worker was lost", 2)


def test_a_graceful_end_of_a_pack_costs_no_retry_and_quarantines_no_trial(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1})
    for n in range(4):
        running.recorder.ended(
            running.begin(f"p{n}").pack_id,
            worker_failure=WorkerFailure("its machine left the cluster", is_charged=False),
        )
    assert len(running.begin("last").members) == 4
    assert {trial.retries for trial in running.trials()} == {0}


@pytest.mark.parametrize("is_taken_up", [False, True])
def test_a_requeued_trial_resumes_from_its_last_checkpoint_and_older_ones_become_outdated(
    store: Store, is_taken_up: bool
) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 2, "epochs": 9})
    first = running.begin("a")
    for epoch in range(1, 6):
        running.report(first, epoch=epoch, value=lambda _trial, _epoch: 0.5, with_checkpoints=epoch in {2, 4})
    assert len(running.recorder.outdated_checkpoints()) == 2, "those of epoch 2"
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    if is_taken_up:
        running.reload()
    second = running.begin("b")
    assert (second.from_epoch, second.to_epoch) == (4, 9)
    assert [member.checkpoint for member in second.members] == [
        f"/checkpoints/here/{member.trial_id}-1-4" for member in first.members
    ]
    assert [[m.epoch for m in store.measurements(member.trial_id)] for member in first.members] == [
        [1, 2, 3, 4]
    ] * 2
    running.finish(second)
    assert running.states() == ["completed"] * 2
    assert len(running.recorder.outdated_checkpoints()) == 2, "those of epoch 4"


@pytest.mark.parametrize("is_taken_up", [False, True])
def test_the_best_epoch_before_a_checkpoint_still_counts_at_the_next_rung(
    store: Store, is_taken_up: bool
) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamp"],
        objective={"at": "best"},
        pruner={"kind": "asha", "min_epochs": 4},
        budget={"trials_per_arm": 3, "epochs": 12},
    )

    def value(trial: str, epoch: int) -> float:
        # Trial 1 has the best value of all in its second epoch; later epochs are better in trial 2.
        return {"0": 0.1, "1": 0.9 if epoch == 2 else 0.2, "2": 0.5}[trial.rpartition(".")[2]]

    first = running.begin("a")
    for epoch in range(1, 4):
        running.report(first, epoch=epoch, value=value, with_checkpoints=epoch == 3)
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    if is_taken_up:
        running.reload()
    second = running.begin("b")
    assert (second.from_epoch, second.to_epoch) == (3, 4)
    running.finish(second, value=value)
    third = running.begin("c")
    assert [member.trial_id.rpartition(".")[2] for member in third.members] == ["1"]


def test_the_last_attempt_runs_alone(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], budget={"trials_per_arm": 3, "epochs": 1}, max_retries=1
    )
    running.begin("a")
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    assert len(running.begin("b").members) == 1
    running.scheduler.requeue_all(reason="its run was asked to leave")
    running.reload()
    assert len(running.begin("c").members) == 1, "the database stores which trials have lost a worker"


def test_reports_of_a_superseded_attempt_are_rejected(store: Store) -> None:
    running = Running(store, resources=ONE)
    lost = running.begin("a")
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    running.begin("b")
    running.finish(lost)
    trial = store.trial(lost.members[0].trial_id)
    assert (trial.state, trial.value, trial.epochs_done) == (TrialState.RUNNING, None, 0)


def test_a_python_error_fails_a_trial_without_a_retry(store: Store) -> None:
    running = Running(store, resources=ONE)
    running.begin("a")
    running.recorder.ended("a", fault=BROKEN)
    (trial,) = store.every_trial(running.study.id)
    assert (trial.state, trial.reason, trial.attempt) == (TrialState.FAILED, "ValueError: no such layer", 1)
    assert running.recorder.failure_reason() == "the only trial failed: ValueError: no such layer"


def test_after_a_python_error_members_run_alone_and_only_the_cause_fails(
    store: Store,
) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1}, max_retries=0
    )
    sizes = []
    while (pack := running.scheduler.next_pack(f"p{len(sizes)}")) is not None:
        running.recorder.started(pack.pack_id)
        sizes.append(len(pack.members))
        if any(member.trial_id.endswith(".2") for member in pack.members):
            running.recorder.ended(pack.pack_id, fault=BROKEN)
        else:
            running.finish(pack)
    assert sizes == [4, 1, 1, 1, 1]
    assert running.states() == ["completed", "completed", "failed", "completed"]
    assert {trial.retries for trial in running.trials()} == {0}, (
        "members that did not cause the error must not be charged a retry"
    )


def test_the_defaults_displace_no_point_of_a_grid(store: Store) -> None:
    space = {"optimizer": "stepper", "space": {"lr": 0.01, "k": {"choices": [2, 3, 4]}, "rule": "plain"}}
    at_default = {**space, "name": "with-defaults", "space": {**space["space"], "k": {"choices": [4, 5, 6]}}}
    running = Running(
        store, arms=[space, at_default], sampler="grid", budget={"trials_per_arm": 3, "epochs": 1}
    )
    running.train_all(value=lambda _trial, _epoch: 0.5)
    tried = {
        arm: {trial.parameters["k"] for trial in running.trials() if trial.arm == arm}
        for arm in ("stepper", "with-defaults")
    }
    assert tried == {"stepper": {5, 2, 3, 4}, "with-defaults": {4, 5, 6}}


def test_differences_between_data_and_card_are_stored_with_the_study(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"])
    pack = running.begin("a")
    differences = (CardDifference(kind="examples", split="train", expected=1000, found=999),)
    report = EpochReport(pack_id="a", epoch=1, members=(), card_differences=differences)
    for _ in range(2):
        running.recorder.reported(pack.pack_id, report, worker="here:1")
    assert store.study(running.study.id).card_differences == differences


def test_an_error_that_no_configuration_avoids_fails_a_whole_pack_at_once(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], budget={"trials_per_arm": 4, "epochs": 1})
    pack = running.begin("a")
    assert len(pack.members) == 4
    running.recorder.ended("a", fault=replace(BROKEN, is_for_all=True))
    assert running.scheduler.is_finished
    for trial in running.trials():
        assert (trial.state, trial.attempt) == (TrialState.FAILED, 1)
        assert (trial.reason, trial.traceback) == (BROKEN.reason, BROKEN.traceback)


def test_a_study_whose_first_ten_trials_all_fail_ends_early(store: Store) -> None:
    running = Running(store, budget={"trials_per_arm": 40, "epochs": 1})
    packs = 0
    while (pack := running.scheduler.next_pack(f"p{packs}")) is not None:
        running.recorder.started(pack.pack_id)
        running.recorder.ended(pack.pack_id, fault=BROKEN)
        packs += 1
    assert running.scheduler.is_finished
    assert running.states().count("failed") == 10
    assert running.recorder.failure_reason() == "each of 10 trials failed: ValueError: no such layer"


def test_a_diverged_trial_counts_as_a_result(store: Store) -> None:
    running = Running(store)
    running.train_all(value=diverging)
    assert running.scheduler.is_finished
    assert running.states() == ["diverged"] * 6


def test_max_concurrent_packs_limits_packs_in_flight(store: Store) -> None:
    running = Running(store, resources={"max_concurrent_packs": 1, **ONE})
    pack = running.begin("a")
    assert running.scheduler.next_pack("b") is None
    running.finish(pack)
    assert running.scheduler.next_pack("b") is not None


@pytest.mark.parametrize(("sampler", "most"), [("random", 3), ("tpe", 2)])
def test_only_a_sampler_that_does_not_learn_keeps_a_pack_waiting_for_a_worker(
    store: Store, sampler: str, most: int
) -> None:
    running = Running(store, slots=2, sampler=sampler, budget={"trials_per_arm": 40, "epochs": 1})
    packs = 0
    while running.scheduler.next_pack(f"p{packs}") is not None:
        packs += 1
    assert packs == most


def test_a_limit_above_the_clusters_slots_dispatches_no_more_packs_than_no_limit(
    store: Store,
) -> None:
    running = Running(
        store,
        slots=2,
        budget={"trials_per_arm": 40, "epochs": 1},
        resources={"max_concurrent_packs": 100, **ONE},
    )
    packs = 0
    while running.scheduler.next_pack(f"p{packs}") is not None:
        packs += 1
    assert packs == 3


def test_a_draining_scheduler_dispatches_nothing(store: Store) -> None:
    running = Running(store)
    running.mode = RunMode(is_paused=True)
    assert running.scheduler.next_pack("a") is None
    running.mode = RunMode()
    assert running.scheduler.next_pack("a") is not None


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_scheduler_loaded_from_the_database_continues_as_the_previous_one(
    store: Store, sampler: str
) -> None:
    fields: dict[str, Any] = {
        "sampler": sampler,
        "budget": {"trials_per_arm": 24, "epochs": 2},
        "resources": {"max_concurrent_packs": 1},
    }

    def value(trial: str, _epoch: int) -> float:
        return float(store.trial(trial).parameters["lr"])

    whole, cut = Running(store, **fields), Running(store, **fields)
    expected, got = (
        [(p.optimizer, [m.parameters for m in p.members]) for p in packs]
        for packs in (whole.train_all(value=value, at_once=1), cut.train_reloading(value=value))
    )
    assert got == expected


def test_stored_queued_trials_go_first(store: Store) -> None:
    running = Running(store, resources=ONE)
    pack = running.begin("a")
    running.writer.requeue(
        [(pack.members[0].trial_id, 1)], reason="handed over", max_retries=3, is_charged=False
    )
    running.reload()
    again = running.begin("b")
    assert again.members[0].trial_id == pack.members[0].trial_id
    assert again.members[0].attempt == 2


def test_a_pack_holds_trials_of_one_batch_size_and_carries_it(store: Store) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamw"],
        sampler="random",
        budget={"trials_per_arm": 24, "epochs": 1},
        resources={"max_pack_size": 4},
        training={"batch_size": {"choices": [16, 32, 64]}},
    )
    packs = running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    for pack in packs:
        assert {member.parameters["training.batch_size"] for member in pack.members} == {
            pack.training.batch_size
        }
    assert {pack.training.batch_size for pack in packs} == {16, 32, 64}
    assert sum(len(pack.members) for pack in packs) == 24
    # As few packs as three batch sizes allow.
    assert len(packs) <= 24 / 4 + 2
    assert all(pack.training.schedule == "cosine" for pack in packs)


def test_each_batch_size_has_a_stack_width_of_its_own(store: Store) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamp"],
        sampler="grid",
        budget={"trials_per_arm": 100, "epochs": 1},
        training={"batch_size": {"choices": [16, 32]}},
    )
    for other in (fit(3, batch_size=16), fit(4, batch_size=32)):
        running.writer.record_stack_width(other.model_dump(mode="json", exclude={"is_for_own_seeds"}))
    running.reload()
    packs = running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    assert {(pack.training.batch_size, pack.width) for pack in packs} <= {(16, 3), (32, 4), (16, 1), (32, 1)}


def test_trials_that_differ_in_their_warm_up_share_a_pack(store: Store) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamw"],
        sampler="random",
        budget={"trials_per_arm": 5, "epochs": 1},
        training={"warmup_fraction": {"low": 0.0, "high": 0.5}},
    )
    packs = running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    assert [len(pack.members) for pack in packs] == [5]
    assert [packs[0].settings_of(member).warmup_fraction for member in packs[0].members] == [
        member.parameters["training.warmup_fraction"] for member in packs[0].members
    ]


def test_packs_with_own_seeds_have_a_least_size_of_their_own(store: Store) -> None:
    running = Running(store, arms=["adamp"])
    widths, queue = running.recorder.widths, running.recorder.arms["adamp"].confirmation
    for rates, has_own_seeds in (({8: 1.0, 32: 9.0}, False), ({8: 8.0, 32: 9.0}, True)):
        widths.add(fit(32, trial_steps_per_s=rates), queue.plan.defaults, has_own_seeds=has_own_seeds)
    assert [
        widths.least(queue, None, batch_size=32, has_own_seeds=has_own_seeds)
        for has_own_seeds in (False, True)
    ] == [32, 8]
