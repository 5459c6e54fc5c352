"""Confirmation: a search's best configurations are retrained on fresh seeds, whatever happens to the run."""

from collections.abc import Callable
from typing import Any

import pytest
from running import BROKEN, Running

from studies.seeds import confirmation_seed
from studies.states import StudyMove, TrialState
from studies.store import Store
from workers.pack_protocol import Pack, StackWidth
from workers.scheduler import RunMode
from workers.worker_failures import WorkerFailure

__all__: list[str] = []

ONE = {"max_pack_size": 1}
TWO = {"seeds": 2}


def by_number(*best: int) -> Callable[[str, int], float]:
    """Return a metric function that ranks the given search trials best, in this order."""

    def value(trial: str, _epoch: int) -> float:
        number = trial.rpartition(".")[2]
        return 0.9 - best.index(int(number)) / 100 if number.isdecimal() and int(number) in best else 0.5

    return value


def confirmed(running: Running, arm: str) -> list[tuple[int | None, int]]:
    """Return which trial each confirmation of an arm retrains, and the index of its seed."""
    seeds = {
        confirmation_seed(running.study.spec.seed, index): index
        for index in range(running.study.spec.confirmation.seeds)
    }
    return sorted((t.confirms, seeds[t.seed]) for t in running.confirmations(arm))


def is_confirmation(pack: Pack) -> bool:
    return all(".c" in member.trial_id for member in pack.members)


def test_an_arms_best_and_its_defaults_are_confirmed_on_seeds_that_all_arms_share(
    store: Store,
) -> None:
    running = Running(store, confirmation=TWO)
    running.train_all(value=by_number(2))
    assert running.scheduler.is_finished
    for arm in store.arms(running.study.id):
        assert confirmed(running, arm.name) == [(0, 0), (0, 1), (2, 0), (2, 1)]
        of_search = {trial.number: trial for trial in running.trials() if trial.arm == arm.name}
        for trial in running.confirmations(arm.name):
            original = of_search[trial.confirms or 0]
            assert (trial.parameters, trial.origin, trial.replicate) == (
                original.parameters,
                original.origin,
                0,
            )
            assert (trial.state, trial.epochs_done, trial.test_value) == (TrialState.COMPLETED, 2, 0.5)
        assert not {trial.seed for trial in running.confirmations(arm.name)} & {
            trial.seed for trial in of_search.values()
        }
    assert running.states() == ["completed"] * 6


@pytest.mark.parametrize(("workload", "better"), [("digits-mlp", 0.6), ("char-lm", 0.4)])
def test_the_best_follows_the_metrics_direction_and_ties_go_to_the_first(
    store: Store, workload: str, better: float
) -> None:
    running = Running(
        store,
        workload=workload,
        arms=["adamp"],
        confirmation={"seeds": 1},
        budget={"trials_per_arm": 4, "epochs": 1},
    )
    running.train_all(value=lambda trial, _epoch: better if trial[-2:] in {".1", ".3"} else 0.5)
    assert confirmed(running, "adamp") == [(0, 0), (1, 0)]


def test_defaults_that_are_also_the_best_are_confirmed_once_per_seed(store: Store) -> None:
    running = Running(store, arms=["adamp"], confirmation=TWO)
    running.train_all(value=by_number(0))
    assert confirmed(running, "adamp") == [(0, 0), (0, 1)]


def test_search_goes_first_but_an_idle_worker_gets_a_confirmation(store: Store) -> None:
    running = Running(
        store,
        slots=2,
        confirmation=TWO,
        resources=ONE,
        sampler="tpe",
        budget={"trials_per_arm": 2, "epochs": 1},
    )
    for _ in range(2):
        pair = [running.begin("a"), running.begin("b")]
        assert [pack.optimizer for pack in pair] == ["adamp", "adamw"]
        assert not any(is_confirmation(pack) for pack in pair)
        running.finish(pair[0])
        if _ == 0:
            running.finish(pair[1])
    assert is_confirmation(beside := running.begin("c")), "adamw's last trial has not ended"
    assert beside.optimizer == "adamp"
    running.recorder.ended("b", worker_failure=WorkerFailure("its worker was lost"))
    again = running.begin("d")
    assert (again.optimizer, is_confirmation(again)) == ("adamw", False)


