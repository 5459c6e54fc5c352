"""Cards: which values they admit, and how inconsistent cards are rejected."""

from typing import Any

import pytest
from catalogs import catalog
from pydantic import ValidationError

from studies.catalog import Bounds, Catalog, Constraint, Hyperparameter, OptimizerCard, suggest_name
from studies.space import Choices, Condition, Fixed, Range, Scalar

__all__: list[str] = []

CARDS = catalog().optimizers


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        (Bounds(), "(-inf, inf)", (-1e300, 0, 1e300), ()),
        (Bounds(low=0), "[0, inf)", (0, 1), (-1e-9,)),
        (Bounds(low=0, low_open=True), "(0, inf)", (1e-300,), (0, -1)),
        (Bounds(low=0, high=1, high_open=True), "[0, 1)", (0, 0.999), (1, 2)),
        (Bounds(high=1), "(-inf, 1]", (-5, 1), (1.1,)),
    ],
)
def test_bounds_admit_the_values_between_them(
    bounds: Bounds, text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert str(bounds) == text
    assert all(map(bounds.admits, inside))
    assert not any(map(bounds.admits, outside))


@pytest.mark.parametrize(
    ("optimizer", "name", "value", "message"),
    [
        ("adamp", "lr", 0.1, None),
        ("adamp", "lr", 1, None),
        ("adamp", "lr", 0, "expected lr in (0, inf), got 0"),
        ("adamp", "lr", True, "expected a number for lr, got True"),
        ("adamp", "lr", "0.1", "expected a number for lr, got '0.1'; write lr: 0.1"),
        ("adamp", "lr", float("nan"), "expected a finite number for lr, got nan"),
        ("adamp", "nesterov", True, None),
        ("adamp", "nesterov", 1, "expected nesterov to be False or True, got 1"),
        ("stepper", "k", 3, None),
        ("stepper", "k", 3.0, None),
        ("stepper", "k", 3.5, "expected a whole number for k, got 3.5"),
        ("stepper", "k", 0, "expected k in [1, inf), got 0"),
        ("stepper", "rule", "signed", None),
        ("stepper", "rule", "other", "expected rule to be 'plain' or 'signed', got 'other'"),
    ],
)
def test_a_wrong_value_of_a_hyperparameter_is_explained(
    optimizer: str, name: str, value: Scalar, message: str | None
) -> None:
    hyperparameter = CARDS[optimizer].hyperparameter(name)
    assert hyperparameter is not None
    assert hyperparameter.fault(value) == message


@pytest.mark.parametrize(
    ("name", "value", "typed"), [("k", 3.0, 3), ("lr", 1, 1.0), ("rule", "plain", "plain")]
)
def test_a_value_takes_the_defaults_type(name: str, value: Scalar, typed: Scalar) -> None:
    hyperparameter = CARDS["stepper"].hyperparameter(name)
    assert hyperparameter is not None
    assert (hyperparameter.typed(value), type(hyperparameter.typed(value))) == (typed, type(typed))


@pytest.mark.parametrize(
    ("parameters", "holds"),
    [
        ({"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}, True),
        ({"lr": 1.0, "weight_decay": 0.1, "momentum": 0.9}, False),
        ({"lr": 10.0, "weight_decay": 0.0, "momentum": 0.9}, True),
        ({"lr": 0.5, "momentum": 0.0}, True),
    ],
)
def test_a_constraint_holds_below_one_minus(parameters: dict[str, Scalar], holds: bool) -> None:
    constraint = Constraint(product=("lr", "weight_decay"), below_one_minus="momentum", reason="r")
    assert constraint.holds(parameters) is holds
    assert str(constraint) == "lr * weight_decay < 1 - momentum"


def hyperparameter(**fields: Any) -> Hyperparameter:
    complete: dict[str, Any] = {
        "name": "lr",
        "description": "d",
        "unit": "none",
        "default": 0.1,
        "search": Range(low=0.01, high=1),
        "source": "s",
        "tuned": True,
        "bounds": Bounds(low=0),
    }
    return Hyperparameter(**(complete | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"search": Fixed(value=0.1)}, "the search dimension must be a range or choices"),
        ({"bounds": None}, "a number needs bounds"),
        ({"default": -0.1}, "expected lr in"),
        ({"search": Range(low=-1, high=1)}, "expected lr in"),
        ({"default": 3, "search": Range(low=1.5, high=2)}, "expected a whole number for lr, got 1.5"),
        ({"default": "a", "search": Choices(choices=("b",))}, "expected lr to be 'b', got 'a'"),
    ],
)
def test_an_inconsistent_hyperparameter_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        hyperparameter(**fields)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hyperparameters": (hyperparameter(), hyperparameter())}, "different hyperparameter names"),
        (
            {"pairs": {"betas": ("lr", "beta2")}},
            "a pair names 'beta2', which is not a hyperparameter of this card; it has lr",
        ),
        (
            {"hyperparameters": (hyperparameter(active_when=Condition(parameter="wd", above=0)),)},
            "a condition names 'wd'",
        ),
        (
            {"constraints": (Constraint(product=("lr", "wd"), below_one_minus="lr", reason="r"),)},
            "a constraint names 'wd'",
        ),
        (
            {
                "hyperparameters": (hyperparameter(default=True, search=Choices(choices=(True, False))),),
                "constraints": (Constraint(product=("lr",), below_one_minus="lr", reason="r"),),
            },
            "a constraint names 'lr', which is not a number of this card",
        ),
    ],
)
def test_an_inconsistent_card_is_refused(fields: dict[str, Any], message: str) -> None:
    complete: dict[str, Any] = {
        "name": "toy",
        "title": "Toy",
        "description": "d",
        "reference": "r",
        "import_line": "import toy",
        "constructor": "Toy",
        "hyperparameters": (hyperparameter(),),
    }
    OptimizerCard(**complete)
    with pytest.raises(ValidationError) as raised:
        OptimizerCard(**(complete | fields))
    assert message in str(raised.value)


def test_a_catalogue_survives_json() -> None:
    cards = catalog()
    assert Catalog.model_validate_json(cards.model_dump_json()) == cards


def test_an_unknown_name_gets_a_suggestion() -> None:
    assert suggest_name("adampp", ["sgd", "adamp"]) == "did you mean 'adamp'?"
    assert suggest_name("zzz", ["sgd", "adamp"]) == "known: sgd, adamp"
    assert suggest_name("zzz", []) == "known: none yet"
