"""Laws that every optimizer of the catalogue obeys; a new optimizer is one more row."""

import copy
import inspect
import io
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from toy_regression import build_model, loss_of, train

from studies.catalog import Hyperparameter, OptimizerCard
from studies.space import Choices, Parameters, Range, Scalar
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers
from workers.optimizers.registry import check

__all__: list[str] = []

ENTRIES = load_optimizers()

DEVIATIONS = {
    ("sgdp", "lr"): "the constructor requires one; 0.1 is the paper's",
    ("sgd-nesterov", "momentum"): "SGD's 0 is not legal with Nesterov momentum",
    ("ademamix", "t_alpha_beta3"): "1 is the same as the constructor's None",
}
"""Hyperparameters whose default on the card is not the constructor's."""

SCALES = {"prodigy": "d_coef"}
"""The hyperparameter that scales the steps of an optimizer that finds its learning rate itself."""


@pytest.fixture(params=list(ENTRIES))
def entry(request: pytest.FixtureRequest) -> OptimizerEntry:
    return ENTRIES[request.param]


def lively(card: OptimizerCard) -> Parameters:
    """Return the defaults, except those that would disable other hyperparameters."""
    livelier: Parameters = {"weight_decay": 0.01, "momentum": 0.9}
    return card.completed(
        {**card.defaults, **{name: value for name, value in livelier.items() if name in card.defaults}}
    )


def others(hyperparameter: Hyperparameter, value: Scalar) -> list[Scalar]:
    """Return the first value other than `value` that a search would try."""
    match hyperparameter.search:
        case Range(low=low, high=high):
            ends: tuple[Scalar, ...] = (low, high)
        case Choices(choices=choices):
            ends = choices
        case _:
            raise AssertionError(hyperparameter)
    return [hyperparameter.typed(end) for end in ends if end != value]


def trajectory(entry: OptimizerEntry, parameters: Parameters, *, steps: int) -> torch.Tensor:
    model = build_model()
    return train(model, build_optimizer(entry, model, parameters, decay_1d=True), steps=steps)


def test_a_card_survives_json(entry: OptimizerEntry) -> None:
    assert OptimizerCard.model_validate_json(entry.card.model_dump_json()) == entry.card


def test_learning_rate_and_weight_decay_are_tuned_by_default(entry: OptimizerEntry) -> None:
    tuned = {h.name for h in entry.card.hyperparameters if h.tuned}
    assert {SCALES.get(entry.card.name, "lr"), "weight_decay"} <= tuned
    assert not {"beta1", "beta2", "eps"} & tuned


def test_the_card_names_the_kind_of_weight_decay(entry: OptimizerEntry) -> None:
    hyperparameter = entry.card.hyperparameter("weight_decay")
    assert hyperparameter is not None
    assert hyperparameter.description.startswith(("Decoupled weight decay: ", "L2 penalty: "))


def test_defaults_are_the_constructors_own(entry: OptimizerEntry) -> None:
    card = entry.card
    names: dict[str, Any] = {}
    exec(card.import_line, names)
    optimizers = [each for each in names.values() if isinstance(each, type) and issubclass(each, Optimizer)]
    signature: dict[str, inspect.Parameter] = {}
    for optimizer in [*optimizers, names[card.constructor]]:
        for base in reversed(optimizer.__mro__):
            if issubclass(base, Optimizer):
                signature |= inspect.signature(base).parameters
    found: dict[str, Any] = {}
    for argument, parts in card.pairs.items():
        found |= dict(zip(parts, signature[argument].default, strict=True))
    found |= {name: signature[name].default for name in card.defaults if name not in found}
    different = {name for name, default in card.defaults.items() if found[name] != default}
    assert different == {
        name for optimizer, name in DEVIATIONS if optimizer == card.name.removeprefix("lookahead-")
    }
    # A recipe omits untuned hyperparameters at their defaults, so the constructor must have the same
    # defaults.
    assert all(h.tuned for h in card.hyperparameters if h.name in different)


def test_defaults_are_legal_and_lower_the_loss(entry: OptimizerEntry) -> None:
    model = build_model()
    optimizer = build_optimizer(entry, model, entry.card.defaults, decay_1d=True)
    before = loss_of(model).item()
    train(model, optimizer, steps=8)
    assert loss_of(model).item() < before


def test_both_ends_of_every_search_range_are_legal_and_run(entry: OptimizerEntry) -> None:
    for hyperparameter in entry.card.hyperparameters:
        for value in others(hyperparameter, lively(entry.card)[hyperparameter.name]):
            parameters = {**lively(entry.card), hyperparameter.name: value}
            check(entry.card, parameters)
            trajectory(entry, parameters, steps=1)


