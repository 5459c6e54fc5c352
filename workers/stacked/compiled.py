"""The whole step of a stack (forward, backward and optimizer) compiled into one graph for one width.

It pays off on a CPU for models so small that calling operations costs more than the operations, and only over
many steps: compiling takes half a minute of one core. The results equal the plain step's, to rounding.
"""

__all__ = ["CompiledStep", "CompiledSteps"]

import copy
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from workers.stacked.constants import first_difference
from workers.stacked.forward import Forward
from workers.stacked.plan import StackPlan

_LOGGER = logging.getLogger(__name__)

_ASSUMED_S = 30.0
"""Assumed compile time until one has been measured."""

_MIN_AHEAD = 4.0
"""Plain steps must take at least this many compile times to be worth compiling.

Several workers may share these steps, and not every model gains.
"""


class CompiledStep:
    """One step of K members as one compiled graph.

    Args:
        plan: how the members are stacked.
        is_paired: whether they share their data.

    Attributes:
        names: names of the coefficients, in the order of the table that the step takes.
    """

    def __init__(self, plan: StackPlan, *, is_paired: bool) -> None:
        plan = copy.copy(plan)
        plan.template = copy.deepcopy(plan.template).train()
        self.plan = plan
        self._forward = Forward(plan, is_paired=is_paired)
        # With every hyperparameter at 0.5, no part of the step is skipped, so one graph serves all packs.
        one = torch.tensor([0.5], dtype=torch.float64)
        card = plan.entry.card
        self._optimizer = plan.optimizer(dict.fromkeys([*card.names, *card.arguments], one), plan.layout)
        self.names = list(self._optimizer.coefficients(one.unsqueeze(0), done=0))
        # torch leaves it partly untyped.
        compiler = cast("Callable[..., Any]", torch.compile)  # pyright: ignore[reportUnknownMemberType]
        # Isolate the graphs: torch sees all steps as one function and compiles at most eight versions of it.
        self._graph = cast(
            "Callable[..., Tensor]",
            compiler(self._whole, dynamic=False, fullgraph=True, isolate_recompiles=True),
        )

    def __call__(
        self,
        weights: Tensor,
        moments: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        table: Tensor,
    ) -> Tensor:
        """Take one step, changing weights, moments and buffers in place, and return each member's loss, [K].

        Args:
            weights: [K, P].
            moments: each [K, P].
            buffers: each [K, *shape].
            inputs: see `Forward.losses`.
            targets: see `Forward.losses`.
            table: the step's coefficients, [names, K, 1].
        """
        return self._graph(weights, dict(moments), dict(buffers), inputs, targets, table)

    def _whole(
        self,
        weights: Tensor,
        moments: dict[str, Tensor],
        buffers: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        table: Tensor,
    ) -> Tensor:
        def total(weights: Tensor, buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            losses = self._forward.losses(weights, buffers, inputs, targets)
            return losses.sum(), losses

        # torch.autograd.grad cannot be traced together with code that uses the gradient; torch.func's can.
        gradient = cast("Callable[..., tuple[Tensor, Tensor]]", torch.func.grad(total, has_aux=True))
        grads, losses = gradient(weights, buffers)
        self._optimizer.step(weights, grads, moments, dict(zip(self.names, table.unbind(), strict=True)))
        return losses


class CompiledSteps:
    """The steps that a worker has compiled in its lifetime, and its measurements of when compiling pays."""

    def __init__(self) -> None:
        self._steps: dict[tuple[object, ...], CompiledStep | None] = {}
        self._plain_s: dict[tuple[object, ...], float] = {}
        self._compile_s = _ASSUMED_S

    def get(
        self, plan: StackPlan, *, width: int, is_paired: bool, example: Callable[[], tuple[Any, ...]]
    ) -> CompiledStep | None:
        """Return the compiled step, compiling it if enough steps remain, or None for the plain step.

        Args:
            plan: the plan of the pack.
            width: members in a stack.
            is_paired: whether they share their data.
            example: returns the step's future arguments without the table; they are copied.
        """
        key = _key(plan, width, is_paired)
        if key in self._steps:
            known = self._steps[key]
            return known if known is not None and _have_same_constants(known.plan, plan) else None
        # The plain step's time is unknown before the first plain epoch. It stays unknown for models that draw
        # random numbers, because a graph draws different ones.
        ahead_s = plan.pack.steps_ahead * self._plain_s.get(key, 0.0)
        if plan.device.type != "cpu" or shutil.which("g++") is None or ahead_s < _MIN_AHEAD * self._compile_s:
            return None
        started = time.perf_counter()
        self._steps[key] = _compile(plan, is_paired=is_paired, example=example())
        self._compile_s = time.perf_counter() - started
        return self._steps[key]

    def record(
        self, plan: StackPlan, step: CompiledStep | None, *, width: int, is_paired: bool, member_step_s: float
    ) -> CompiledStep | None:
        """Record the duration of an epoch's steps, and return the step to continue with.

        A compiled step that is not faster than the plain one is never used again.

        Args:
            plan: the plan of the pack.
            step: the compiled step, or None for the plain one.
            width: members in a stack.
            is_paired: whether they share their data.
            member_step_s: processor seconds of a step, including evaluation, divided by its members. Unlike
                wall time, they do not grow on a busy machine.
        """
        key = _key(plan, width, is_paired)
        if step is None:
            self._plain_s[key] = min(member_step_s, self._plain_s.get(key, math.inf))
        elif member_step_s > self._plain_s.get(key, math.inf):
            _LOGGER.info(
                "the compiled step of %s with %s is not faster than the plain one and is no longer used",
                plan.pack.workload,
                plan.pack.optimizer,
            )
            self._steps[key] = step = None
        return step


def _compile(plan: StackPlan, *, is_paired: bool, example: tuple[Any, ...]) -> CompiledStep | None:
    try:
        from torch._inductor import config

        step = CompiledStep(plan, is_paired=is_paired)
        weights, moments, buffers, inputs, targets = example
        table = torch.zeros(len(step.names), len(weights), 1, dtype=weights.dtype)
        # Compile in this process: torch's pool of compiler processes, one per worker, would outlive its use.
        # torch leaves it partly untyped.
        with config.patch(compile_threads=1):  # pyright: ignore[reportUnknownMemberType]
            step(weights.detach().clone(), _copies(moments), _copies(buffers), inputs, targets, table)
    # torch's compiler, a C++ compiler and a linker may each fail here; training continues with the plain
    # step.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:300]
        _LOGGER.warning(
            "could not compile the step of %s with %s, which runs uncompiled: %s: %s",
            plan.pack.workload,
            plan.pack.optimizer,
            type(error).__name__,
            reason,
        )
        return None
    return step


def _key(plan: StackPlan, width: int, is_paired: bool) -> tuple[object, ...]:  # noqa: FBT001 # parts of a key
    return (
        plan.workload,
        plan.entry.card.name,
        plan.pack.training.batch_size,
        plan.pack.training.decay_1d,
        plan.pack.training.label_smoothing,
        width,
        is_paired,
    )


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _have_same_constants(one: StackPlan, other: StackPlan) -> bool:
    """Return whether the constants that a graph took from one plan's model are the same in the other's."""
    if one.buffer_names != other.buffer_names:
        return False
    return first_difference(*(plan.constants_of(plan.template) for plan in (one, other))) is None
