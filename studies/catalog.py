"""Cards: what an optimizer or a workload says of itself.

With them the service can offer and check it without importing torch.

`workers` writes the cards it can run to the store (`offer`); `studies.resolve` and the API read them from
there.
"""

__all__ = [
    "Bounds",
    "Catalog",
    "Constraint",
    "Containment",
    "Hyperparameter",
    "OptimizerCard",
    "WorkloadCard",
    "suggest_name",
]

import difflib
import math
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studies.direction import Direction
from studies.space import AnyDimension, Choices, Condition, Fixed, Parameters, Scalar

"""Which way a metric is better."""


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Card):
    """The values an optimizer accepts at all, wider than the range one would search."""

    low: float | None = Field(default=None, description="Smallest legal value; none means no limit.")
    high: float | None = Field(default=None, description="Largest legal value; none means no limit.")
    low_open: bool = Field(default=False, description="True when `low` itself is not legal.")
    high_open: bool = Field(default=False, description="True when `high` itself is not legal.")

    def admits(self, value: float) -> bool:
        """Return whether value is legal."""
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = self.high is None or value < self.high or (value == self.high and not self.high_open)
        return above and below

    def __str__(self) -> str:
        """Return the interval in the usual notation, e.g. `(0, inf)`."""
        left = "(-inf" if self.low is None else f"{'(' if self.low_open else '['}{self.low:g}"
        right = "inf)" if self.high is None else f"{self.high:g}{')' if self.high_open else ']'}"
        return f"{left}, {right}"


class Hyperparameter(_Card):
    """One hyperparameter of an optimizer."""

    name: str = Field(
        description=(
            "Its name in spaces and trials; the optimizer's own argument unless "
            "the card's `pairs` say otherwise."
        )
    )
    description: str = Field(description="What it does, in one sentence.")
    unit: str = Field(description="Its unit: what a change of 1 means; 'none' for pure numbers and switches.")
    default: Scalar = Field(description="The optimizer's own default.")
    search: AnyDimension = Field(
        description="The field's usual range or choices, used when it is tuned without a range of one's own."
    )
    source: str = Field(description="Where the range comes from.")
    tuned: bool = Field(description="Whether an arm tunes it when the study says nothing of it.")
    bounds: Bounds | None = Field(
        default=None, description="Legal values of a number; none for switches and categories."
    )
    active_when: Condition | None = Field(
        default=None, description="When it has any effect; none means always."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.search, Fixed):
            raise ValueError(f"{self.name}: the search dimension must be a range or choices")
        is_number = not isinstance(self.default, bool | str)
        if is_number and self.bounds is None:
            raise ValueError(f"{self.name}: a number needs bounds")
        values = (
            self.search.choices if isinstance(self.search, Choices) else (self.search.low, self.search.high)
        )
        for value in (self.default, *values):
            fault = self.fault(value)
            if fault is not None:
                raise ValueError(f"its own default, range or choices are not legal: {fault}")
        return self

    def typed(self, value: Scalar) -> Scalar:
        """Return value as the default's type: JSON may say 1 for 1.0, and a sampler 5.0 for 5."""
        if isinstance(value, bool | str) or isinstance(self.default, bool | str):
            return value
        return int(value) if isinstance(self.default, int) else float(value)

    def fault(self, value: Scalar) -> str | None:
        """Return what is wrong with value for this hyperparameter, or None."""
        if isinstance(self.search, Choices) and isinstance(self.default, bool | str):
            return (
                None
                if self.search.contains(value)
                else f"{self.name} is one of {', '.join(map(repr, self.search.choices))}, got {value!r}"
            )
        if isinstance(value, bool | str):
            return f"{self.name} is a number, got {value!r}"
        if not math.isfinite(value):
            return f"{self.name} is a finite number, got {value}"
        if isinstance(self.default, int) and not float(value).is_integer():
            return f"{self.name} is a whole number, got {value!r}"
        if self.bounds is not None and not self.bounds.admits(float(value)):
            return f"{self.name} must lie in {self.bounds}, got {value:g}"
        return None


class Constraint(_Card):
    """A product of hyperparameters must stay below `1 - other`: `lr * weight_decay < 1 - momentum`."""

    product: tuple[str, ...] = Field(description="Hyperparameters that are multiplied.")
    below_one_minus: str = Field(
        description="The product must be smaller than one minus this hyperparameter."
    )
    reason: str = Field(description="What breaks otherwise.")

    def holds(self, parameters: Parameters) -> bool:
        """Return whether parameters, all of them numbers, satisfy the constraint.

        One that is absent counts as 0.
        """
        product = 1.0
        for name in self.product:
            product *= float(parameters.get(name, 0.0))
        return product < 1.0 - float(parameters.get(self.below_one_minus, 0.0))

    def __str__(self) -> str:
        """Return the constraint as a formula."""
        return f"{' * '.join(self.product)} < 1 - {self.below_one_minus}"


