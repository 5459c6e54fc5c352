"""Search spaces: the dimension of each hyperparameter, and the conditions under which it has an effect.

Users write a dimension in JSON as `0.9` (fixed), `{"low": 1e-4, "high": 1e-1, "log": true}`,
`{"low": 1, "high": 8, "integer": true}` or `{"choices": [0, 0.1]}`. Here they are immutable values. The
samplers are in `workers`.
"""

__all__ = [
    "AnyDimension",
    "Choices",
    "Condition",
    "ConfigurationKey",
    "Fixed",
    "Parameters",
    "Range",
    "Scalar",
    "Space",
    "configuration_key",
    "every_point",
    "is_active",
    "quantile",
    "size",
    "without_inert",
]

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from studies.errors import shown
from studies.frozen_model import FrozenModel

# JSON readers that keep numbers as 64-bit floats, such as JavaScript, round larger whole numbers.
_LARGEST_WHOLE = 2**53
_LONGEST_TEXT = 64


def _scalar(value: object) -> object:
    # In the order of how often they occur: a page of trials has hundreds of values.
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value}")
    elif isinstance(value, int):
        if abs(value) > _LARGEST_WHOLE:
            raise ValueError(f"expected a whole number between -2**53 and 2**53, got {shown(value)}")
    elif isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise ValueError(f"expected text of at most {_LONGEST_TEXT} characters, got {len(value)}")
        if not value.isprintable():
            raise ValueError(f"expected printable text, got {shown(value)}")
    else:
        raise ValueError(f"expected a number, true, false or text, got {shown(value)}")
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
"""A hyperparameter's value: finite, and of the type in which it was written (`true` is not 1)."""

Parameters = dict[str, Scalar]
"""A configuration: hyperparameter name to value."""

ConfigurationKey = tuple[tuple[str, bool, Scalar], ...]
"""The hashable identity of a configuration; see `configuration_key`."""


def _not_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return value


Finite = Annotated[float, BeforeValidator(_not_boolean), AfterValidator(_finite)]


def _value_key(value: Scalar) -> tuple[bool, Scalar]:
    # True == 1 in Python, but they are different hyperparameter values.
    return isinstance(value, bool), value


def _is_same(one: Scalar, other: Scalar) -> bool:
    return _value_key(one) == _value_key(other)


def configuration_key(parameters: Parameters) -> ConfigurationKey:
    """Return a hashable key that is equal for two configurations exactly when they are the same.

    The order of the names does not matter, 1 and 1.0 are the same number, and True is not 1.
    """
    return tuple((name, *_value_key(value)) for name, value in sorted(parameters.items()))


