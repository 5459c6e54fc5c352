"""Members of dimensions, conditions, the size of a space and the identity of configurations."""

import math

import pytest

from studies.space import (
    AnyDimension,
    Choices,
    Condition,
    Fixed,
    Parameters,
    Range,
    Scalar,
    Space,
    configuration_key,
    is_active,
    size,
)

__all__: list[str] = []

PLAIN = Range(low=-1, high=2)
WHOLE = Range(low=1, high=4, integer=True)
SWITCH = Choices(choices=(False, True))
MIXED = Choices(choices=(0, 0.1, "none", True))


@pytest.mark.parametrize(
    ("dimension", "value", "is_member"),
    [
        (PLAIN, -1, True),
        (PLAIN, 2.0, True),
        (PLAIN, 2.0000001, False),
        (PLAIN, math.nan, False),
        (PLAIN, True, False),
        (PLAIN, "1", False),
        (WHOLE, 4, True),
        (WHOLE, 3.0, True),
        (WHOLE, 3.5, False),
        (WHOLE, 5, False),
        (SWITCH, True, True),
        (SWITCH, 1, False),
        (SWITCH, 0.0, False),
        (MIXED, 0, True),
        (MIXED, 0.0, True),
        (MIXED, False, False),
        (MIXED, "none", True),
        (MIXED, "None", False),
        (MIXED, 1, False),
        (Fixed(value=0.1), 0.1, True),
        (Fixed(value=0.1), 0.2, False),
        (Fixed(value=True), 1, False),
        (Fixed(value=1), True, False),
    ],
)
def test_a_dimension_contains_exactly_its_members(
    dimension: AnyDimension, value: Scalar, is_member: bool
) -> None:
    assert dimension.contains(value) is is_member


def test_true_and_one_are_different_choices() -> None:
    assert Choices(choices=(True, 1)).choices == (True, 1)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 0.0}, {"a": -0.0}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": 0.0}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
    ],
)
def test_configurations_are_equal_if_all_their_values_are(
    one: Parameters, other: Parameters, is_same: bool
) -> None:
    assert (configuration_key(one) == configuration_key(other)) is is_same
    assert (len({configuration_key(one), configuration_key(other)}) == 1) is is_same


@pytest.mark.parametrize(
    ("space", "configurations"),
    [
        ({}, 1),
        ({"a": Fixed(value=1)}, 1),
        ({"a": SWITCH, "b": WHOLE, "c": Fixed(value=1)}, 8),
        ({"a": SWITCH, "b": PLAIN}, math.inf),
    ],
)
def test_the_size_of_a_space_is_its_number_of_configurations(space: Space, configurations: float) -> None:
    assert size(space) == configurations


@pytest.mark.parametrize(
    ("value", "holds"),
    [(0.1, True), (0, False), (0.0, False), (-1, False), (True, True), ("much", False), (None, False)],
)
def test_a_condition_holds_above_its_bound(value: Scalar | None, holds: bool) -> None:
    condition = Condition(parameter="weight_decay", above=0)
    assert condition.holds({} if value is None else {"weight_decay": value}) is holds


@pytest.mark.parametrize(
    ("dimension", "can_hold"),
    [
        (Range(low=0, high=1), True),
        (Range(low=-1, high=0), False),
        (Choices(choices=(0, 0.1)), True),
        (Choices(choices=(0, -1)), False),
        (Fixed(value=0), False),
        (Fixed(value=1), True),
        (SWITCH, True),
    ],
)
def test_a_condition_can_hold_if_any_value_meets_it(dimension: AnyDimension, can_hold: bool) -> None:
    assert Condition(parameter="x", above=0).can_hold(dimension) is can_hold


def test_a_hyperparameter_without_a_condition_is_always_active() -> None:
    conditions = {"wd_ratio": Condition(parameter="weight_decay", above=0)}
    assert is_active("lr", conditions, {"weight_decay": 0})
    assert not is_active("wd_ratio", conditions, {"weight_decay": 0})
    assert is_active("wd_ratio", conditions, {"weight_decay": 0.1})
