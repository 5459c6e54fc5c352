import math

import numpy as np
import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator

from studies.distributions import distributions
from studies.space import Choices, Condition, Fixed, Parameters, Range, Space
from studies.statistics.importances import LEAST_RESULTS, importances

SPACE: Space = {
    "lr": Range(low=1e-4, high=1e-1, log=True),
    "weight_decay": Range(low=1e-3, high=1, log=True),
    "layers": Range(low=1, high=8, integer=True),
    "nesterov": Choices(choices=(True, False)),
    "eps": Fixed(value=1e-8),
}


def _trials(n: int) -> tuple[list[Parameters], list[float]]:
    """Return random configurations, and values that depend mostly on lr and slightly on the weight decay."""
    random = np.random.default_rng(n)
    drawn: list[Parameters] = [
        {
            "lr": float(10 ** random.uniform(-4, -1)),
            "weight_decay": float(10 ** random.uniform(-3, 0)),
            "layers": int(random.integers(1, 9)),
            "nesterov": bool(random.integers(2)),
            "eps": 1e-8,
        }
        for _ in range(n)
    ]
    values = [
        -((math.log10(float(p["lr"])) + 2.5) ** 2) - 0.1 * (math.log10(float(p["weight_decay"])) + 1) ** 2
        for p in drawn
    ]
    return drawn, values


def test_importances_equal_optunas() -> None:
    parameters, values = _trials(120)
    known = distributions(SPACE)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(value=v, params={name: p[name] for name in known}, distributions=known)
            for p, v in zip(parameters, values, strict=True)
        ]
    )
    theirs = optuna.importance.get_param_importances(
        study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.1)
    )
    ours = importances(SPACE, parameters, values, direction="maximize", conditions={})
    assert ours == pytest.approx(theirs)
    assert list(ours) == list(theirs)
    assert sum(ours.values()) == pytest.approx(1)
    assert next(iter(ours)) == "lr"
    assert "eps" not in ours


def test_a_loss_has_the_importances_of_its_negative() -> None:
    parameters, values = _trials(60)
    ours = importances(SPACE, parameters, values, direction="maximize", conditions={})
    assert importances(SPACE, parameters, [-v for v in values], direction="minimize", conditions={}) == ours


def test_diverged_trials_are_worse_than_every_value() -> None:
    """If half of a range diverges and all else is equally good, its hyperparameter has all the importance."""
    parameters, _ = _trials(200)
    random = np.random.default_rng(0)
    values = [math.inf if float(p["lr"]) > 3e-3 else float(random.random()) for p in parameters]
    found = importances(SPACE, parameters, values, direction="minimize", conditions={})
    assert found["lr"] > 0.6
    assert found == importances(
        SPACE, parameters, [min(v, 1e6) for v in values], direction="minimize", conditions={}
    )


def test_a_hyperparameter_counts_only_if_it_has_an_effect() -> None:
    space: Space = {"weight_decay": Choices(choices=(0, 0.1)), "wd_ratio": Range(low=0, high=1)}
    random = np.random.default_rng(1)
    parameters: list[Parameters] = [
        {"weight_decay": (0, 0.1)[i % 2], "wd_ratio": float(random.random())} for i in range(200)
    ]
    values = [
        1 + float(p["wd_ratio"]) if p["weight_decay"] == 0 else float(random.random()) for p in parameters
    ]
    conditions = {"wd_ratio": Condition(parameter="weight_decay", above=0)}
    assert importances(space, parameters, values, direction="maximize", conditions={})["wd_ratio"] > 0.5
    assert (
        importances(space, parameters, values, direction="maximize", conditions=conditions)["wd_ratio"] < 0.05
    )


def test_defaults_outside_the_space_do_not_change_importances() -> None:
    parameters, values = _trials(40)
    outside: Parameters = {**parameters[0], "weight_decay": 0.0}
    found = importances(SPACE, [outside, *parameters], [0.0, *values], direction="maximize", conditions={})
    assert found == importances(SPACE, parameters, values, direction="maximize", conditions={})


@pytest.mark.parametrize("n", [0, 1, LEAST_RESULTS - 1])
def test_too_few_results_have_no_importances(n: int) -> None:
    parameters, values = _trials(LEAST_RESULTS)
    left = [v if i < n else math.nan for i, v in enumerate(values)]
    assert importances(SPACE, parameters, left, direction="maximize", conditions={}) == {}


def test_equal_results_and_fixed_spaces_have_no_importances() -> None:
    parameters, values = _trials(30)
    assert importances(SPACE, parameters, [1.0] * 30, direction="maximize", conditions={}) == {}
    assert importances(SPACE, parameters, [math.inf] * 30, direction="minimize", conditions={}) == {}
    assert (
        importances({"eps": Fixed(value=1e-8)}, parameters, values, direction="maximize", conditions={}) == {}
    )


def test_thousands_of_trials_are_sampled_the_same_way_every_time() -> None:
    parameters, values = _trials(5000)
    found = importances(SPACE, parameters, values, direction="maximize", conditions={})
    assert found == importances(SPACE, parameters, values, direction="maximize", conditions={})
    assert found["lr"] > 0.6