def test_a_confirmation_pack_mixes_configurations_and_seeds_and_trains_to_the_last_epoch(
    store: Store,
) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamp"],
        pruner="asha",
        sampler="tpe",
        confirmation={"seeds": 3},
        budget={"trials_per_arm": 9, "epochs": 9},
    )
    packs = running.train_all(value=by_number(4), at_once=1)
    assert [is_confirmation(pack) for pack in packs[-2:]] == [False, True]
    last = packs[-1]
    assert (last.from_epoch, last.to_epoch) == (0, 9)
    assert len(last.members) == 6
    assert len({member.seed for member in last.members}) == 3
    assert {str(member.parameters) for member in last.members} == {
        str(t.parameters) for t in running.trials() if t.number in {0, 4}
    }
    assert last.steps_ahead == 6 * 9 * (1000 // 32)


def test_solo_confirmation_runs_are_packed_alone(store: Store) -> None:
    running = Running(
        store,
        slots=1,
        arms=["adamp"],
        confirmation={"seeds": 3, "solo": True},
        budget={"trials_per_arm": 4, "epochs": 1},
    )
    packs = running.train_all(value=by_number(1), at_once=1)
    assert [(len(pack.members), pack.width) for pack in packs] == [(4, None), *[(1, 1)] * 6]


def test_a_width_measured_in_a_confirmation_is_not_used_in_the_search(store: Store) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], confirmation={"seeds": 8}, budget={"trials_per_arm": 8, "epochs": 1}
    )
    fits = [
        StackWidth(
            workload="digits-mlp", optimizer="adamp", batch_size=32, device="cpu", width=width, reason=reason
        )
        for width, reason in (
            (8, None),
            (1, "Members are trained one by one: the model draws random numbers."),
        )
    ]
    for fit in fits:
        pack = running.begin("a")
        assert (len(pack.members), pack.width) == ((8, None) if fit.width == 8 else (8, 8)), (
            "the known width is used until a worker measures another"
        )
        running.report(pack, epoch=1, value=by_number(3), fit=fit)
        running.recorder.ended("a")
    assert (len(running.begin("b").members), running.study.spec.confirmation.seeds) == (1, 8)
    assert [known.width for known in running.writer.stack_widths("digits-mlp")] == [8]


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_confirmation_results_reach_neither_the_sampler_nor_the_rungs(store: Store, sampler: str) -> None:
    fields: dict[str, Any] = {
        "sampler": sampler,
        "pruner": "asha",
        "budget": {"trials_per_arm": 14, "epochs": 4},
    }

    def value(trial: str, epoch: int) -> float:
        return float(store.trial(trial).parameters["lr"]) + epoch / 100

    with_, without = (Running(store, confirmation={"seeds": seeds}, **fields) for seeds in (3, 0))
    for running in (with_, without):
        running.train_all(value=value, at_once=1)
    assert [(t.parameters, t.state, t.to_epoch) for t in with_.trials()] == [
        (t.parameters, t.state, t.to_epoch) for t in without.trials()
    ]
    assert (len(with_.confirmations()), without.confirmations()) == (12, [])


def test_a_new_run_creates_every_missing_confirmation_exactly_once(store: Store) -> None:
    running = Running(
        store, confirmation={"seeds": 4}, resources={"max_pack_size": 3, "max_concurrent_packs": 1}
    )
    packs = 0
    while (pack := running.scheduler.next_pack(f"p{packs}")) is not None:
        running.recorder.started(pack.pack_id)
        if packs % 2:
            running.report(pack, epoch=1, value=by_number(1))
            running.scheduler.requeue_all(reason="its run was asked to leave")
        else:
            running.finish(pack, value=by_number(1))
        running.reload()
        packs += 1
    for arm in ("adamp", "adamw"):
        assert confirmed(running, arm) == [(number, seed) for number in (0, 1) for seed in range(4)]
    assert {t.state for t in running.confirmations()} == {TrialState.COMPLETED}
    assert [t.number for t in running.confirmations("adamp")] == list(range(8))


