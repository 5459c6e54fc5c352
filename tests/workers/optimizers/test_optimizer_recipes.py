"""A pasted recipe repeats the trial."""

from typing import Any

import pytest
import torch
from toy_regression import build_model, train

from studies.recipe import call, recipe, whole_recipe
from studies.space import Choices, Parameters, Range, Scalar
from studies.training_settings import TrainingSettings
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers
from workers.schedules import factor

__all__: list[str] = []

ENTRIES = load_optimizers()


@pytest.fixture(params=list(ENTRIES))
def entry(request: pytest.FixtureRequest) -> OptimizerEntry:
    return ENTRIES[request.param]


def unusual(entry: OptimizerEntry) -> Parameters:
    """Return a configuration with no default values, and with digits that rounding would lose."""
    values: dict[str, Scalar] = {}
    for h in entry.card.hyperparameters:
        match h.search:
            case Range(low=low, high=high, integer=integer):
                values[h.name] = int(low + 1) if integer else low + (high - low) / 30.0
            case Choices(choices=choices):
                values[h.name] = next(choice for choice in choices if choice != h.default)
            case _:
                raise AssertionError(h)
    return values


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


SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "constant", "warmup_fraction": 0.2},
    {"schedule": "cosine"},
    {"schedule": "warmup-cosine"},
    {"schedule": "linear", "warmup_fraction": 0.1},
    {"schedule": "step", "step_drops": 3, "step_factor": 0.5},
    {"schedule": "one-cycle"},
    {"schedule": "wsd", "decay_fraction": 0.3},
    {"schedule": "warm-restarts", "cycles": 2, "cycle_growth": 1.5},
]


@pytest.mark.parametrize("settings", SCHEDULES, ids=lambda settings: "-".join(map(str, settings.values())))
@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("length", [(4, None, 320), (8, 5, 100)], ids=["epochs", "intervals"])
def test_a_whole_recipe_sets_the_trials_learning_rates_and_decays(
    name: str, settings: dict[str, Any], length: tuple[int, int | None, int]
) -> None:
    entry, model = ENTRIES[name], build_model()
    fixed = TrainingSettings(batch_size=64, decay_1d=False)
    training = TrainingSettings(batch_size=32, decay_1d=False, **settings)
    searched: Parameters = {"batch_size": 32, **settings}
    parameters: Parameters = {
        **entry.card.defaults,
        "groups.first.lr": 0.5,
        "groups.first.weight_decay": 0.3,
        **{f"training.{setting}": value for setting, value in searched.items()},
    }
    groups = {"first": list(model.parameters())[:2]}
    names: dict[str, Any] = {"model": model, "groups": groups}
    epochs, interval_steps, examples = length
    code = whole_recipe(
        entry.card, parameters, fixed, epochs=epochs, interval_steps=interval_steps, examples=examples
    )
    exec(code, names)
    optimizers = names["optimizers"] if "optimizers" in names else [names["optimizer"]]
    schedulers = names.get("schedulers", [names["scheduler"]] if "scheduler" in names else [])
    own = build_optimizer(entry, model, parameters, decay_1d=False, groups=groups)
    for step in range(40):
        scale = factor(training, step=step, total_steps=40)
        pasted = {
            id(p): (pytest.approx(group["lr"]), group["weight_decay"])
            for optimizer in optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        expected = {
            id(p): (scale * group["initial_lr"], group["weight_decay"])
            for group in own.param_groups
            for p in group["params"]
        }
        assert expected == pasted
        for each in (*optimizers, *schedulers):
            each.step()
