"""Mistake: the metric is averaged over the batch, although Tangent adds up sums over the split."""

from sound_digits import SoundDigits
from torch import Tensor

__all__ = ["MeanOfBatch"]


class MeanOfBatch(SoundDigits):
    """Digits with a mean in place of a sum."""

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which part of the digits is right."""
        return (outputs.argmax(1) == targets).float().mean()
