"""Hyperparameters of the same name take the same quantile in every arm, whatever else the arms have."""

import math
from typing import Any

import pytest
from catalogs import catalog, study_body

from studies.resolve import ResolvedArm, resolve
from studies.searchable import broken_constraint
from studies.space import Choices, Fixed, Parameters, Range
from studies.spec import parse_spec
from workers.paired_draws import paired_configuration

__all__: list[str] = []

WIDE = {"low": 1e-4, "high": 1.0, "log": True}


def arms_of(*arms: Any, **fields: Any) -> tuple[ResolvedArm, ...]:
    return resolve(parse_spec(study_body(arms=list(arms), **fields)), catalog()).arms


def drawn(arm: ResolvedArm, count: int = 12, *, seed: int = 3, replicate: int = 0) -> list[Parameters]:
    return [
        paired_configuration(arm, seed=seed, replicate=replicate, pair_index=index) for index in range(count)
    ]


def test_pairs_of_a_name_are_the_same_in_all_arms_and_differ_between_pairs_replicates_and_studies() -> None:
    space = {
        "training.batch_size": {"choices": [16, 32, 64]},
        "training.clip_norm": {"low": 0.1, "high": 2.0},
    }
    adamp, adamw, stepper = arms_of("adamp", "adamw", "stepper", space=space)
    for name in ("lr", *space):
        values = [[parameters[name] for parameters in drawn(arm)] for arm in (adamp, adamw, stepper)]
        assert values[0] == values[1] == values[2]
        assert len(set(values[0])) == 12 or name == "training.batch_size"
    lrs = [
        [p["lr"] for p in drawn(adamp, seed=seed, replicate=replicate)]
        for seed, replicate in ((3, 0), (3, 1), (4, 0))
    ]
    assert len({*lrs[0], *lrs[1], *lrs[2]}) == 36


def test_a_dimension_that_only_one_arm_has_changes_nothing_in_the_others() -> None:
    more = {"optimizer": "adamp", "name": "more", "space": {"beta1": {"low": 0.5, "high": 0.9}}}
    less = {"optimizer": "adamp", "name": "less", "space": {"delta": 0.1, "wd_ratio": 0.2}}
    plain, with_more, with_less = arms_of("adamp", more, less)
    for one, other, third in zip(drawn(plain), drawn(with_more), drawn(with_less), strict=True):
        assert {**other, "beta1": one["beta1"]} == one
        assert {**third, "delta": one["delta"], "wd_ratio": one["wd_ratio"]} == one


def test_ranges_of_one_name_that_differ_are_cut_at_the_same_quantile() -> None:
    narrow, wide = arms_of(
        {"optimizer": "adamp", "space": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}}},
        {"optimizer": "adamw", "space": {"lr": WIDE}},
    )
    for one, other in zip(drawn(narrow), drawn(wide), strict=True):
        share = math.log10(float(one["lr"])) + 3
        assert (math.log10(float(other["lr"])) + 4) / 4 == pytest.approx(share)


def test_a_configuration_that_breaks_a_constraint_is_drawn_again_alike_in_all_arms_that_have_it() -> None:
    space = {"lr": {"low": 0.01, "high": 1.0}, "momentum": {"low": 0.5, "high": 0.99}, "weight_decay": WIDE}
    sgdp, again, adamw = arms_of(
        {"optimizer": "sgdp", "space": space},
        {"optimizer": "sgdp", "name": "again", "space": space},
        {"optimizer": "adamw", "space": {name: space[name] for name in ("lr", "weight_decay")}},
    )
    found = drawn(sgdp, 40)
    assert all(broken_constraint(sgdp.card, parameters) is None for parameters in found)
    assert found == drawn(again, 40)
    kept = [one["lr"] == other["lr"] for one, other in zip(found, drawn(adamw, 40), strict=True)]
    assert 20 < sum(kept) < 40, "some configurations must have been drawn again"


def test_an_arm_without_a_legal_configuration_in_reach_repeats_its_defaults() -> None:
    (arm,) = arms_of({"optimizer": "sgdp", "space": {"lr": {"low": 1e-9, "high": 1e9}, "weight_decay": 1.0}})
    assert drawn(arm, 2) == [arm.defaults] * 2


def test_pairs_of_a_fixed_or_finite_space_repeat_its_configurations() -> None:
    (arm,) = arms_of({"optimizer": "stepper", "space": {"lr": 0.01, "k": 3, "rule": "plain"}})
    assert drawn(arm) == [arm.defaults] * 12
    (arm,) = arms_of(
        {"optimizer": "stepper", "space": {"lr": 0.01, "k": {"choices": [2, 3]}, "rule": "plain"}}
    )
    assert {parameters["k"] for parameters in drawn(arm)} == {2, 3}


def test_what_has_no_effect_in_a_pair_is_at_its_default() -> None:
    (arm,) = arms_of({"optimizer": "adamp", "space": {"weight_decay": {"choices": [0.0, 0.1]}}})
    found = drawn(arm, 20)
    without = [p["wd_ratio"] for p in found if p["weight_decay"] == 0.0]
    assert set(without) == {arm.defaults["wd_ratio"]}
    assert len({p["wd_ratio"] for p in found}) == 21 - len(without)


def test_pairs_are_spread_evenly_over_a_dimension() -> None:
    (arm,) = arms_of("stepper")
    kinds = {name: type(dimension) for name, dimension in arm.space.items()}
    assert kinds == {"lr": Range, "k": Range, "rule": Fixed}
    arm = arm.model_copy(update={"space": {**arm.space, "rule": Choices(choices=("plain", "signed"))}})
    found = drawn(arm, 400)
    below = sum(float(p["lr"]) < 1e-3 for p in found)
    assert 160 < below < 240
    assert 160 < sum(p["rule"] == "plain" for p in found) < 240
    assert 70 < sum(float(p["lr"]) < 1e-3 and p["rule"] == "plain" for p in found) < 130
