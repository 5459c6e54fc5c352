"""A pasted recipe repeats the trial."""

from typing import Any

import pytest
import torch
from optimizer_configurations import unusual
from toy_regression import build_model, train

from studies.recipe import call, recipe
from studies.space import Parameters
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers

__all__: list[str] = []

ENTRIES = load_optimizers()


@pytest.fixture(params=list(ENTRIES))
def entry(request: pytest.FixtureRequest) -> OptimizerEntry:
    return ENTRIES[request.param]


@pytest.mark.parametrize("decay_1d", [True, False])
@pytest.mark.parametrize("choose", [lambda entry: entry.card.defaults, unusual], ids=["defaults", "unusual"])
def test_a_recipe_trains_like_the_trial(entry: OptimizerEntry, choose: Any, decay_1d: bool) -> None:
    parameters = choose(entry)
    model = build_model()
    expected = train(model, build_optimizer(entry, model, parameters, decay_1d=decay_1d), steps=8)
    names: dict[str, Any] = {"model": build_model()}
    exec(recipe(entry.card, parameters, decay_1d=decay_1d), names)
    pasted = names["optimizers"] if "optimizers" in names else names["optimizer"]
    assert torch.equal(train(names["model"], pasted, steps=8), expected)


def test_a_recipe_ends_with_a_call_on_one_line(entry: OptimizerEntry) -> None:
    line = call(entry.card, entry.card.defaults)
    assert "\n" not in line
    assert recipe(entry.card, entry.card.defaults).endswith(f" = {line}\n")


def test_the_recipe_of_adamp_looks_handwritten() -> None:
    card = ENTRIES["adamp"].card
    parameters: Parameters = {
        **card.defaults,
        "lr": 0.0031234567890123,
        "weight_decay": 0.01,
        "nesterov": True,
    }
    assert recipe(card, parameters) == (
        "from adamp import AdamP\n\n"
        "optimizer = AdamP(model.parameters(), lr=0.0031234567890123, weight_decay=0.01, "
        "delta=0.1, wd_ratio=0.1, nesterov=True)\n"
    )
