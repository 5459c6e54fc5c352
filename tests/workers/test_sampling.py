"""Samplers are repeatable, unaffected by a restart, and never propose a configuration twice."""

import time
from typing import Any, cast

import pytest
from catalogs import catalog, study_body

from studies.resolve import ResolvedArm, resolve
from studies.space import Choices, Fixed, Parameters
from studies.spec import parse_spec
from studies.states import TrialState
from workers.sampling import ArmSampler

__all__: list[str] = []

SAMPLERS = ["tpe", "random", "qmc", "gp", "cmaes", "grid"]
GRID: dict[str, Any] = {
    "lr": {"choices": [0.001, 0.01, 0.1]},
    "delta": {"choices": [0.05, 0.1, 0.2]},
    "weight_decay": {"choices": [0.0, 0.1]},
}


def arm_of(sampler: str, *, space: dict[str, Any] | None = None, trials: int = 14) -> ResolvedArm:
    chosen = space if space is not None else GRID if sampler == "grid" else {}
    arms = [{"optimizer": "adamp", "space": chosen}]
    body = study_body(arms=arms, sampler=sampler, budget={"trials_per_arm": trials})
    return resolve(parse_spec(body), catalog()).arms[0]


def value_of(parameters: Parameters) -> tuple[TrialState, float | None]:
    lr = float(parameters["lr"])
    return (TrialState.DIVERGED, None) if lr > 0.5 else (TrialState.COMPLETED, -abs(lr - 0.03))


def search(
    sampler: Any, arm: ResolvedArm, *, seed: int = 3, replicate: int = 0, restart_at: int | None = None
) -> list[Parameters]:
    """Search one trial at a time; at `restart_at`, continue with a sampler loaded from the stored trials."""
    searcher = ArmSampler(arm, sampler=sampler, direction="maximize", seed=seed, replicate=replicate)
    trials = [arm.defaults]
    searcher.load(0, arm.defaults, *value_of(arm.defaults))
    for number in range(1, arm.trials):
        if number == restart_at:
            searcher = ArmSampler(arm, sampler=sampler, direction="maximize", seed=seed)
            for n, parameters in enumerate(trials):
                searcher.load(n, parameters, *value_of(parameters))
        proposed = searcher.propose(number)
        assert proposed is not None
        trials.append(proposed)
        searcher.finish(number, *value_of(proposed))
    return trials


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_search(sampler: str) -> None:
    arm = arm_of(sampler)
    assert search(sampler, arm) == search(sampler, arm)
    assert search(sampler, arm) != search(sampler, arm, seed=4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_replicates_search_differently(sampler: str) -> None:
    arm = arm_of(sampler)
    found = [search(sampler, arm, replicate=replicate)[1:] for replicate in range(3)]
    assert found[0] == search(sampler, arm)[1:]
    assert all(found[a] != found[b] for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "cmaes"])
def test_a_search_continues_after_a_restart_as_without_one(sampler: str) -> None:
    arm = arm_of(sampler)
    assert search(sampler, arm, restart_at=8) == search(sampler, arm)


def test_a_trial_counts_after_a_restart_although_what_has_no_effect_in_it_lies_outside_its_range() -> None:
    space = {"weight_decay": {"choices": [0.0, 0.01]}, "wd_ratio": {"low": 0.5, "high": 0.9}}
    arm = arm_of("tpe", space=space, trials=20)
    found = search("tpe", arm)
    assert any(p["weight_decay"] == 0.0 and p["wd_ratio"] == 0.1 for p in found[1:15])
    assert search("tpe", arm, restart_at=15) == found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_proposal_is_new_complete_and_inside_the_space(sampler: str) -> None:
    arm = arm_of(sampler)
    found = search(sampler, arm)
    assert len({tuple(sorted(p.items())) for p in found}) == len(found) == arm.trials
    for parameters in found[1:]:
        assert set(parameters) == set(arm.space)
        for name, dimension in arm.space.items():
            condition = arm.card.conditions.get(name)
            is_active = condition is None or condition.holds(parameters)
            assert (
                dimension.contains(parameters[name]) if is_active else parameters[name] == arm.defaults[name]
            )


