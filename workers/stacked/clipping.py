"""Clipping of each member's gradients in a stack, as `torch.nn.utils` does it for one model."""

__all__ = ["Clipping"]

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from studies.training_settings import TrainingSettings

# Torch has no stub of it.
_norm = cast("Callable[..., Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]
_EPS = 1e-6
"""Added to a norm before it divides, as in torch.nn.utils.clip_grad_norm_."""


class Clipping:
    """The limits of K members.

    Args:
        settings: each member's settings.
        device: where the gradients are.
        dtype: of the gradients.

    Attributes:
        is_on: whether any member clips.
    """

    def __init__(
        self, settings: Sequence[TrainingSettings], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        def limits(of: Callable[[TrainingSettings], float]) -> Tensor | None:
            found = [of(each) or math.inf for each in settings]
            return (
                torch.tensor(found, dtype=torch.float64).to(device, dtype)[:, None]
                if min(found) < math.inf
                else None
            )

        self._value, self._norm = limits(lambda each: each.clip_value), limits(lambda each: each.clip_norm)
        self.is_on = self._value is not None or self._norm is not None

    @torch.no_grad()
    def apply(self, grads: Tensor) -> None:
        """Clip gradients [K, P] in place: by value, then by the norm of each row."""
        if self._value is not None:
            grads.clamp_(-self._value, self._value)
        if self._norm is not None:
            scale = (self._norm / (_norm(grads, dim=1, keepdim=True) + _EPS)).clamp(max=1.0)
            # A row without a limit keeps even a gradient that is not finite, as it does alone.
            grads.mul_(torch.where(self._norm.isinf(), 1.0, scale))
