"""Configurations of optimizers for tests."""

__all__ = ["lively", "unusual"]

from studies.space import Choices, Parameters, Range, Scalar
from workers.optimizers import OptimizerEntry


def lively(entry: OptimizerEntry) -> Parameters:
    """Return the defaults, except those that would disable other hyperparameters."""
    livelier: Parameters = {"weight_decay": 0.01, "momentum": 0.9}
    defaults = entry.card.defaults
    return defaults | {name: value for name, value in livelier.items() if name in defaults}


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
