"""Search spaces as Optuna distributions, for samplers and for the copies that Optuna's tools open."""

__all__ = ["as_parameters", "distributions", "searched"]

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.space import AnyDimension, Choices, Condition, Fixed, Parameters, Range, Scalar, Space, is_active


def _distribution(dimension: AnyDimension) -> BaseDistribution | None:
    match dimension:
        case Range(integer=True):
            return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        case Range():
            return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        case Choices():
            return CategoricalDistribution(dimension.choices)
        case Fixed():
            return None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the searched dimensions as Optuna distributions, without the fixed ones."""
    found = {name: _distribution(dimension) for name, dimension in space.items()}
    return {name: distribution for name, distribution in found.items() if distribution is not None}


def searched(space: Space, conditions: dict[str, Condition], parameters: Parameters) -> dict[str, Scalar]:
    """Return the values of a configuration that Optuna can represent: searched, active and in range.

    An arm's defaults may lie outside its space (weight decay 0 below a log range); such values are left out.
    """
    return {
        name: parameters[name]
        for name in distributions(space)
        if is_active(name, conditions, parameters) and space[name].contains(parameters[name])
    }


def as_parameters(space: Space, defaults: Parameters, chosen: dict[str, Scalar]) -> Parameters:
    """Return the full configuration: chosen values, fixed dimensions, and inert ones at their default."""
    return {
        name: chosen.get(name, dimension.value if isinstance(dimension, Fixed) else defaults[name])
        for name, dimension in space.items()
    }