def test_worker_failures_and_python_errors_are_handled_as_in_a_search(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation={"seeds": 4}, max_retries=1)
    running.finish(running.begin("a"), value=by_number(1))
    lost = running.begin("b")
    running.report(lost, epoch=1, value=by_number(1))
    running.recorder.ended("b", worker_failure=WorkerFailure("its worker was lost"))
    packs = 0
    while (pack := running.scheduler.next_pack(f"c{packs}")) is not None:
        running.recorder.started(pack.pack_id)
        assert (pack.from_epoch, len(pack.members)) == (0, 1), "the last attempt must run alone"
        if pack.members[0].trial_id.endswith(".c2"):
            running.recorder.ended(pack.pack_id, fault=BROKEN)
        else:
            running.finish(pack)
        packs += 1
    assert packs == 8
    assert [t.state.value for t in running.confirmations()] == [
        "completed",
        "completed",
        "failed",
        *["completed"] * 5,
    ]
    assert {t.retries for t in running.confirmations()} == {1}
    assert running.scheduler.is_finished
    assert running.recorder.failure_reason() is None


def test_a_diverged_confirmation_counts_as_a_result(store: Store) -> None:
    running = Running(store, arms=["adamp"], confirmation=TWO)
    running.train_all(value=lambda trial, _epoch: None if ".c" in trial else 0.5)
    assert running.scheduler.is_finished
    assert {t.state for t in running.confirmations()} == {TrialState.DIVERGED}


def test_a_study_with_an_arm_whose_trials_all_diverged_fails_and_confirms_nothing(store: Store) -> None:
    running = Running(store, slots=1, confirmation=TWO, resources=ONE)
    running.train_all(value=lambda trial, _epoch: 0.5 if ".adamw." in trial else None)
    assert running.scheduler.is_finished
    assert (confirmed(running, "adamp"), confirmed(running, "adamw")) == ([], [])
    assert running.recorder.failure_reason() == (
        "no trial of arm 'adamp' has a usable value: 3 trials diverged; the last: training loss became nan"
    )
    running.reload()
    assert running.scheduler.is_finished, "the reason must be known from the database alone"


def test_defaults_that_failed_are_confirmed_if_other_trials_succeeded(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation=TWO, resources=ONE)
    running.begin("a")
    running.recorder.ended("a", fault=BROKEN)
    running.train_all(value=by_number(1))
    assert confirmed(running, "adamp") == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_study_with_an_arm_whose_trials_all_failed_fails_and_confirms_nothing(store: Store) -> None:
    running = Running(store, slots=1, confirmation=TWO, resources=ONE)
    packs = 0
    while (pack := running.scheduler.next_pack(f"p{packs}")) is not None:
        running.recorder.started(pack.pack_id)
        if pack.optimizer == "adamp":
            running.recorder.ended(pack.pack_id, fault=BROKEN)
        else:
            running.finish(pack, value=by_number(1))
        packs += 1
    assert running.scheduler.is_finished
    assert (confirmed(running, "adamp"), confirmed(running, "adamw")) == ([], [])
    assert running.recorder.failure_reason() == (
        "no trial of arm 'adamp' has a usable value: 3 trials failed; the last: ValueError: no such layer"
    )


def test_a_workload_that_always_fails_has_no_confirmation(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation=TWO, resources=ONE)
    for _ in range(3):
        running.begin("a")
        running.recorder.ended("a", fault=BROKEN)
    assert running.scheduler.is_finished
    assert running.recorder.failure_reason() == "each of 3 trials failed: ValueError: no such layer"


def test_an_arm_whose_space_is_exhausted_early_is_confirmed(store: Store) -> None:
    space = {
        "lr": 0.1,
        "weight_decay": {"choices": [0.1, 1.0]},
        "momentum": {"choices": [0.5, 0.95]},
        "wd_ratio": 0.1,
    }
    arms = [{"optimizer": "sgdp", "space": space}]
    running = Running(
        store, slots=1, arms=arms, confirmation=TWO, resources=ONE, budget={"trials_per_arm": 10, "epochs": 1}
    )
    running.train_all(value=by_number(1), at_once=1)
    assert running.scheduler.is_finished
    assert len(running.trials()) < store.arms(running.study.id)[0].progress.trials, (
        "one of its configurations breaks a constraint"
    )
    assert confirmed(running, "sgdp") == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_paused_confirmation_continues_after_a_resume(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation=TWO, resources=ONE)
    for _ in range(4):
        running.finish(running.begin("a"), value=by_number(1))
    running.begin("b")
    running.mode = RunMode(is_paused=True)
    assert running.scheduler.next_pack("c") is None
    assert not running.scheduler.is_finished
    running.scheduler.requeue_all(reason="the study was paused before it began")
    running.mode = RunMode()
    running.train_all(value=by_number(1))
    assert running.scheduler.is_finished
    assert confirmed(running, "adamp") == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_more_seeds_add_only_the_missing_confirmations(store: Store) -> None:
    running = Running(store, confirmation=TWO)
    running.train_all(value=by_number(1))
    running.close()
    before = running.confirmations()
    running.extend(seeds=5)
    running.train_all(value=by_number(1))
    assert running.scheduler.is_finished
    for arm in ("adamp", "adamw"):
        assert confirmed(running, arm) == [(number, seed) for number in (0, 1) for seed in range(5)]
    assert [t for t in running.confirmations() if t.id in {b.id for b in before}] == before
    assert len(running.trials()) == 6, "the search must not resume"


