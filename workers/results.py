"""What one trial measured in an epoch, and when it counts as diverged: one rule for every engine."""

__all__ = [
    "EVALUATION_BATCH",
    "EpochResult",
    "batch_sums",
    "epoch_result",
    "scalar_loss",
    "scalar_of",
    "script_result",
    "split_means",
]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from studies.layers import MeasuredLayers
from workers.named_metrics import NamedMetrics, checked_names
from workers.signs_of_life import note_again
from workers.workload_errors import CannotTrain, place_of
from workers.workloads import Split, TensorWorkload

EVALUATION_BATCH = 512
"""Examples evaluated at once, or the training batch where that is larger."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one trial measured in an epoch.

    Values are kept as measured, NaN and inf included; NaN also stands for a value that was not measured.

    Attributes:
        elapsed_s: training seconds of all epochs so far.
        lr: learning rate at the epoch's last step.
        train_loss: mean over the epoch's steps.
        validation_metric: the objective on the validation split.
        metrics: the other metrics on the validation split, by name.
        divergence: which quantity stopped being finite, at which epoch and step; None if all are finite.
        fault: why the trial has no value although it has not diverged, a fault of the workload; None if it
            has a value or has diverged.
        layers: what each layer measured; None unless that was asked for.
    """

    elapsed_s: float
    lr: float
    train_loss: float
    validation_loss: float = math.nan
    validation_metric: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    weight_norm: float = math.nan
    effective_step: float = math.nan
    gradient_cosine: float = math.nan
    projected_fraction: float = math.nan
    divergence: str | None = None
    fault: str | None = None
    layers: MeasuredLayers | None = None


