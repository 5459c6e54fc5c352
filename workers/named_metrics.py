"""The metrics of a workload by name: the objective first, and the functions that return them."""

__all__ = ["EvaluatedMetrics", "NamedMetrics", "checked_names", "evaluated_metrics", "named_metrics"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from studies.catalog import average_of
from studies.training_settings import TrainingOptions
from workers.workload_errors import CannotTrain
from workers.workloads import AnyWorkload, LoopWorkload, TensorWorkload


@dataclass(frozen=True, kw_only=True)
class NamedMetrics:
    """The names of a workload's metrics, in the order in which engines return their values.

    Attributes:
        names: the study's objective, then the others in the card's order.
        functions: the workload's function that returns each of them.
    """

    names: tuple[str, ...]
    functions: tuple[Callable[..., object], ...]

    @property
    def others(self) -> tuple[str, ...]:
        """The names without the objective."""
        return self.names[1:]


@dataclass(frozen=True, kw_only=True)
class EvaluatedMetrics:
    """What is measured of a split, with the weights and with their moving average.

    Attributes:
        once: the metrics of one evaluation.
        every: all metrics that a trial reports.
        counts_average: whether the objective is measured with the average weights, where there are some.
        has_both: whether both weights are evaluated.
    """

    once: NamedMetrics
    every: NamedMetrics
    counts_average: bool
    has_both: bool

    def joined(self, counted: Tensor, other: Tensor) -> Tensor:
        """Return the loss and the values of `every`, [1 + 2 M, ...].

        Args:
            counted: loss and metrics with the weights that the objective is measured with, [1 + M, ...].
            other: those with the other weights.
        """
        return torch.cat([counted, other[1:]])


def evaluated_metrics(
    workload: AnyWorkload, objective: str | None, training: TrainingOptions
) -> EvaluatedMetrics:
    """Return what is measured of a workload.

    Args:
        workload: the workload.
        objective: name of the metric that comes first; None for the card's own.
        training: the settings of a study.

    Raises:
        CannotTrain: the workload has no metric of this name.
    """
    if training.ema_evaluation == "instead":
        once = named_metrics(workload, objective)
        return EvaluatedMetrics(once=once, every=once, counts_average=True, has_both=False)
    averages = {average_of(name): name for name in workload.card.metric_names}
    counts_average = objective in averages
    once = named_metrics(workload, averages.get(objective or "", objective))
    pair = (once.names, tuple(map(average_of, once.names)))
    first, second = reversed(pair) if counts_average else pair
    every = NamedMetrics(names=(*first, *second), functions=2 * once.functions)
    return EvaluatedMetrics(once=once, every=every, counts_average=counts_average, has_both=True)


def named_metrics(workload: AnyWorkload, objective: str | None) -> NamedMetrics:
    """Return the metrics of a workload.

    Args:
        workload: the workload.
        objective: name of the metric that comes first; None for the card's own.

    Raises:
        CannotTrain: the workload has no metric of this name.
    """
    card = workload.card
    names = [card.metric, *(metric.name for metric in card.metrics)]
    first = card.metric if objective is None else objective
    if first not in names:
        raise CannotTrain(
            f"expected workload {card.name!r} to have the study's objective {first!r} among its metrics, got "
            f"{', '.join(names)}; install the version of its package with which the study was submitted"
        )
    ordered = (first, *(name for name in names if name != first))
    functions: dict[str, Callable[..., object]]
    if isinstance(workload, TensorWorkload):
        functions = {
            name: workload.metric_sum if name == card.metric else workload.further_metric_sums
            for name in names
        }
    else:
        own = workload.evaluate if isinstance(workload, LoopWorkload) else workload.run
        functions = dict.fromkeys(names, own)
    return NamedMetrics(names=ordered, functions=tuple(functions[name] for name in ordered))


def checked_names(
    found: object,
    names: tuple[str, ...],
    *,
    workload: str,
    function: Callable[..., object],
    optional: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """Return what a function of a workload returned, if it is a mapping with exactly these names.

    Args:
        found: what it returned.
        names: the names of the metrics that it must return.
        workload: the workload's name.
        function: the function.
        optional: names that it may return too.

    Raises:
        CannotTrain: it is not a mapping, or has other names.
    """
    expected = f"expected {function.__name__} of workload {workload!r} to return a mapping with "
    expected += f"{', '.join(map(repr, names))}, as on the card"
    if not isinstance(found, Mapping):
        raise CannotTrain(f"{expected}, got a {type(found).__name__}", function=function)
    values = cast("Mapping[str, Any]", found)
    missing = [name for name in names if name not in values]
    unknown = [str(name) for name in values if name not in names and name not in optional]
    if missing:
        got = ", ".join(map(str, values)) or "an empty mapping"
        raise CannotTrain(
            f"{expected}; {', '.join(map(repr, missing))} is missing from {got}", function=function
        )
    if unknown:
        raise CannotTrain(
            f"{expected}; {', '.join(map(repr, unknown))} is not on the card: add it to the card's "
            "`metrics`, or leave it out",
            function=function,
        )
    return values