def test_a_finite_space_is_searched_completely() -> None:
    arm = arm_of(
        "random",
        space={
            name: {"choices": [0.1, 0.2]} if name == "lr" else value for name, value in _all_fixed().items()
        },
        trials=50,
    )
    assert arm.trials <= 3
    searcher = ArmSampler(arm, sampler="random", direction="maximize", seed=0)
    searcher.load(0, arm.defaults, TrialState.COMPLETED, 0.5)
    proposed = [searcher.propose(n) for n in range(1, arm.trials)]
    assert None not in proposed
    assert searcher.propose(arm.trials) is None


def test_tpe_finds_good_regions_and_avoids_diverging_ones() -> None:
    arm = arm_of("tpe", trials=40)
    late = search("tpe", arm)[25:]
    assert sum(float(p["lr"]) > 0.5 for p in late) <= 1
    distances = sorted(abs(float(p["lr"]) - 0.03) for p in late)
    assert distances[len(distances) // 2] < 0.03


def test_proposals_meet_the_constraints() -> None:
    arms = [
        {
            "optimizer": "sgdp",
            "space": {"lr": {"low": 0.01, "high": 1.0}, "momentum": {"low": 0.5, "high": 0.99}},
        }
    ]
    body = study_body(arms=arms, sampler="random", budget={"trials_per_arm": 30})
    arm = resolve(parse_spec(body), catalog()).arms[0]
    assert arm.card.constraints, "the card must have a constraint"
    assert all(c.holds(p) for p in search("random", arm) for c in arm.card.constraints)


def test_proposals_differ_while_trials_are_in_flight() -> None:
    arm = arm_of("tpe", trials=12)
    searcher = ArmSampler(arm, sampler="tpe", direction="maximize", seed=0)
    searcher.load(0, arm.defaults, TrialState.RUNNING, None)
    proposed = [searcher.propose(n) for n in range(1, 12)]
    assert len({str(p) for p in proposed}) == 11


def test_tpe_learns_from_values_at_rungs() -> None:
    arm = arm_of("tpe", trials=40)
    searcher = ArmSampler(arm, sampler="tpe", direction="maximize", seed=0)
    searcher.load(0, arm.defaults, TrialState.RUNNING, None)
    late: list[float] = []
    for number in range(1, 40):
        parameters = searcher.propose(number)
        assert parameters is not None
        state, value = value_of(parameters)
        if value is None:
            searcher.finish(number, state, None)
        else:
            searcher.set_rung_values(number, {1: value})
        late += [float(parameters["lr"])] if number >= 25 else []
    distances = sorted(abs(lr - 0.03) for lr in late)
    assert distances[len(distances) // 2] < 0.03


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_a_sampler_that_does_not_learn_recommends_all_trials_at_once(sampler: str) -> None:
    arm = arm_of(sampler)
    assert (
        ArmSampler(arm, sampler=cast("Any", sampler), direction="maximize", seed=0).recommended(
            3, without_result=3, queued=3
        )
        >= arm.trials
    )


def test_a_model_recommends_its_random_start_at_once_then_an_eighth_of_its_trials_without_results() -> None:
    searcher = ArmSampler(arm_of("tpe", trials=80), sampler="tpe", direction="maximize", seed=0)
    assert [searcher.recommended(number, without_result=number, queued=number) for number in (0, 1, 5)] == [
        11,
        10,
        6,
    ]
    assert [
        searcher.recommended(40, without_result=without_result, queued=0)
        for without_result in (0, 4, 9, 10, 20)
    ] == [
        10,
        6,
        1,
        1,
        1,
    ]
    searcher = ArmSampler(arm_of("tpe", trials=12), sampler="tpe", direction="maximize", seed=0)
    assert [searcher.recommended(number, without_result=0, queued=0) for number in (0, 1, 4, 5, 11)] == [
        5,
        4,
        3,
        3,
        3,
    ]


@pytest.mark.parametrize(("trials", "pending"), [(4, 1), (16, 4), (32, 8), (64, 8), (128, 16)])
def test_small_arms_may_have_a_quarter_of_their_trials_without_results(trials: int, pending: int) -> None:
    searcher = ArmSampler(arm_of("tpe", trials=trials), sampler="tpe", direction="maximize", seed=0)
    assert searcher.recommended(20, without_result=0, queued=0) == pending
    assert searcher.recommended(20, without_result=pending, queued=1) == 0


def test_an_idle_worker_always_gets_one_proposal_but_not_two() -> None:
    searcher = ArmSampler(arm_of("tpe", trials=16), sampler="tpe", direction="maximize", seed=0)
    assert [searcher.recommended(9, without_result=4, queued=queued) for queued in (0, 1, 2)] == [1, 0, 0]


def _all_fixed() -> dict[str, Any]:
    arm = arm_of("random")
    return {
        name: d.value if isinstance(d, Fixed) else arm.defaults[name]
        for name, d in arm.space.items()
        if name != "wd_ratio"
    } | {"lr": 0.1}


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid", "tpe"])
def test_configurations_that_differ_only_in_inactive_hyperparameters_are_proposed_once(sampler: str) -> None:
    space = {
        "lr": {"choices": [0.01, 0.1]},
        "delta": 0.1,
        "weight_decay": {"choices": [0.0, 0.01]},
        "wd_ratio": {"choices": [0.1, 0.5]},
    }
    arm = arm_of(sampler, space=space, trials=50)
    searcher = ArmSampler(arm, sampler=cast("Any", sampler), direction="maximize", seed=1)
    searcher.load(0, arm.defaults, TrialState.COMPLETED, 0.5)
    found = [searcher.propose(n) for n in range(1, arm.trials)]
    assert None not in found
    assert searcher.propose(arm.trials) is None
    assert all(p["wd_ratio"] == 0.1 for p in found if p is not None and p["weight_decay"] == 0.0)


def test_loading_a_thousand_trials_takes_less_than_a_lease() -> None:
    arm = arm_of("tpe", trials=1000)
    searcher = ArmSampler(arm, sampler="tpe", direction="maximize", seed=0)
    made = ArmSampler(arm, sampler="random", direction="maximize", seed=0)
    record = [made.propose(n) for n in range(1000)]
    begun = time.process_time()
    for number, parameters in enumerate(record):
        assert parameters is not None
        searcher.load(number, parameters, *value_of(parameters))
    assert time.process_time() - begun < 5.0, "loading is not linear in the number of trials"


def test_minus_one_and_minus_two_are_different_configurations() -> None:
    arm = arm_of("grid", trials=3)
    fixed = {name: Fixed(value=value) for name, value in arm.defaults.items()}
    arm = arm.model_copy(update={"space": {**fixed, "lr": Choices(choices=(-1, -2))}})
    searcher = ArmSampler(arm, sampler="grid", direction="maximize", seed=0)
    proposed = [searcher.propose(number) for number in (1, 2)]
    assert {p["lr"] for p in proposed if p is not None} == {-1, -2}


def test_a_trial_that_diverges_counts_the_same_with_or_without_rung_values() -> None:
    arm = arm_of("tpe")
    seen: list[list[object]] = []
    for values in (dict[int, float](), {1: 0.5, 3: 0.9}):
        searcher = ArmSampler(arm, sampler="tpe", direction="maximize", seed=0)
        searcher.load(0, arm.defaults, TrialState.RUNNING, None)
        record: list[object] = []
        for number in range(1, 14):
            parameters = searcher.propose(number)
            assert parameters is not None
            record.append(parameters)
            is_bad = number % 3 == 0
            searcher.set_rung_values(number, values if is_bad else {1: -abs(float(parameters["lr"]) - 0.03)})
            searcher.finish(number, TrialState.DIVERGED if is_bad else TrialState.PRUNED, None)
        seen.append(record)
    assert seen[0] == seen[1]