def epoch_result(
    losses: Sequence[float],
    numbers: Sequence[float] | None,
    *,
    epoch: int,
    elapsed_s: float,
    lr: float,
    initial_lr: float,
    metrics: NamedMetrics,
    has_validation_loss: bool = True,
    layers: MeasuredLayers | None = None,
) -> EpochResult:
    """Return the result of an epoch.

    The trial has diverged if a loss, the norm or the objective is not finite. Two cases are faults of the
    workload, because no learning rate explains them: a training loss that is not finite before the first
    update, and a metric that is NaN although losses and weights are finite.

    Args:
        losses: training losses of the epoch's steps; those after the first that is not finite are ignored.
        numbers: validation loss, metrics, weight norm, effective step, gradient cosine and projected
            fraction; ignored if a training loss is not finite, and may be None only then.
        epoch: counted from 1.
        elapsed_s: training seconds so far.
        lr: learning rate at the epoch's last step.
        initial_lr: the trial's own `lr`, for the message about a divergence.
        metrics: the names of the metrics, and the functions to name in the message about a fault.
        has_validation_loss: whether the workload measures one; without it the value is NaN.
        layers: what each layer measured, if that was asked for.
    """
    diverged_at = next((step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)
    counted = losses[:diverged_at]
    result = EpochResult(elapsed_s=elapsed_s, lr=lr, train_loss=sum(counted) / len(counted), layers=layers)
    if epoch == diverged_at == 1:
        fault = (
            f"training loss is {counted[-1]} at the first step, before any update; check the data, the "
            "model's initial values and the loss"
        )
        return replace(result, fault=fault)
    if diverged_at is not None:
        what = f"training loss became {counted[-1]} at epoch {epoch}, step {diverged_at}"
        return replace(result, divergence=_divergence(what, initial_lr))
    assert numbers is not None
    after = 1 + len(metrics.names)
    validation_loss, validation_metric, *others = numbers[:after]
    norm, effective_step, gradient_cosine, projected_fraction = numbers[after:]
    result = replace(
        result,
        validation_loss=validation_loss,
        validation_metric=validation_metric,
        metrics=dict(zip(metrics.others, others, strict=True)),
        weight_norm=norm,
        effective_step=effective_step,
        gradient_cosine=gradient_cosine,
        projected_fraction=projected_fraction,
    )
    has_finite_loss = math.isfinite(validation_loss) or not has_validation_loss
    without = [n for n, value in enumerate([validation_metric, *others]) if math.isnan(value)]
    if without and math.isfinite(norm) and has_finite_loss:
        return replace(result, fault=_fault(metrics, without[0], epoch=epoch))
    for name, value in (
        ("weight norm", norm),
        *([("validation loss", validation_loss)] if has_validation_loss else []),
        ("validation metric", validation_metric),
    ):
        if not math.isfinite(value):
            what = f"{name} became {value} at epoch {epoch}, after its last step"
            return replace(result, divergence=_divergence(what, initial_lr))
    return result


def script_result(
    values: Sequence[float],
    *,
    metrics: NamedMetrics,
    epoch: int,
    elapsed_s: float,
    lr: float,
    train_loss: float | None,
    validation_loss: float | None,
    probes: tuple[float, float, float, float] | None,
    initial_lr: float,
) -> EpochResult:
    """Return the result of an epoch of a user's own loop.

    The trial has diverged if a loss, the weight norm or the objective is not finite. A metric that is NaN
    although losses are finite is a fault of the script, and so is any other metric that is NaN.

    Args:
        values: the metrics on the validation split.
        metrics: their names, and the function to name in the message about a fault.
        epoch: counted from 1.
        elapsed_s: seconds of the loop so far, evaluation included.
        lr: learning rate at the epoch's last step; NaN if it is not known.
        train_loss: mean training loss; None if it was not reported.
        validation_loss: None if it was not reported.
        probes: weight norm, effective step, gradient cosine and projected fraction; None without a model.
        initial_lr: the trial's own `lr`, for the message about a divergence; NaN if it has none.
    """
    validation_metric, *others = values
    norm, effective_step, gradient_cosine, projected_fraction = probes or (math.nan,) * 4
    result = EpochResult(
        elapsed_s=elapsed_s,
        lr=lr,
        train_loss=math.nan if train_loss is None else train_loss,
        validation_loss=math.nan if validation_loss is None else validation_loss,
        validation_metric=validation_metric,
        metrics=dict(zip(metrics.others, others, strict=True)),
        weight_norm=norm,
        effective_step=effective_step,
        gradient_cosine=gradient_cosine,
        projected_fraction=projected_fraction,
    )
    losses = {"training loss": train_loss, "validation loss": validation_loss}
    watched = {name: value for name, value in losses.items() if value is not None}
    if probes is not None:
        watched["weight norm"] = norm
    for name, value in watched.items():
        if not math.isfinite(value):
            return replace(
                result, divergence=_divergence(f"{name} became {value} at epoch {epoch}", initial_lr)
            )
    has_loss = any(loss is not None for loss in losses.values())
    if not math.isfinite(validation_metric) and not (math.isnan(validation_metric) and has_loss):
        what = f"validation {metrics.names[0]} became {validation_metric} at epoch {epoch}"
        return replace(result, divergence=_divergence(what, initial_lr))
    without = [n for n, value in enumerate(values) if math.isnan(value)]
    return replace(result, fault=_fault(metrics, without[0], epoch=epoch)) if without else result


def _fault(metrics: NamedMetrics, index: int, *, epoch: int) -> str:
    function = metrics.functions[index]
    place = place_of(function)
    where = f" ({Path(place.filename).name}, line {place.lineno})" if place is not None else ""
    return (
        f"validation {metrics.names[index]} is nan at epoch {epoch}, although losses and weights are finite; "
        f"make {function.__name__} return a number in every case{where}"
    )


def scalar_loss(
    workload: TensorWorkload, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return a batch's mean loss.

    Args:
        workload: the workload.
        outputs: the model's outputs.
        targets: what they are compared with.
        label_smoothing: above 0, an argument of the workload's loss.

    Raises:
        CannotTrain: the workload returned something other than a scalar.
    """
    # Only those that take it get it: earlier versions had none.
    smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
    loss = workload.loss(outputs, targets, **smoothing)
    return scalar_of(loss, workload.card.name, workload.loss, "the mean over the batch, e.g. loss.mean()")


def scalar_of(value: object, workload: str, function: Callable[..., object], meant: str) -> Tensor:
    """Return a value that a function of a workload returned, if it is a scalar tensor.

    Args:
        value: the value.
        workload: the workload's name.
        function: the function that returned it.
        meant: what to return instead of another value.

    Raises:
        CannotTrain: it is something else.
    """
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    found = (
        f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
    raise CannotTrain(
        f"expected {function.__name__} of workload {workload!r} to return a scalar tensor, got {found}; "
        f"return {meant}",
        function=function,
    )


def batch_sums(
    workload: TensorWorkload, outputs: Tensor, targets: Tensor, *, metrics: NamedMetrics
) -> Tensor:
    """Return a batch's summed loss, its loss weight and its summed metrics, [2 + metrics].

    Raises:
        CannotTrain: the loss or a metric is not a scalar, or a metric of the card is missing.
    """
    loss = scalar_loss(workload, outputs, targets)
    # Half precision cannot hold a weight above 65504, and rounds whole numbers from 257 or 2049 on.
    loss = loss.to(torch.promote_types(loss.dtype, torch.float32))
    weight = torch.as_tensor(workload.loss_weight(targets), dtype=loss.dtype, device=loss.device)
    # A mean over nothing is NaN, and must not spoil the sum over the other batches.
    loss_sum = torch.where(weight > 0, loss * weight, 0.0)
    outputs = _widened(outputs)
    sums: dict[str, object] = {workload.card.metric: workload.metric_sum(outputs, targets)}
    if workload.card.metrics:
        sums |= checked_names(
            workload.further_metric_sums(outputs, targets),
            tuple(metric.name for metric in workload.card.metrics),
            workload=workload.card.name,
            function=workload.further_metric_sums,
        )
    meant = "the sum over the batch, e.g. metric.sum()"
    scalars = [
        _widened(scalar_of(sums[name], workload.card.name, function, meant))
        for name, function in zip(metrics.names, metrics.functions, strict=True)
    ]
    return torch.stack([loss_sum, weight, *scalars])


def _widened(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, in which a count loses no digits."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def split_means(split: Split, *, batch_size: int, sums: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean loss and the mean metrics over a split, [1 + M] or, for K members, [1 + M, K].

    Args:
        split: what to evaluate on.
        batch_size: examples evaluated at once.
        sums: returns `batch_sums` of a batch's inputs and targets, [2 + M] or [2 + M, K].
    """
    batches = zip(torch.split(split.inputs, batch_size), torch.split(split.targets, batch_size), strict=True)
    found: list[Tensor] = []
    for inputs, targets in batches:
        found.append(sums(inputs, targets))
        note_again()
    loss_sum, weight, *metric_sums = torch.stack(found).sum(dim=0)
    return torch.stack([loss_sum / weight, *(metric_sum / len(split) for metric_sum in metric_sums)])


def _divergence(what: str, initial_lr: float) -> str:
    return what if math.isnan(initial_lr) else f"{what}; lr {initial_lr:g} may be too high"