def test_a_study_stopped_before_any_result_fails_if_all_later_trials_fail(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation=TWO, resources=ONE)
    running.begin("a")
    store.move(running.study.id, StudyMove.STOP)
    running.close()
    running.extend(trials_per_arm=3)
    for _ in range(2):
        running.begin("a")
        running.recorder.ended("a", fault=BROKEN)
    assert running.scheduler.is_finished
    assert running.recorder.failure_reason() == "each of 2 trials failed: ValueError: no such layer"


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_progress_counts_missing_confirmations_once_the_search_is_over(
    store: Store, size: int, seeds: int
) -> None:
    running = Running(
        store, slots=1, arms=["adamp"], confirmation={"seeds": seeds}, resources={"max_pack_size": size}
    )
    planned: list[tuple[int, int]] = []
    for growth in ({}, {"trials_per_arm": 6}, {"seeds": seeds + 1}):
        if growth:
            running.close()
            running.extend(**growth)
        while (pack := running.scheduler.next_pack("a")) is not None:
            running.recorder.started("a")
            running.finish(pack, value=by_number(4, 1))
            progress = store.study(running.study.id).progress
            if progress.finished == progress.trials:
                planned.append((progress.confirmations, len(running.confirmations())))
        assert planned[-1] == (planned[-1][0],) * 2
    # Defaults and 1; then 4 as well; then another seed for the defaults and 4.
    assert sorted({total for total, _ in planned}) == [2 * seeds, 3 * seeds, 3 * seeds + 2]


def test_cancelled_confirmations_and_their_repetitions_both_count_as_ended(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation={"seeds": 3})
    running.finish(running.begin("a"), value=by_number(1))
    running.begin("b")
    store.move(running.study.id, StudyMove.STOP)
    running.close()
    running.extend(seeds=4)
    progress = store.study(running.study.id).progress
    assert (progress.confirmations_finished, progress.confirmations) == (6, 6 + 8)
    running.train_all(value=by_number(1))
    progress = store.study(running.study.id).progress
    assert (progress.confirmations_finished, progress.confirmations) == (14, 14)


def test_an_extended_search_continues_and_its_new_best_is_confirmed(store: Store) -> None:
    fields: dict[str, Any] = {"arms": ["adamp"], "confirmation": TWO, "resources": ONE}
    running = Running(store, budget={"trials_per_arm": 3, "epochs": 2}, **fields)
    running.train_all(value=by_number(4, 1))
    running.close()
    running.extend(trials_per_arm=6, arms=["adamw"])
    running.train_all(value=by_number(4, 1))
    whole = Running(store, budget={"trials_per_arm": 6, "epochs": 2}, **fields)
    whole.train_all(value=by_number(4, 1))
    assert [t.parameters for t in running.trials() if t.arm == "adamp"] == [
        t.parameters for t in whole.trials()
    ]
    assert confirmed(running, "adamp") == [(number, seed) for number in (0, 1, 4) for seed in range(2)]
    assert confirmed(running, "adamw") == [(number, seed) for number in (0, 4) for seed in range(2)]


def test_cancelled_confirmations_are_repeated_when_the_study_is_extended(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"], confirmation=TWO, resources=ONE)
    for _ in range(4):
        running.finish(running.begin("a"), value=by_number(1))
    running.begin("b")
    store.move(running.study.id, StudyMove.STOP)
    running.close()
    assert [t.state.value for t in running.confirmations()] == ["completed", "cancelled"]
    running.extend(seeds=3)
    running.train_all(value=by_number(1))
    ended = [t for t in running.confirmations() if t.state is TrialState.COMPLETED]
    assert len({(t.confirms, t.seed) for t in ended}) == len(ended) == 6