class Range(FrozenModel):
    """Numbers from `low` to `high`, both included."""

    kind: Literal["range"] = "range"
    low: Finite = Field(description="Smallest value, included.", examples=[1e-4])
    high: Finite = Field(description="Largest value, included.", examples=[1e-1])
    log: bool = Field(default=False, description="Sample uniformly in log(value); needs low > 0.")
    integer: bool = Field(default=False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(
                f"expected low < high, got low={self.low:g} and high={self.high:g}; "
                "to fix one value, write the number itself"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"expected low > 0 in a log range, got low={self.low:g}; raise low, or set log to false"
            )
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(
                f"expected whole numbers in an integer range, got low={self.low:g} and high={self.high:g}"
            )
        if self.integer and max(-self.low, self.high) > _LARGEST_WHOLE:
            raise ValueError(
                f"expected an integer range between -2**53 and 2**53, got low={self.low:g} and "
                f"high={self.high:g}"
            )
        if not math.isfinite(self.high - self.low):
            raise ValueError(
                "expected a range no wider than the largest number, got "
                f"low={self.low:g} and high={self.high:g}"
            )
        return self

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` lies in the range; booleans and strings never do."""
        if isinstance(value, bool | str):
            return False
        return self.low <= value <= self.high and (not self.integer or float(value).is_integer())


class Choices(FrozenModel):
    """A few values in no order."""

    kind: Literal["choices"] = "choices"
    choices: tuple[Scalar, ...] = Field(
        min_length=1,
        max_length=100,
        description="The values to choose from, all different.",
        examples=[[True, False]],
    )

    @model_validator(mode="after")
    def _different(self) -> Self:
        seen: list[Scalar] = []
        for choice in self.choices:
            if any(_is_same(choice, other) for other in seen):
                raise ValueError(f"expected different choices, but {choice!r} appears more than once")
            seen.append(choice)
        return self

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is one of the choices."""
        return any(_is_same(value, choice) for choice in self.choices)


class Fixed(FrozenModel):
    """One value that is not searched."""

    kind: Literal["fixed"] = "fixed"
    value: Scalar = Field(description="The value in every trial.")

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is the fixed value."""
        return _is_same(value, self.value)


AnyDimension = Annotated[Range | Choices | Fixed, Field(discriminator="kind")]
"""The values that one hyperparameter may take."""

Space = dict[str, AnyDimension]
"""Hyperparameter name to dimension, in the order of the optimizer's card."""


class Condition(FrozenModel):
    """A hyperparameter has an effect only if another is above a value, or is one of a few values.

    `wd_ratio` has one only if `weight_decay` is above 0, `warmup_fraction` only if the schedule warms up.
    """

    parameter: str = Field(description="The other hyperparameter.")
    above: float | None = Field(default=None, description="The other must be larger than this.")
    among: tuple[Scalar, ...] = Field(default=(), description="The other must be one of these values.")

    @model_validator(mode="after")
    def _has_one_rule(self) -> Self:
        if (self.above is None) == (not self.among):
            raise ValueError(
                f"expected `above` or `among` for a condition on {self.parameter}, got "
                f"{'neither' if self.above is None else 'both'}"
            )
        return self

    def holds(self, parameters: Parameters) -> bool:
        """Return whether the condition is met; a missing value does not meet it, and no text is above."""
        value = parameters.get(self.parameter)
        if value is None:
            return False
        if self.above is None:
            return any(_is_same(value, each) for each in self.among)
        return not isinstance(value, str) and float(value) > self.above

    def can_hold(self, dimension: AnyDimension) -> bool:
        """Return whether any value in the other hyperparameter's dimension meets the condition."""
        match dimension:
            case Range():
                return any(map(dimension.contains, self.among)) or self.holds(
                    {self.parameter: dimension.high}
                )
            case Choices():
                values = dimension.choices
            case Fixed():
                values = (dimension.value,)
        return any(self.holds({self.parameter: value}) for value in values)

    def always_holds(self, dimension: AnyDimension) -> bool:
        """Return whether every value in the other hyperparameter's dimension meets the condition."""
        match dimension:
            case Range():
                return self.above is not None and self.holds({self.parameter: dimension.low})
            case Choices():
                values = dimension.choices
            case Fixed():
                values = (dimension.value,)
        return all(self.holds({self.parameter: value}) for value in values)

    @property
    def rule(self) -> str:
        """What the other must be, e.g. `above 0`."""
        return f"above {self.above:g}" if self.above is not None else " or ".join(map(repr, self.among))

    def __str__(self) -> str:
        """Return the condition as a clause, e.g. `weight_decay is above 0`."""
        return f"{self.parameter} is {self.rule}"


def is_active(name: str, conditions: dict[str, Condition], parameters: Parameters) -> bool:
    """Return whether hyperparameter `name` has an effect in the configuration `parameters`."""
    condition = conditions.get(name)
    return condition is None or condition.holds(parameters)


def without_inert(
    parameters: Parameters, conditions: dict[str, Condition], defaults: Parameters
) -> Parameters:
    """Return the configuration with every hyperparameter that has no effect at its default.

    Configurations that train alike become equal.
    """
    return {
        name: value if is_active(name, conditions, parameters) else defaults[name]
        for name, value in parameters.items()
    }


def quantile(dimension: AnyDimension, u: float) -> Scalar:
    """Return the value below which a fraction `u` in [0, 1) of the dimension lies."""
    match dimension:
        case Choices():
            return dimension.choices[int(u * len(dimension.choices))]
        case Range(integer=True, log=False):
            return int(dimension.low) + int(u * (dimension.high - dimension.low + 1))
        case Range(log=True):
            low, high = (
                (dimension.low - 0.5, dimension.high + 0.5)
                if dimension.integer
                else (dimension.low, dimension.high)
            )
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            value = min(max(value, dimension.low), dimension.high)
            return round(value) if dimension.integer else value
        case Range():
            return dimension.low + u * (dimension.high - dimension.low)
        case Fixed():
            return dimension.value


def every_point(space: Space) -> Iterator[Parameters]:
    """Yield every configuration of a finite space.

    Raises:
        ValueError: a dimension is a continuous range.
    """
    values: list[Iterable[Scalar]] = []
    for name, dimension in space.items():
        match dimension:
            case Choices():
                values.append(dimension.choices)
            case Range(integer=True):
                values.append(range(int(dimension.low), int(dimension.high) + 1))
            case Range():
                raise ValueError(f"expected a finite space, but {name} is a continuous range")
            case Fixed():
                values.append((dimension.value,))
    return (dict(zip(space, point, strict=True)) for point in itertools.product(*values))


def size(space: Space) -> float:
    """Return the number of configurations in a space; inf if any dimension is a continuous range."""
    total = 1.0
    for dimension in space.values():
        match dimension:
            case Choices():
                total *= len(dimension.choices)
            case Range(integer=True):
                total *= dimension.high - dimension.low + 1
            case Range():
                return math.inf
            case Fixed():
                pass
    return total
