"""Spaces as Optuna distributions, and configurations built from Optuna's choices."""

import pytest
from catalogs import catalog, study_body
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from studies.distributions import as_parameters, distributions, searched
from studies.resolve import ResolvedArm, resolve
from studies.space import AnyDimension, Choices, Condition, Fixed, Range, Space
from studies.spec import parse_spec

__all__: list[str] = []

SPACE: Space = {
    "lr": Range(low=1e-4, high=1e-1, log=True),
    "weight_decay": Range(low=1e-3, high=1, log=True),
    "ratio": Range(low=0, high=1),
    "k": Range(low=2, high=9, integer=True),
    "rule": Choices(choices=("plain", "signed")),
    "eps": Fixed(value=1e-8),
}
CONDITIONS = {"ratio": Condition(parameter="weight_decay", above=0)}
DEFAULTS = {"lr": 1e-3, "weight_decay": 0.0, "ratio": 0.5, "k": 5, "rule": "plain", "eps": 1e-8}


@pytest.mark.parametrize(
    ("dimension", "distribution"),
    [
        (Range(low=0, high=1), FloatDistribution(0, 1)),
        (Range(low=1e-4, high=1, log=True), FloatDistribution(1e-4, 1, log=True)),
        (Range(low=1, high=8, integer=True), IntDistribution(1, 8)),
        (Range(low=1, high=8, integer=True, log=True), IntDistribution(1, 8, log=True)),
        (Choices(choices=(0, "none", True)), CategoricalDistribution((0, "none", True))),
    ],
)
def test_each_dimension_is_a_distribution(dimension: AnyDimension, distribution: BaseDistribution) -> None:
    assert distributions({"x": dimension}) == {"x": distribution}


def test_fixed_dimensions_are_not_searched() -> None:
    assert list(distributions(SPACE)) == ["lr", "weight_decay", "ratio", "k", "rule"]


def test_optuna_gets_the_values_that_are_searched_active_and_in_range() -> None:
    assert searched(SPACE, CONDITIONS, DEFAULTS) == {"lr": 1e-3, "k": 5, "rule": "plain"}, (
        "zero decay is outside the range, and without decay the ratio has no effect"
    )
    assert searched(SPACE, CONDITIONS, DEFAULTS | {"weight_decay": 0.1}) == {
        "lr": 1e-3,
        "weight_decay": 0.1,
        "ratio": 0.5,
        "k": 5,
        "rule": "plain",
    }


def test_a_configuration_is_complete_for_any_choice() -> None:
    assert as_parameters(SPACE, DEFAULTS, {"lr": 0.01, "k": 3}) == DEFAULTS | {"lr": 0.01, "k": 3}
    assert list(as_parameters(SPACE, DEFAULTS, {"k": 3})) == list(SPACE)


def every_arm() -> list[ResolvedArm]:
    names = list(catalog().optimizers)
    return list(resolve(parse_spec(study_body(arms=names)), catalog()).arms)


@pytest.mark.parametrize("arm", every_arm(), ids=lambda arm: arm.name)
def test_optuna_accepts_the_defaults_of_every_arm(arm: ResolvedArm) -> None:
    params = searched(arm.space, arm.card.conditions, arm.defaults)
    known = distributions(arm.space)
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=0.0,
        params=dict(params),
        distributions={name: known[name] for name in params},
    )
    assert as_parameters(arm.space, arm.defaults, trial.params) == arm.defaults
