"""What each layer of a trial's model did: its norm, its effective step, and whether its update was projected.

A layer is here a weight tensor of two or more dimensions, as in AdamP and SGDP. No SQL.
"""

__all__ = [
    "ArmLayers",
    "LayerMeans",
    "LayerMeasurement",
    "LayerValues",
    "MeasuredLayers",
    "StudyLayers",
    "TrialLayers",
    "growths",
    "mean_over_runs",
]

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from studies.frozen_model import FrozenModel
from studies.trials import FiniteNumber

LayerValues = tuple[FiniteNumber, ...]
"""A number of each layer, in the order of the trial's layers."""


class LayerMeasurement(FrozenModel):
    """What each layer measured in one epoch, in the order of the trial's layers."""

    epoch: int = Field(ge=1, description="Number of the epoch, from 1.")
    weight_norm: LayerValues = Field(description="L2 norm of the weight at the end of the epoch.")
    effective_step: LayerValues = Field(
        description=(
            "How far a step moves the direction of the weight, norm(w'/|w'| - w/|w|), mean over the epoch's "
            "probed steps; none without a gradient."
        )
    )
    angle: LayerValues = Field(
        description=(
            "Angle between a step's update w' - w and the weight w in degrees, weight decay included, mean "
            "over probed steps. The norm grows below 90 degrees and, with a short step, shrinks above; none "
            "if the weight did not move."
        )
    )
    projected_by_channel: LayerValues = Field(
        default=(),
        description=(
            "Share of probed steps whose update was projected channel by channel; no values for optimizers "
            "that never project."
        ),
    )
    projected_as_layer: LayerValues = Field(
        default=(), description="Share of probed steps whose update was projected as one whole layer."
    )


class MeasuredLayers(FrozenModel):
    """What a worker reports about the layers of a trial after an epoch."""

    names: tuple[str, ...] = Field(description="Name of each layer's weight in the model.")
    initial_norms: LayerValues = Field(
        default=(), description="L2 norms before the first step; no values from a trial that was resumed."
    )
    measurement: LayerMeasurement

    @model_validator(mode="after")
    def _has_a_value_of_each(self) -> Self:
        m, layers = self.measurement, len(self.names)
        lengths = {len(values) for values in (m.weight_norm, m.effective_step, m.angle)}
        maybe = {len(values) for values in (self.initial_norms, m.projected_by_channel, m.projected_as_layer)}
        if lengths != {layers} or not maybe <= {0, layers}:
            raise ValueError(f"expected a value of each of {layers} layers, got {sorted(lengths | maybe)}")
        return self


class TrialLayers(FrozenModel):
    """What the layers of a trial measured; they are measured in confirmation runs and trials of the defaults.

    A layer is a weight of two or more dimensions.
    """

    trial_id: str = Field(description="Id of the trial.")
    names: tuple[str, ...] = Field(
        description="Name of each layer's weight in the model; empty: not measured."
    )
    is_scale_invariant: tuple[bool | None, ...] = Field(
        description="Whether the loss depends only on the direction of each layer's weight; none: not tested."
    )
    initial_norms: LayerValues = Field(
        description="L2 norm of each weight before the first step; empty if they are not known."
    )
    epochs: tuple[LayerMeasurement, ...] = Field(description="What they measured in each epoch, in order.")


class LayerMeans(FrozenModel):
    """The means of an arm's runs over one epoch, of each layer."""

    epoch: int = Field(ge=1, description="Number of the epoch, from 1.")
    growth: LayerValues = Field(
        description="The weight's norm at the end of the epoch, divided by its norm before the first step."
    )
    effective_step: LayerValues = Field(description="Effective step.")
    angle: LayerValues = Field(description="Angle between update and weight, in degrees.")
    projected_by_channel: LayerValues = Field(
        description="Share of steps projected by channel; empty for optimizers that never project."
    )
    projected_as_layer: LayerValues = Field(
        description="Share of steps projected as one layer; empty for optimizers that never project."
    )


class ArmLayers(FrozenModel):
    """What the layers of an arm's runs measured on average."""

    arm: str = Field(description="Name of the arm.")
    configuration: Literal["best", "defaults"] = Field(
        description=(
            "`best`: the confirmation runs of the arm's best configuration; `defaults`: before they have "
            "begun and in studies without them, the trials of the defaults."
        )
    )
    trials: tuple[str, ...] = Field(description="Ids of the trials that the means are of.")
    names: tuple[str, ...] = Field(description="Name of each layer's weight in the model.")
    is_scale_invariant: tuple[bool | None, ...] = Field(
        description="Whether the loss depends only on the direction of each layer's weight; none: not tested."
    )
    epochs: tuple[LayerMeans, ...] = Field(description="The means over the runs in each epoch, in order.")


class StudyLayers(FrozenModel):
    """What the layers of a study's models measured, by arm."""

    study_id: str = Field(description="Id of the study.")
    scale_invariance: dict[str, bool] = Field(
        description="Whether each tested layer is scale-invariant, by the weight's name in the model."
    )
    arms: tuple[ArmLayers, ...] = Field(
        description="The arms of which a run has measured its layers, in the study's order."
    )


def mean_over_runs(
    arm: str, configuration: Literal["best", "defaults"], runs: Sequence[TrialLayers]
) -> ArmLayers:
    """Return the means of one or more runs that have layers.

    Runs whose layers differ from the first's are left out, and those whose initial norms are not known.
    """
    first = runs[0]
    same = [run for run in runs if run.names == first.names and run.initial_norms]
    by_epoch: dict[int, list[tuple[TrialLayers, LayerMeasurement]]] = {}
    for run in same:
        for measured in run.epochs:
            by_epoch.setdefault(measured.epoch, []).append((run, measured))
    return ArmLayers(
        arm=arm,
        configuration=configuration,
        trials=tuple(run.trial_id for run in same),
        names=first.names,
        is_scale_invariant=first.is_scale_invariant,
        epochs=tuple(
            LayerMeans(
                epoch=epoch,
                growth=_means([growths(run, measured) for run, measured in some]),
                effective_step=_means([measured.effective_step for _, measured in some]),
                angle=_means([measured.angle for _, measured in some]),
                projected_by_channel=_means([measured.projected_by_channel for _, measured in some]),
                projected_as_layer=_means([measured.projected_as_layer for _, measured in some]),
            )
            for epoch, some in sorted(by_epoch.items())
        ),
    )


def growths(run: TrialLayers, measured: LayerMeasurement) -> LayerValues:
    """Return each layer's norm after an epoch divided by its norm before the first step."""
    norms = run.initial_norms or (None,) * len(run.names)
    return tuple(
        _rounded(norm / initial) if norm is not None and initial else None
        for norm, initial in zip(measured.weight_norm, norms, strict=True)
    )


def _means(runs: Sequence[LayerValues]) -> LayerValues:
    """Return the mean of each layer over the runs that have its value."""
    columns = [[value for value in column if value is not None] for column in zip(*runs, strict=True)]
    return tuple(_rounded(sum(column) / len(column)) if column else None for column in columns)


def _rounded(value: float) -> float:
    """Return a number to the five significant digits of measured ones."""
    return float(f"{value:.5g}")
