"""Cards: descriptions of optimizers and workloads, from which studies are checked without importing torch.

Dispatchers store the cards of what they can run; `studies.resolve` and the API read them.
"""

__all__ = [
    "Bounds",
    "BrokenPackage",
    "Catalog",
    "Constraint",
    "Containment",
    "Hyperparameter",
    "MetricCard",
    "Needs",
    "OptimizerCard",
    "PackageVersion",
    "PublishedResult",
    "WorkloadCard",
    "WorkloadKind",
    "average_of",
    "suggest_name",
]

import math
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from studies.direction import Direction
from studies.errors import shown
from studies.frozen_model import FrozenModel
from studies.metric_cards import CHANCE_FIELD, MetricCard, PublishedResult, average_of
from studies.space import AnyDimension, Choices, Condition, Fixed, Parameters, Scalar
from studies.suggestions import closest_name

WorkloadKind = Literal["tensors", "loop", "script"]
Needs = Literal["gradients", "closure", "curvature"]


class Bounds(FrozenModel):
    """The values that an optimizer accepts, wider than a range that one would search."""

    low: float | None = Field(default=None, description="Smallest legal value; none means no limit.")
    high: float | None = Field(default=None, description="Largest legal value; none means no limit.")
    low_open: bool = Field(default=False, description="True if `low` itself is not legal.")
    high_open: bool = Field(default=False, description="True if `high` itself is not legal.")

    def admits(self, value: float) -> bool:
        """Return whether `value` is legal."""
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = self.high is None or value < self.high or (value == self.high and not self.high_open)
        return above and below

    def __str__(self) -> str:
        """Return the interval in the usual notation, e.g. `(0, inf)`."""
        left = "(-inf" if self.low is None else f"{'(' if self.low_open else '['}{self.low:g}"
        right = "inf)" if self.high is None else f"{self.high:g}{')' if self.high_open else ']'}"
        return f"{left}, {right}"


