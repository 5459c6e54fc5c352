"""What an engine says of a member's epoch, and when it counts as diverged.

The same words for every engine.
"""

__all__ = ["EpochResult", "diverged", "evaluated", "trained"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one member measured in an epoch.

    NaN and inf stand as they came, and NaN for what was not measured.

    Attributes:
        elapsed_s: training seconds of all epochs so far.
        lr: learning rate of the epoch's last step.
        train_loss: mean over the epoch's steps.
        divergence: which quantity stopped being finite, at which epoch and step; None while all is well.
    """

    elapsed_s: float
    lr: float
    train_loss: float
    validation_loss: float = math.nan
    validation_metric: float = math.nan
    weight_norm: float = math.nan
    effective_step: float = math.nan
    gradient_cosine: float = math.nan
    projected_fraction: float = math.nan
    divergence: str | None = None


def trained(
    losses: Sequence[float], *, epoch: int, elapsed_s: float, lr: float, initial_lr: float
) -> EpochResult:
    """Return the result of an epoch's training steps, diverged where a loss is not finite.

    Args:
        losses: of the epoch's steps; what follows one that is not finite does not count.
        epoch: from 1.
        elapsed_s: training seconds so far.
        lr: learning rate of the epoch's last step.
        initial_lr: the trial's own, that the sentence about a divergence names.
    """
    result = EpochResult(elapsed_s=elapsed_s, lr=lr, train_loss=sum(losses) / len(losses))
    for step, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            return diverged(
                result, f"training loss became {loss} at epoch {epoch}, step {step}", initial_lr=initial_lr
            )
    return result


def evaluated(result: EpochResult, numbers: Sequence[float], *, epoch: int, initial_lr: float) -> EpochResult:
    """Return the result with what was measured after the epoch.

    It has diverged where the norm or a validation value is not finite.

    Args:
        result: of the training steps.
        numbers: validation loss and metric, weight norm, effective step, gradient cosine, projected fraction.
        epoch: from 1.
        initial_lr: the trial's own.
    """
    validation_loss, validation_metric, norm, effective_step, gradient_cosine, projected_fraction = numbers
    result = replace(
        result,
        validation_loss=validation_loss,
        validation_metric=validation_metric,
        weight_norm=norm,
        effective_step=effective_step,
        gradient_cosine=gradient_cosine,
        projected_fraction=projected_fraction,
    )
    for name, value in (
        ("weight norm", norm),
        ("validation loss", validation_loss),
        ("validation metric", validation_metric),
    ):
        if not math.isfinite(value):
            return diverged(
                result, f"{name} became {value} at epoch {epoch}, after its last step", initial_lr=initial_lr
            )
    return result


def diverged(result: EpochResult, what: str, *, initial_lr: float) -> EpochResult:
    """Return the result as that of a member that has diverged."""
    return replace(result, divergence=f"{what}; lr {initial_lr:g} may be too high")