def test_every_hyperparameter_changes_what_the_optimizer_does(entry: OptimizerEntry) -> None:
    parameters = lively(entry.card)
    usual = trajectory(entry, parameters, steps=8)
    for hyperparameter in entry.card.hyperparameters:
        changed = (
            trajectory(entry, {**parameters, hyperparameter.name: value}, steps=8)
            for value in others(hyperparameter, parameters[hyperparameter.name])
        )
        assert any(not torch.equal(usual, other) for other in changed), (
            f"{entry.card.name} ignores {hyperparameter.name}"
        )


def test_a_hyperparameter_has_no_effect_unless_its_condition_holds(entry: OptimizerEntry) -> None:
    for name, condition in entry.card.conditions.items():
        parameters = {**lively(entry.card), condition.parameter: condition.above}
        hyperparameter = entry.card.hyperparameter(name)
        assert hyperparameter is not None
        usual = trajectory(entry, parameters, steps=4)
        for value in others(hyperparameter, parameters[name]):
            assert torch.equal(usual, trajectory(entry, {**parameters, name: value}, steps=4))


def test_float64_stays_float64(entry: OptimizerEntry) -> None:
    model = build_model()
    train(model, build_optimizer(entry, model, lively(entry.card), decay_1d=True), steps=3)
    assert all(p.dtype == torch.float64 and p.isfinite().all() for p in model.parameters())


def test_two_runs_are_bitwise_equal(entry: OptimizerEntry) -> None:
    assert torch.equal(
        trajectory(entry, lively(entry.card), steps=6), trajectory(entry, lively(entry.card), steps=6)
    )


def test_every_trainable_parameter_is_optimized_once(entry: OptimizerEntry) -> None:
    model = build_model()
    optimizer = build_optimizer(entry, model, entry.card.defaults, decay_1d=False)
    optimized = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(optimized) == sorted(id(p) for p in model.parameters())


def test_a_checkpoint_resumes_where_it_was_saved(entry: OptimizerEntry) -> None:
    parameters = lively(entry.card)
    # In float32 like trials, because torch loads state that some optimizers keep in float32 (NAdam's
    # mu_product) in the weight's dtype.
    model = build_model().float()
    optimizer = build_optimizer(entry, model, parameters, decay_1d=False)
    train(model, optimizer, steps=7)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed_model = build_model().float()
    resumed = build_optimizer(entry, resumed_model, parameters, decay_1d=False)
    resumed_model.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert torch.equal(train(resumed_model, resumed, steps=6), train(model, optimizer, steps=6))


def test_a_checkpoint_saved_after_evaluation_resumes_as_well(entry: OptimizerEntry) -> None:
    model = build_model()
    optimizer: Any = build_optimizer(entry, model, lively(entry.card), decay_1d=True)
    if not hasattr(optimizer, "eval"):
        assert entry.card.schedule == "any"
        return
    train(model, optimizer, steps=3)
    optimizer.eval()
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    resumed_model = build_model()
    resumed: Any = build_optimizer(entry, resumed_model, lively(entry.card), decay_1d=True)
    resumed_model.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for each in (optimizer, resumed):
        each.train()
    assert torch.equal(train(resumed_model, resumed, steps=3), train(model, optimizer, steps=3))


def test_a_configuration_that_cannot_run_is_rejected_with_a_reason(entry: OptimizerEntry) -> None:
    name, defaults = entry.card.name, entry.card.defaults
    bad: list[tuple[Parameters, str]] = [
        ({**defaults, "zeta": 1.0}, rf"^{name} has no hyperparameter 'zeta'; it has lr, "),
        (
            {n: v for n, v in defaults.items() if n != "lr"},
            rf"^{name} needs a value for lr; a configuration must set all of lr, ",
        ),
        ({**defaults, "lr": -1.0}, rf"^{name}: expected lr in \(0, inf\), got -1; its default is "),
        ({**defaults, "lr": float("nan")}, rf"^{name}: expected a finite number for lr, got nan; its "),
        ({**defaults, "lr": True}, rf"^{name}: expected a number for lr, got True; its default is "),
    ]
    for parameters, message in bad:
        with pytest.raises(ValueError, match=message):
            build_optimizer(entry, build_model(), parameters, decay_1d=True)


def test_no_bound_is_looser_than_the_constructors(entry: OptimizerEntry) -> None:
    """The constructor accepts every value that the card accepts, so no trial fails on a checked value."""
    for hyperparameter in entry.card.hyperparameters:
        bounds = hyperparameter.bounds
        if bounds is None:
            continue
        closed = [(bounds.low, bounds.low_open, 1e-9), (bounds.high, bounds.high_open, -1e-9)]
        for end, is_open, inward in closed:
            if end is not None:
                parameters = {
                    **lively(entry.card),
                    hyperparameter.name: hyperparameter.typed(end + inward if is_open else end),
                }
                if all(constraint.holds(parameters) for constraint in entry.card.constraints):
                    build_optimizer(entry, build_model(), parameters, decay_1d=True)
