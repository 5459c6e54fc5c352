"""The forward pass of K models at once: the workload's own module and loss under vmap.

Parameters and buffers have a leading axis of members.
"""

__all__ = ["Forward", "warm"]

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor

# torch leaves both partly untyped.
from torch.func import functional_call, vmap  # pyright: ignore[reportUnknownVariableType]

from workers.results import EVALUATION_BATCH, batch_sums, scalar_loss, split_means
from workers.stacked.member_draws import MemberDraws
from workers.stacked.plan import StackPlan
from workers.workloads import Split

_EVALUATED_AT_ONCE = 8 * EVALUATION_BATCH
"""Examples evaluated at once by all members together: fast, and no more memory than training needs."""


def warm() -> None:
    """Import torch.func's internals and torch's optimizers, to save the first stack about a second."""
    weights = torch.ones(2, 1, requires_grad=True)
    torch.autograd.grad(vmap(torch.sum)(weights).sum(), weights)
    torch.optim.SGD([weights], lr=1.0)


class Forward:
    """The forward pass of K models, on separate or shared inputs.

    Args:
        plan: how the members are stacked.
        is_paired: whether the members share one seed, and so their data and all random numbers.
    """

    def __init__(self, plan: StackPlan, *, is_paired: bool) -> None:
        self._workload, self._template, self._layout = plan.workload, plan.template, plan.layout
        self._batch_size = plan.pack.training.batch_size
        self._label_smoothing = plan.pack.training.label_smoothing
        self._is_paired = is_paired
        self._metrics = plan.metrics.once
        names = [name for name, _ in plan.template.named_parameters(remove_duplicate=False)]
        # Searching for tied parameters on each call would take longer than a small model.
        self._has_ties = len(names) > len(list(plan.template.parameters()))

    def losses(
        self,
        weights: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        *,
        draws: MemberDraws | None = None,
    ) -> Tensor:
        """Return each member's mean loss on its batch, [K]; buffers may change in place.

        Args:
            weights: [K, P].
            buffers: each [K, *shape].
            inputs: [B, ...] if the members are paired, else [K, B, ...].
            targets: like inputs.
            draws: the members' random numbers; None for paired members, who share them, and for a model that
                draws none.
        """
        axis = None if self._is_paired else 0
        mapped = self._mapped(self._loss, (0, axis, axis), draws_apart=draws is not None)
        with draws or nullcontext():
            return mapped({**self._layout.pieces(weights), **buffers}, inputs, targets)

    @torch.no_grad()
    def evaluate(self, weights: Tensor, buffers: Mapping[str, Tensor], split: Split) -> Tensor:
        """Return each member's mean loss and metrics over a split, [1 + M, K]; set evaluation mode before."""
        size = max(self._batch_size, min(EVALUATION_BATCH, _EVALUATED_AT_ONCE // len(weights)))
        mapped = self._mapped(self._sums, (0, None, None), out_dims=1)
        state = {**self._layout.pieces(weights), **buffers}
        return split_means(
            split, batch_size=size, sums=lambda inputs, targets: mapped(state, inputs, targets)
        )

    def _loss(self, state: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = self._call(state, inputs)
        return scalar_loss(self._workload, outputs, targets, label_smoothing=self._label_smoothing)

    def _sums(self, state: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return batch_sums(self._workload, self._call(state, inputs), targets, metrics=self._metrics)

    def _call(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return cast("Tensor", functional_call(self._template, state, (inputs,), tie_weights=self._has_ties))

    def _mapped(
        self,
        function: Callable[..., Tensor],
        in_dims: tuple[int | None, ...],
        *,
        out_dims: int = 0,
        draws_apart: bool = False,
    ) -> Callable[..., Tensor]:
        randomness = "same" if self._is_paired else "different" if draws_apart else "error"
        return vmap(function, in_dims=in_dims, out_dims=out_dims, randomness=randomness)