class Hyperparameter(FrozenModel):
    """One hyperparameter of an optimizer, of the training, or of a workload."""

    name: str = Field(
        description=(
            "Its name in spaces and trials: the optimizer's argument, unless it is part of one of the card's "
            "`pairs`."
        )
    )
    description: str = Field(default="", description="What it does, in one sentence.")
    unit: str = Field(default="none", description="Its unit; 'none' for pure numbers and switches.")
    default: Scalar = Field(description="The optimizer's own default.")
    search: AnyDimension = Field(
        description="The usual range or choices, used if it is tuned without a range in the study."
    )
    source: str = Field(default="", description="Where the range comes from.")
    tuned: bool = Field(
        default=False, description="Whether an arm tunes it when the study says nothing of it."
    )
    bounds: Bounds | None = Field(
        default=None, description="Legal values of a number; none for switches and categories."
    )
    active_when: Condition | None = Field(
        default=None, description="When it has any effect; none means always."
    )
    follows: str | None = Field(
        default=None,
        description=(
            "Another hyperparameter whose value it has in every trial unless the study sets or searches it. "
            "Configurations leave it out as long as it follows."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.follows is not None and self.tuned:
            raise ValueError(
                f"{self.name}: expected tuned to be false, because it follows {self.follows} unless a study "
                "searches it"
            )
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
        """Return `value` with the default's type: JSON may have 1 for 1.0, and a sampler 5.0 for 5."""
        if isinstance(value, bool | str) or isinstance(self.default, bool | str):
            return value
        return int(value) if isinstance(self.default, int) else float(value)

    def fault(self, value: Scalar) -> str | None:
        """Return what is wrong with `value` for this hyperparameter, or None."""
        if isinstance(self.search, Choices) and isinstance(self.default, bool | str):
            if self.search.contains(value):
                return None
            return f"expected {self.name} to be {' or '.join(map(repr, self.search.choices))}, got {value!r}"
        if isinstance(value, bool | str):
            return f"expected a number for {self.name}, got {value!r}{_number_hint(self.name, value)}"
        if not math.isfinite(value):
            return f"expected a finite number for {self.name}, got {value}"
        if isinstance(self.default, int) and not float(value).is_integer():
            return f"expected a whole number for {self.name}, got {value!r}"
        if self.bounds is not None and not self.bounds.admits(float(value)):
            return f"expected {self.name} in {self.bounds}, got {value:g}"
        return None


def _number_hint(name: str, value: Scalar) -> str:
    try:
        return f"; write {name}: {float(value):g}" if isinstance(value, str) else ""
    except ValueError:
        return ""


class Constraint(FrozenModel):
    """A product of hyperparameters must stay below `1 - other`: `lr * weight_decay < 1 - momentum`."""

    product: tuple[str, ...] = Field(description="Hyperparameters that are multiplied.")
    below_one_minus: str = Field(
        description="The product must be smaller than one minus this hyperparameter."
    )
    reason: str = Field(description="What breaks if the constraint is violated.")

    def holds(self, parameters: Parameters) -> bool:
        """Return whether numeric parameters satisfy the constraint; missing ones count as 0."""
        product = 1.0
        for name in self.product:
            product *= float(parameters.get(name, 0.0))
        return product < 1.0 - float(parameters.get(self.below_one_minus, 0.0))

    def __str__(self) -> str:
        """Return the constraint as a formula."""
        return f"{' * '.join(self.product)} < 1 - {self.below_one_minus}"


class Containment(FrozenModel):
    """A setting at which this optimizer equals another, so that it must not lose to it by more than noise."""

    optimizer: str = Field(description="Name of the optimizer that is contained.")
    at: Parameters = Field(description="Settings of this optimizer at which both are the same algorithm.")
    requires: Parameters = Field(
        default_factory=dict,
        description=(
            "Settings that the contained optimizer needs; empty if it is contained at every setting."
        ),
    )
    note: str = Field(default="", description="Other requirements for the two to agree.")


class PackageVersion(FrozenModel):
    """A package that adds optimizers or workloads, as it is installed on one machine."""

    name: str = Field(description="Name of the package.")
    version: str = Field(description="Its version; empty if it has no metadata.")
    code: str = Field(description="Digest of its Python files, which change while a package is being edited.")

    def __str__(self) -> str:
        """Return the version in one phrase, e.g. `moons 1.0 (code 3f2a9c81d0)`."""
        return f"{self.name} {self.version} (code {self.code})".replace("  ", " ")


_PACKAGE_FIELD = Field(
    default=None,
    description="The package that adds it, as installed where its dispatcher runs; none if it is built in.",
)


class OptimizerCard(FrozenModel):
    """The description of an optimizer."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Name in studies.")
    title: str = Field(description="Name as the literature writes it.")
    description: str = Field(description="What distinguishes it, in one or two sentences.")
    reference: str = Field(description="Paper or upstream documentation.")
    import_line: str = Field(description="Python that imports it.")
    constructor: str = Field(description="Python name that is called with the model's parameters.")
    arguments: dict[str, Scalar] = Field(
        default_factory=dict, description="Arguments that make it this variant, e.g. nesterov=True."
    )
    hyperparameters: tuple[Hyperparameter, ...] = Field(
        min_length=1, description="Everything that can be searched or set."
    )
    pairs: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Arguments that take several hyperparameters as a tuple: {'betas': ['beta1', 'beta2']}.",
    )
    preparation: str = Field(
        default="", description="Python code between the import and the call; it may use `model`."
    )
    call: str = Field(
        default="",
        description=(
            "Python code of the call if `constructor(model.parameters(), ...)` is not enough. "
            "`{params:EXPRESSION}` stands for these parameters, in groups if weight decay needs them, "
            "`{groups:EXPRESSION}` for a list of groups, even of none of them, and "
            "`{args:lr betas}` for the named keyword arguments. A list builds several optimizers."
        ),
    )
    accepts: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "Arguments that the constructor accepts, as the dispatcher found them; none if it takes any, or "
            "if that is not known. Python code leaves out all others."
        ),
    )
    contains: tuple[Containment, ...] = Field(
        default=(), description="Optimizers that this one equals at some settings."
    )
    findings: tuple[str, ...] = Field(
        default=(),
        description=(
            "Where the implementation differs from its paper or upstream, and what this entry does about it."
        ),
    )
    constraints: tuple[Constraint, ...] = Field(
        default=(), description="Constraints that configurations must meet."
    )
    schedule: Literal["any", "constant"] = Field(
        default="any", description="'constant' if it has its own schedule and ignores the study's."
    )
    needs: Needs = Field(
        default="gradients",
        description=(
            "What a step needs: the gradients; 'closure', a second pass over the batch at other weights; or "
            "'curvature', gradients that can be differentiated again."
        ),
    )
    per_group: tuple[str, ...] = Field(
        default=("lr", "weight_decay"),
        description=(
            "Numbers that each parameter group can have for itself, as far as the card has them: studies "
            "name them `groups.GROUP.NAME`."
        ),
    )
    package: PackageVersion | None = _PACKAGE_FIELD

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [h.name for h in self.hyperparameters]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: expected different hyperparameter names, got {', '.join(names)}")
        numbers = {h.name for h in self.hyperparameters if not isinstance(h.default, bool | str)}
        for where, used, known, kind in (
            ("a pair", [part for pair in self.pairs.values() for part in pair], set(names), ""),
            (
                "a condition",
                [c.parameter for c in self.conditions.values()],
                set(self.defaults),
                "hyperparameter with a value of its own",
            ),
            (
                "a constraint",
                [name for c in self.constraints for name in (*c.product, c.below_one_minus)],
                numbers,
                "number",
            ),
        ):
            unknown = [name for name in used if name not in known]
            if unknown:
                kind = kind if unknown[0] in names else "hyperparameter"
                raise ValueError(
                    f"{self.name}: {where} names {unknown[0]!r}, which is not a {kind} of this card; it has "
                    f"{', '.join(names)}"
                )
        for h in self.hyperparameters:
            followed = None if h.follows is None else self.hyperparameter(h.follows)
            if h.follows is not None and (followed is None or followed.follows is not None):
                raise ValueError(
                    f"{self.name}: {h.name} follows {h.follows!r}, which is not a hyperparameter with a "
                    f"value of its own; it has {', '.join(self.defaults)}"
                )
            if followed is not None and followed.default != h.default:
                raise ValueError(
                    f"{self.name}: expected {h.name} to have the default of {followed.name}, which it "
                    f"follows, {followed.default!r}, got {h.default!r}"
                )
        return self

    def hyperparameter(self, name: str) -> Hyperparameter | None:
        """Return the hyperparameter of this name, or None."""
        return next((h for h in self.hyperparameters if h.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all hyperparameters."""
        return tuple(h.name for h in self.hyperparameters)

    @property
    def defaults(self) -> Parameters:
        """The optimizer's own defaults, of all hyperparameters but those that follow another."""
        return {h.name: h.default for h in self.hyperparameters if h.follows is None}

    def completed(self, parameters: Parameters) -> Parameters:
        """Return a configuration with the values of those hyperparameters that follow another in it."""
        return parameters | {
            h.name: parameters[h.follows]
            for h in self.hyperparameters
            if h.follows in parameters and h.name not in parameters
        }

    @property
    def conditions(self) -> dict[str, Condition]:
        """The condition of each hyperparameter that has one."""
        return {h.name: h.active_when for h in self.hyperparameters if h.active_when is not None}


class WorkloadCard(FrozenModel):
    """The description of a workload: its name, metric, direction and epochs, and what else is known."""

    kind: WorkloadKind = Field(
        default="tensors",
        description=(
            "Who trains it: Tangent on tensors, which can be stacked; Tangent on batches of the workload's "
            "own; or a script with a loop of its own. Workers fill it in."
        ),
    )
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Name in studies.")
    title: str = Field(
        default_factory=lambda known: known["name"], description="Its title; by default its name."
    )
    description: str = Field(default="", description="Dataset, model and loss in one or two sentences.")
    source: str = Field(default="", description="Where the data comes from, and its licence.")
    metric: str = Field(description="What validation and test values measure, e.g. accuracy.")
    unit: str = Field(
        default="none",
        description="Unit of the metric, e.g. 'fraction' or 'nats per character'; 'none' for pure numbers.",
    )
    direction: Direction = Field(description="Whether higher or lower values of the metric are better.")
    target: float | None = Field(
        default=None,
        description="A validation value that a well-tuned run reaches, in its unit; none if not known.",
    )
    metrics: tuple[MetricCard, ...] = Field(
        default=(),
        max_length=64,
        description="Further metrics, which are recorded beside the metric or can be a study's objective.",
    )
    epochs: int = Field(gt=0, description="Default number of epochs.")
    batch_size: int = Field(default=32, gt=0, description="Default number of examples per step.")
    examples: dict[Literal["train", "validation", "test"], int] = Field(
        default={}, description="Examples in each split; without those that are not known."
    )
    takes_label_smoothing: bool | None = Field(
        default=None,
        description=(
            "Whether the training loss has an argument `label_smoothing`; none if that is not known. Workers "
            "fill it in."
        ),
    )
    chance: float | None = CHANCE_FIELD
    parameters: int | None = Field(
        default=None, gt=0, description="Trainable parameters of the model; none if not known."
    )
    hyperparameters: tuple[Hyperparameter, ...] = Field(
        default=(),
        max_length=32,
        description="Its own hyperparameters, such as a dropout rate; studies name them `workload.NAME`.",
    )
    refuses: tuple[Needs, ...] = Field(
        default=(), description="What its training step cannot give to an optimizer that needs it."
    )
    groups: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")], ...] = Field(
        default=(),
        max_length=32,
        description=(
            "Names of its parameter groups; studies set or search `groups.GROUP.lr` and whatever else the "
            "optimizer has for each group."
        ),
    )
    epoch_s: float | None = Field(
        default=None,
        gt=0,
        description="Rough seconds per epoch on one CPU thread, for estimates only; none if not known.",
    )
    published: tuple[PublishedResult, ...] = Field(
        default=(), max_length=256, description="Results that others have published for it."
    )
    missing: str = Field(
        default="",
        description=(
            "What this installation lacks to train it, and how to add that; empty if nothing. A study of it "
            "is refused. Workers fill it in."
        ),
    )
    package: PackageVersion | None = _PACKAGE_FIELD

    @model_validator(mode="after")
    def _has_different_metrics(self) -> Self:
        names = [self.metric, *(metric.name for metric in self.metrics)]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: expected metrics of different names, got {', '.join(names)}")
        for result in self.published:
            if result.metric is not None and result.metric not in names:
                raise ValueError(
                    f"{self.name}: expected published results of {', '.join(names)}, got {result.metric}"
                )
        for what, own in (
            ("hyperparameters", [h.name for h in self.hyperparameters]),
            ("groups", self.groups),
        ):
            if len(set(own)) < len(own):
                raise ValueError(f"{self.name}: expected {what} of different names, got {', '.join(own)}")
        if any("." in h.name for h in self.hyperparameters):
            raise ValueError(f"{self.name}: expected hyperparameters with names without a dot")
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all metrics, the card's own first."""
        return (self.metric, *(metric.name for metric in self.metrics))

    @property
    def _own_metric(self) -> MetricCard:
        return MetricCard(
            name=self.metric,
            unit=self.unit,
            direction=self.direction,
            target=self.target,
            chance=self.chance,
        )

    def with_averages(self) -> "WorkloadCard":
        """Return the card with each metric once more, as a moving average of the weights has it.

        Raises:
            ValueError: there are too many metrics, or names are too long or already taken.
        """
        averages = [
            metric.model_copy(update={"name": average_of(metric.name)})
            for metric in (self._own_metric, *self.metrics)
        ]
        # Validated, not copied: the limits hold for the longer list and names too.
        return WorkloadCard.model_validate(
            {**self.model_dump(), "metrics": [each.model_dump() for each in (*self.metrics, *averages)]}
        )

    def by_metric(self, name: str) -> "WorkloadCard":
        """Return the card with another of its metrics as its own: its unit, direction, target and chance too.

        The metric that was the card's own becomes the first of the others, and published results keep theirs.

        Raises:
            KeyError: the card has no metric of this name.
        """
        if name == self.metric:
            return self
        chosen = {metric.name: metric for metric in self.metrics}[name]
        return self.model_copy(
            update={
                "metric": chosen.name,
                "unit": chosen.unit,
                "direction": chosen.direction,
                "target": chosen.target,
                "chance": chosen.chance,
                "metrics": (self._own_metric, *(metric for metric in self.metrics if metric is not chosen)),
                "published": tuple(
                    result.model_copy(
                        update={"metric": None if result.metric == name else result.metric or self.metric}
                    )
                    for result in self.published
                ),
            }
        )


class BrokenPackage(FrozenModel):
    """An installed package whose optimizers or workloads a dispatcher could not load."""

    kind: Literal["optimizer", "workload"] = Field(description="What its entry point would add.")
    package: str = Field(description="Name and version of the package.")
    entry_point: str = Field(description="The entry point, e.g. `moons = my_package:MOONS`.")
    error: str = Field(description="Why it could not be loaded.")

    def __str__(self) -> str:
        """Return a sentence for users, without a full stop."""
        return f"{self.package} could not be loaded ({self.entry_point}): {self.error}"


class Catalog(FrozenModel):
    """What dispatchers have announced: the optimizers and workloads that studies can name.

    Attributes:
        optimizers: cards by name.
        workloads: cards by name.
        broken: packages that could not be loaded, each once.
    """

    optimizers: dict[str, OptimizerCard] = Field(default_factory=dict)
    workloads: dict[str, WorkloadCard] = Field(default_factory=dict)
    broken: tuple[BrokenPackage, ...] = ()

    def broken_of(self, kind: Literal["optimizer", "workload"]) -> tuple[BrokenPackage, ...]:
        """Return the packages whose optimizers, or whose workloads, could not be loaded."""
        return tuple(package for package in self.broken if package.kind == kind)

    def why_refused(self, workload: str) -> str | None:
        """Return why no study of a workload can run: it is unknown, or something is missing; else None."""
        card = self.workloads.get(workload)
        if card is None:
            return self.describe_unknown("workload", workload)
        return f"{workload} cannot be trained here: {card.missing}" if card.missing else None

    def describe_unknown(self, kind: Literal["optimizer", "workload"], name: str) -> str:
        """Return the message for an unknown name, with the closest known one and packages that may add it."""
        known = self.optimizers if kind == "optimizer" else self.workloads
        hints = [suggest_name(name, known), *map(str, self.broken_of(kind))]
        return "; ".join([f"there is no {kind} {shown(name)}", *hints])


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or all of them."""
    names = list(known)
    close = closest_name(name, names)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(names) or 'none yet'}"
