"""Mistake: the softmax runs over the batch instead of the classes, so the loss depends on the batch."""

from sound_digits import SoundDigits
from torch import Tensor
from torch.nn import functional

__all__ = ["WrongAxis"]


class WrongAxis(SoundDigits):
    """Digits whose probabilities add up to 1 over the pictures of a batch."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean negative log-likelihood."""
        return functional.nll_loss(outputs.log_softmax(dim=0), targets)
