"""The whole step of a stack, forward, backward and optimizer, compiled into one graph for one width.

It pays on a CPU for models so small that calling operations takes longer than the operations, and only over
many steps: compiling takes half a minute of one core. What it computes is what the plain step computes, to
rounding.
"""

__all__ = ["Compiled", "CompiledStep"]

import copy
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from workers.stacked.forward import Forward
from workers.stacked.plan import StackPlan

_LOGGER = logging.getLogger(__name__)

_ASSUMED_S = 30.0
"""What compiling takes, until one has been measured."""

_EARNED = 4.0
"""How many times the cost of compiling must lie ahead as plain steps.

Several workers may share them, and not every model gains.
"""


class CompiledStep:
    """One step of K members as one graph.

    Args:
        plan: how the members are stacked.
        is_paired: whether they share their data.

    Attributes:
        names: the coefficients' names, in the order of the table that the step takes.
    """

    def __init__(self, plan: StackPlan, *, is_paired: bool) -> None:
        plan = copy.copy(plan)
        plan.template = copy.deepcopy(plan.template).train()
        self.plan = plan
        self._forward = Forward(plan, is_paired=is_paired)
        # One half switches on everything that any member's hyperparameters could: one graph serves all packs.
        one = torch.tensor([0.5], dtype=torch.float64)
        card = plan.entry.card
        self._optimizer = plan.optimizer(dict.fromkeys([*card.defaults, *card.arguments], one), plan.layout)
        self.names = list(self._optimizer.coefficients(one.unsqueeze(0), done=0))
        # Torch leaves parts of it untyped.
        compiler = cast("Callable[..., Any]", torch.compile)  # pyright: ignore[reportUnknownMemberType]
        # Isolated, for all steps are one function to torch, which compiles no more than eight versions of
        # one.
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
        """Return each member's loss, [K], after one step that changes weights, moments and buffers in place.

        Args:
            weights: [K, P].
            moments: each [K, P].
            buffers: each [K, *shape].
            inputs: as `Forward.losses` takes them.
            targets: likewise.
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

        # Not torch.autograd.grad: only torch.func's can be traced together with what uses the gradient.
        gradient = cast("Callable[..., tuple[Tensor, Tensor]]", torch.func.grad(total, has_aux=True))
        grads, losses = gradient(weights, buffers)
        self._optimizer.step(weights, grads, moments, dict(zip(self.names, table.unbind(), strict=True)))
        return losses


class Compiled:
    """The steps that a worker has compiled, and what it learnt of when that pays.

    It keeps one as long as it lives.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[object, ...], CompiledStep | None] = {}
        self._plain_s: dict[tuple[object, ...], float] = {}
        self._cost_s = _ASSUMED_S

    def step(
        self, plan: StackPlan, *, width: int, is_paired: bool, example: Callable[[], tuple[Any, ...]]
    ) -> CompiledStep | None:
        """Return the compiled step, or None where the plain one is to be taken.

        It is compiled now if that pays for the steps ahead of the plan's arm.

        Args:
            plan: how the members are stacked.
            width: members in a stack.
            is_paired: whether they share their data.
            example: gives what the step will be called with, without the table; copies of it are used.
        """
        key = _key(plan, width, is_paired)
        if key in self._steps:
            known = self._steps[key]
            return known if known is not None and _same_constants(known.plan, plan) else None
        # Unknown before the first plain epoch, and for models that draw random numbers, for a graph draws
        # other ones.
        ahead_s = plan.pack.steps_ahead * self._plain_s.get(key, 0.0)
        if plan.device.type != "cpu" or shutil.which("g++") is None or ahead_s < _EARNED * self._cost_s:
            return None
        started = time.perf_counter()
        self._steps[key] = _made(plan, is_paired=is_paired, example=example())
        self._cost_s = time.perf_counter() - started
        return self._steps[key]

    def noted(
        self, plan: StackPlan, step: CompiledStep | None, *, width: int, is_paired: bool, member_step_s: float
    ) -> CompiledStep | None:
        """Return the step to go on with, having learnt how long an epoch with it took.

        A compiled one that is no faster is given up for good.

        Args:
            plan: how the members are stacked.
            step: the compiled step, or None for the plain one.
            width: members in a stack.
            is_paired: whether they share their data.
            member_step_s: a member's share of a step's processor seconds, which a busy machine does not
                stretch; evaluation is included.
        """
        key = _key(plan, width, is_paired)
        if step is None:
            self._plain_s[key] = min(member_step_s, self._plain_s.get(key, math.inf))
        elif member_step_s > self._plain_s.get(key, math.inf):
            _LOGGER.info(
                "the compiled step of %s with %s is no faster and is not used",
                plan.pack.workload,
                plan.pack.optimizer,
            )
            self._steps[key] = step = None
        return step


def _made(plan: StackPlan, *, is_paired: bool, example: tuple[Any, ...]) -> CompiledStep | None:
    try:
        from torch._inductor import config

        step = CompiledStep(plan, is_paired=is_paired)
        weights, moments, buffers, inputs, targets = example
        table = torch.zeros(len(step.names), len(weights), 1, dtype=weights.dtype)
        # A pool of compiling processes would outlive what it is needed for, one for each worker.
        # Torch leaves parts of it untyped.
        with config.patch(compile_threads=1):  # pyright: ignore[reportUnknownMemberType]
            step(weights.detach().clone(), _copies(moments), _copies(buffers), inputs, targets, table)
    # torch's own compiler, a C++ compiler and a linker stand behind this: whatever any of them says, the
    # plain step goes on.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:300]
        _LOGGER.warning(
            "the step of %s with %s runs uncompiled: %s: %s",
            plan.pack.workload,
            plan.pack.optimizer,
            type(error).__name__,
            reason,
        )
        return None
    return step


def _key(plan: StackPlan, width: int, is_paired: bool) -> tuple[object, ...]:  # noqa: FBT001 # parts of a key
    return plan.workload, plan.entry.card.name, plan.pack.batch_size, plan.pack.decay_1d, width, is_paired


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _same_constants(one: StackPlan, other: StackPlan) -> bool:
    """Return whether what the graph holds of its own model is the same for another plan."""
    return one.kept == other.kept and _is_same(_constants(one), _constants(other))


def _constants(plan: StackPlan) -> dict[str, object]:
    """Return what a model has beside its rows.

    Buffers that all members share, and what its modules hold as plain attributes.
    """
    constants: dict[str, object] = {
        name: buffer for name, buffer in plan.template.named_buffers() if name not in plan.kept
    }
    torchs_own = vars(nn.Module()).keys()
    for index, module in enumerate(plan.template.modules()):
        constants |= {
            f"{index} {name}": value for name, value in vars(module).items() if name not in torchs_own
        }
    return constants


def _is_same(one: object, other: object) -> bool:
    """Return whether two constants are equal.

    Those that are no tensors, numbers, strings or containers of them are taken to be if their type is.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        mine, theirs = cast("Mapping[object, object]", one), cast("Mapping[object, object]", other)
        return mine.keys() == theirs.keys() and all(
            _is_same(value, theirs[key]) for key, value in mine.items()
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        items, others = cast("Sequence[object]", one), cast("Sequence[object]", other)
        return len(items) == len(others) and all(map(_is_same, items, others))
    return one == other if isinstance(one, bool | int | float | complex | str) else True
