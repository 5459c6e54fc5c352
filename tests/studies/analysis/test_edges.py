from typing import Any

import pytest
from catalogs import catalog
from records import Arm, record

from studies.analysis.analyse import analyse
from studies.analysis.edges import widened
from studies.analysis.views import Check
from studies.resolve import resolve
from studies.space import Range
from studies.spec import parse_spec

__all__: list[str] = []


def _edges(optimizer: str, best: dict[str, Any], *, trials: int = 4, **space: Any) -> list[Check]:
    values = [0.8] * (trials - 1) + [0.9]
    arm = Arm(search=values, parameters={trials - 1: best}, space=space)
    return [check for check in analyse(record({optimizer: arm})).checks if check.kind == "edge-of-space"]


def _space(check: Check) -> Any:
    assert check.spec is not None
    spec = parse_spec(check.spec)
    resolve(spec, catalog())
    return spec.arms[0].space


def test_a_best_lr_at_the_upper_edge_offers_a_study_that_looks_ten_times_further() -> None:
    (check,) = _edges("adamw", {"lr": 0.09})
    assert check.is_warning
    assert "the best lr, 0.09, lies near the upper edge" in check.sentence
    assert check.figures == {"value": 0.09, "low": 1e-5, "high": 0.1}
    assert _space(check)["lr"] == Range(low=1e-5, high=1.0, log=True)


def test_a_best_lr_at_the_lower_edge_is_widened_downwards() -> None:
    (check,) = _edges("adamw", {"lr": 1.1e-5})
    assert "lower edge" in check.sentence
    assert _space(check)["lr"] == Range(low=1e-6, high=0.1, log=True)


def test_every_searched_number_is_checked_not_only_lr() -> None:
    checks = _edges("sgdp", {"momentum": 0.989, "weight_decay": 0.95})
    assert [check.sentence.split(",")[0] for check in checks] == [
        "SGDP: the best momentum",
        "SGDP: the best weight_decay",
    ]


def test_widening_goes_halfway_to_an_excluded_bound() -> None:
    (check,) = _edges("sgdp", {"momentum": 0.989})
    wider = _space(check)["momentum"]
    assert wider.low == 0.8
    assert wider.high == pytest.approx(0.995)


def test_the_optimizers_own_bound_is_not_an_edge() -> None:
    assert not _edges("adamw", {"weight_decay": 0.0}, weight_decay={"low": 0.0, "high": 1.0})
    assert not _edges("stepper", {"k": 1}, k={"low": 1, "high": 9, "integer": True})


def test_whole_numbers_stay_whole_and_need_enough_values_to_have_edges() -> None:
    (check,) = _edges("stepper", {"k": 9})
    wider = _space(check)["k"]
    assert (wider.low, wider.high, wider.integer) == (2, 12, True)
    assert not _edges("stepper", {"k": 3}, k={"low": 2, "high": 3, "integer": True})


def test_the_last_of_several_choices_is_an_edge_and_gets_one_more_step() -> None:
    choices = {"choices": [0.001, 0.01, 0.1]}
    (check,) = _edges("adamw", {"lr": 0.1}, lr=choices)
    assert _space(check)["lr"].choices[-1] == pytest.approx(1.0)
    assert not _edges("adamw", {"lr": 0.01}, lr=choices)
    assert not _edges("adamw", {"lr": 0.01}, lr={"choices": [0.001, 0.01]})


def test_a_grid_with_one_more_choice_gets_the_trials_that_it_takes() -> None:
    fixed = {"weight_decay": 0.01, "delta": 0.1, "wd_ratio": 0.1}
    arm = Arm(
        search=[0.7, 0.8, 0.9],
        parameters={2: {"lr": 0.1}},
        space={"lr": {"choices": [0.001, 0.01, 0.1]}} | fixed,
    )
    checks = analyse(record({"adamp": arm}, sampler="grid")).checks
    (check,) = [check for check in checks if check.kind == "edge-of-space"]
    assert "lies at the upper edge" in check.sentence
    assert check.spec is not None
    assert check.spec["budget"]["trials_per_arm"] == 4


def test_a_study_is_offered_that_includes_the_best_defaults_outside_the_space() -> None:
    arm = Arm(search=[0.95, 0.8, 0.7], space={"lr": {"low": 0.01, "high": 0.1, "log": True}})
    (check,) = [check for check in analyse(record({"adamw": arm})).checks if check.kind == "edge-of-space"]
    assert check.figures == {"value": 0.001, "low": 0.01, "high": 0.1}
    wider = _space(check)["lr"]
    assert wider.low == pytest.approx(1e-4)
    assert wider.high == 0.1


def test_a_hyperparameter_without_effect_in_the_best_trial_has_no_edge() -> None:
    assert not [
        check
        for check in _edges("sgdp", {"weight_decay": 0.0, "wd_ratio": 1.0})
        if "wd_ratio" in check.sentence
    ]
    assert [
        check
        for check in _edges("sgdp", {"weight_decay": 0.01, "wd_ratio": 1.0})
        if "wd_ratio" in check.sentence
    ]


def test_strings_and_booleans_have_no_edges() -> None:
    assert not _edges("stepper", {"rule": "signed"}, rule={"choices": ["plain", "signed"]})


def test_an_edge_of_a_hyperparameter_that_hardly_matters_is_for_information() -> None:
    count = 200
    lr = [10 ** (-5 + 4 * ((0.618 * n) % 1)) for n in range(count)]
    decay = [10 ** (-4 + 4 * ((0.4142 * n) % 1)) for n in range(count)]
    values = [0.9 - 0.1 * abs(rate - 0.01) ** 0.5 for rate in lr]
    best = max(range(count), key=values.__getitem__)
    parameters = {n: {"lr": lr[n], "weight_decay": 0.99 if n == best else decay[n]} for n in range(count)}
    checks = analyse(record({"adamw": Arm(search=values, parameters=parameters)})).checks
    (check,) = [check for check in checks if check.kind == "edge-of-space"]
    assert not check.is_warning
    assert check.figures["importance"] < 0.1


def test_a_widened_study_has_its_own_name_and_is_otherwise_the_same() -> None:
    spec = parse_spec(
        {
            "name": "x" * 200,
            "suite": "small",
            "workload": "digits-mlp",
            "arms": ["adamp", "adamw"],
            "budget": {"trials_per_arm": 3},
        }
    )
    data = widened(spec, "adamw", "lr", Range(low=1e-6, high=1.0, log=True))
    assert data is not None
    wider = parse_spec(data)
    assert wider.name.endswith(", wider lr for adamw")
    assert len(wider.name) == 200
    assert wider.arms[0] == spec.arms[0]
    assert wider.budget == spec.budget
    assert wider.suite is None
