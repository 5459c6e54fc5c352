"""Python code built from a card and a configuration."""

import ast

import pytest

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.recipe import arguments, call, recipe
from studies.space import Choices, Condition, Parameters, Range, Scalar

__all__: list[str] = []


def hyperparameter(
    name: str, default: Scalar, *, tuned: bool = False, active_when: Condition | None = None
) -> Hyperparameter:
    is_switch = isinstance(default, bool | str)
    return Hyperparameter(
        name=name,
        description="d",
        unit="none",
        default=default,
        search=Choices(choices=(default, "other"))
        if is_switch
        else Range(low=0, high=10, integer=isinstance(default, int)),
        source="s",
        tuned=tuned,
        bounds=None if is_switch else Bounds(low=0),
        active_when=active_when,
    )


def card(**fields: object) -> OptimizerCard:
    complete: dict[str, object] = {
        "name": "toy",
        "title": "Toy",
        "description": "d",
        "reference": "r",
        "import_line": "from toys import Toy",
        "constructor": "Toy",
        "hyperparameters": (
            hyperparameter("lr", 0.1, tuned=True),
            hyperparameter("beta1", 0.9),
            hyperparameter("beta2", 0.99),
            hyperparameter("weight_decay", 0.0, tuned=True),
            hyperparameter(
                "ratio", 0.5, tuned=True, active_when=Condition(parameter="weight_decay", above=0)
            ),
            hyperparameter("k", 5),
            hyperparameter("mode", "plain"),
        ),
        "pairs": {"betas": ("beta1", "beta2")},
    }
    return OptimizerCard.model_validate(complete | fields)


def test_a_call_shows_tuned_hyperparameters_and_those_not_at_their_default() -> None:
    assert call(card(), {}) == "Toy(model.parameters(), lr=0.1, weight_decay=0.0)"
    assert (
        call(card(), {"k": 6, "mode": "other"})
        == 'Toy(model.parameters(), lr=0.1, weight_decay=0.0, k=6, mode="other")'
    )


def test_a_pair_is_one_tuple_and_whole_when_one_half_differs() -> None:
    assert "betas=(0.8, 0.99)" in call(card(), {"beta1": 0.8})
    assert arguments(card(), {"beta1": 0.8})["betas"] == (0.8, 0.99)


def test_hyperparameters_without_effect_are_left_out() -> None:
    assert "ratio" not in call(card(), {"weight_decay": 0.0, "ratio": 0.2})
    assert "ratio=0.2" in call(card(), {"weight_decay": 0.1, "ratio": 0.2})


def test_numbers_keep_every_digit() -> None:
    value = 0.1 + 0.2
    tree = ast.parse(call(card(), {"lr": value}), mode="eval").body
    assert isinstance(tree, ast.Call)
    assert ast.literal_eval(next(k.value for k in tree.keywords if k.arg == "lr")) == value


def test_numbers_have_the_defaults_type() -> None:
    assert arguments(card(), {"lr": 1, "k": 6.0}) == {
        "lr": 1.0,
        "betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "ratio": 0.5,
        "k": 6,
        "mode": "plain",
    }
    assert "lr=1.0, weight_decay=0.0, k=6)" in call(card(), {"lr": 1, "k": 6.0})


def test_the_fixed_arguments_of_a_variant_are_shown() -> None:
    assert call(card(arguments={"nesterov": True}), {}).endswith(", nesterov=True)")


def test_a_recipe_imports_and_binds_optimizer() -> None:
    assert (
        recipe(card(), {})
        == "from toys import Toy\n\noptimizer = Toy(model.parameters(), lr=0.1, weight_decay=0.0)\n"
    )


def test_parameters_without_decay_have_their_own_group() -> None:
    text = call(card(), {"weight_decay": 0.1}, decay_1d=False)
    assert text.startswith(
        'Toy([{"params": [p for p in model.parameters() if p.ndim >= 2]}, '
        '{"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}], lr=0.1, '
    )


def test_an_optimizer_without_weight_decay_needs_no_groups() -> None:
    plain = card(hyperparameters=(hyperparameter("lr", 0.1),), pairs={})
    assert call(plain, {}, decay_1d=False) == "Toy(model.parameters())"


def test_a_card_can_define_its_call() -> None:
    wrapped = card(
        preparation="rest = list(model.parameters())",
        call="[Outer(Toy({params:rest}, {args:lr betas}), {args:k}), Other()]",
    )
    parameters: Parameters = {"beta1": 0.5, "k": 7}
    assert recipe(wrapped, parameters) == (
        "from toys import Toy\n\nrest = list(model.parameters())\noptimizers = [Outer(Toy(rest, lr=0.1, "
        "betas=(0.5, 0.99)), k=7), Other()]\n"
    )


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"^toy has no hyperparameter "
            r"'momentum'; it "
            r"has lr, beta1, "
            r"beta2, weight_decay, "
            r"ratio, k, mode$"
        ),
    ):
        recipe(card(), {"momentum": 0.9})
