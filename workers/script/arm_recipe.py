"""How an arm trains a model of a user's own loop: its optimizer, its schedule and its probes."""

__all__ = ["EntryRecipe"]

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from studies.space import Parameters
from studies.training_settings import TrainingSettings
from workers.optimizers import OptimizerEntry, build_optimizer
from workers.probes import Probe, Projection, probed_steps, weight_norm, weights_of
from workers.schedules import factor, scheduled
from workers.script.trial_task import Probes
from workers.solo import projection_of, restore_optimizer
from workers.workloads import with_kinds


class EntryRecipe:
    """The recipe of an arm whose optimizer is an entry of the catalogue."""

    def __init__(self, entry: OptimizerEntry, *, parameters: Parameters, training: TrainingSettings) -> None:
        self._entry, self._parameters, self._training = entry, parameters, training
        self._scheduled = scheduled(training, entry.card)

    def build(
        self, model: nn.Module, groups: Mapping[str, Sequence[nn.Parameter]]
    ) -> tuple[Optimizer, "_Watch"]:
        """Return a model's optimizer with the given parameter groups, and what observes it."""
        optimizer = build_optimizer(
            self._entry,
            model,
            self._parameters,
            decay_1d=self._training.decay_1d,
            groups=with_kinds(groups, model, self._parameters),
        )
        _follow_modes(optimizer, model)
        return optimizer, _Watch(optimizer, model, projection=projection_of(self._entry, self._parameters))

    def factor(self, step: int, total_steps: int) -> float:
        """Return the schedule's multiplier of the learning rate after `step` steps."""
        return factor(self._scheduled, step=step, total_steps=total_steps)

    def load(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Load an optimizer's state so that training resumes exactly."""
        restore_optimizer(optimizer, state)


class _Watch:
    """Notes the learning rate of each step, and probes the weights at a few steps of each epoch."""

    def __init__(self, optimizer: Optimizer, model: nn.Module, *, projection: Projection | None) -> None:
        weights = weights_of(model)
        self.lr = float(optimizer.param_groups[0]["lr"])
        self._weights = weights
        self._probe = Probe(weights, projection=projection, optimizer=optimizer)
        self._step = 0
        # Without a schedule, the length of an epoch is known after the first one.
        self._probed = frozenset({0})
        # Torch leaves the signatures of hooks untyped.
        optimizer.register_step_pre_hook(cast("Any", self._before))
        optimizer.register_step_post_hook(cast("Any", self._after))

    def expect(self, steps: int) -> None:
        """Probe some of as many steps of each epoch."""
        self._probed = probed_steps(steps)

    def read(self) -> Probes:
        """Return the weight norm, and the probes' means since the last call."""
        if self._step:
            self.expect(self._step)
        self._step = 0
        norm = weight_norm(self._weights).item() if self._weights else math.nan
        effective_step, cosine, projected = self._probe.read()
        return norm, effective_step, cosine, projected

    def _before(self, optimizer: Optimizer, _arguments: object, _keywords: object) -> None:
        self.lr = float(optimizer.param_groups[0]["lr"])
        if self._step in self._probed:
            self._probe.before()

    def _after(self, _optimizer: Optimizer, _arguments: object, _keywords: object) -> None:
        if self._step in self._probed:
            self._probe.after()
        self._step += 1


def _follow_modes(optimizer: Optimizer, model: nn.Module) -> None:
    """Let an optimizer that trains and evaluates at different weights follow the modes of its model."""
    train, evaluate = getattr(optimizer, "train", None), getattr(optimizer, "eval", None)
    if not (callable(train) and callable(evaluate)):
        return
    is_training: bool | None = None

    def follow(module: nn.Module, _arguments: object) -> None:
        nonlocal is_training
        if module.training is not is_training:
            is_training = module.training
            (train if is_training else evaluate)()

    model.register_forward_pre_hook(cast("Any", follow))
    train()