class Containment(_Card):
    """This optimizer equals another one at some settings, so it must not lose to it by more than noise."""

    optimizer: str = Field(description="Name of the optimizer that is contained.")
    at: Parameters = Field(description="Settings of this optimizer at which both are the same algorithm.")
    requires: Parameters = Field(
        default_factory=dict,
        description=(
            "Settings the contained optimizer needs for it; empty: all of it is contained, not only a part."
        ),
    )
    note: str = Field(default="", description="Anything else that must hold for the two to agree.")


class OptimizerCard(_Card):
    """An optimizer as the service knows it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Name in studies.")
    title: str = Field(description="Name as the literature writes it.")
    description: str = Field(description="What is particular to it, in one or two sentences.")
    reference: str = Field(description="Paper or upstream documentation.")
    import_line: str = Field(description="Python that imports it.")
    constructor: str = Field(description="Python name that is called with the model's parameters.")
    arguments: dict[str, Scalar] = Field(
        default_factory=dict, description="Arguments that make it this variant, e.g. nesterov=True."
    )
    hyperparameters: tuple[Hyperparameter, ...] = Field(
        min_length=1, description="Everything that can be searched or set."
    )
    pairs: dict[str, tuple[str, str]] = Field(
        default_factory=dict,
        description="Arguments that take two hyperparameters as a tuple: {'betas': ['beta1', 'beta2']}.",
    )
    preparation: str = Field(
        default="", description="Python that must stand between the import and the call; it may use `model`."
    )
    call: str = Field(
        default="",
        description=(
            "Python of the call where `constructor(model.parameters(), ...)` is not enough. "
            "`{params:EXPRESSION}` stands for these "
            "parameters, in groups where weight decay needs them; `{args:lr betas}` for the named keyword "
            "arguments. A list builds several optimizers."
        ),
    )
    contains: tuple[Containment, ...] = Field(
        default=(), description="Optimizers that this one equals at some settings."
    )
    constraints: tuple[Constraint, ...] = Field(default=(), description="What configurations have to meet.")
    schedule: Literal["any", "constant"] = Field(
        default="any", description="'constant' when it has its own schedule and ignores the study's."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [h.name for h in self.hyperparameters]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: hyperparameters need different names, got {', '.join(names)}")
        numbers = {h.name for h in self.hyperparameters if not isinstance(h.default, bool | str)}
        for where, used, known in (
            ("a pair", [part for pair in self.pairs.values() for part in pair], set(names)),
            ("a condition", [c.parameter for c in self.conditions.values()], set(names)),
            (
                "a constraint",
                [name for c in self.constraints for name in (*c.product, c.below_one_minus)],
                numbers,
            ),
        ):
            strange = [name for name in used if name not in known]
            if strange:
                kind = "hyperparameter" if strange[0] not in names else "number"
                raise ValueError(
                    f"{self.name}: {where} names {strange[0]!r}, which is no {kind} of "
                    f"its own; it has {', '.join(names)}"
                )
        return self

    def hyperparameter(self, name: str) -> Hyperparameter | None:
        """Return the hyperparameter of this name, or None."""
        return next((h for h in self.hyperparameters if h.name == name), None)

    @property
    def defaults(self) -> Parameters:
        """The optimizer's own defaults."""
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def conditions(self) -> dict[str, Condition]:
        """When each conditional hyperparameter has any effect."""
        return {h.name: h.active_when for h in self.hyperparameters if h.active_when is not None}


class WorkloadCard(_Card):
    """A workload as the service knows it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Name in studies.")
    title: str = Field(description="Name for people.")
    description: str = Field(description="Dataset, model and loss in one or two sentences.")
    source: str = Field(description="Where the data comes from, and its licence.")
    metric: str = Field(description="What validation and test values measure, e.g. accuracy.")
    unit: str = Field(description="Unit of the metric, e.g. 'fraction' or 'nats per character'.")
    direction: Direction = Field(description="Which way the metric is better.")
    target: float = Field(
        description="A validation value that a well-tuned run reaches, in the metric's unit."
    )
    epochs: int = Field(gt=0, description="Default number of epochs.")
    batch_size: int = Field(gt=0, description="Default number of examples per step.")
    examples: dict[Literal["train", "validation", "test"], int] = Field(description="Examples in each split.")
    parameters: int = Field(gt=0, description="Trainable numbers in the model.")
    epoch_s: float = Field(gt=0, description="Rough seconds per epoch on one CPU thread, for estimates only.")


class Catalog(_Card):
    """Everything that can be asked for: the cards that dispatchers have announced."""

    optimizers: dict[str, OptimizerCard] = Field(default_factory=dict)
    workloads: dict[str, WorkloadCard] = Field(default_factory=dict)


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint for whoever asked for a name that is not there: the closest known one, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none yet'}"
