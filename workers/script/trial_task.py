"""What a trial and its host say to each other: what to do, what was reported, and how the arm trains."""

__all__ = [
    "ArmRecipe",
    "ForeignState",
    "OptimizerWatch",
    "Probes",
    "ScriptReport",
    "TrialHost",
    "TrialTask",
    "Values",
    "model_of",
    "states_of",
]

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from studies.formatting import plural
from studies.space import Parameters
from studies.training_settings import TrainingSettings

Values = float | Tensor | Mapping[str, float | Tensor]
"""Metrics by name; a number by itself is the study's objective."""

Probes = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What one call of a user's loop is to do.

    Attributes:
        trial_id: the trial.
        workload, optimizer: names of its workload and of its arm's optimizer.
        parameters: the trial's configuration.
        training: its training settings.
        seed: fixes everything that is random.
        metrics: names of the metrics that each report holds, the objective first.
        from_epoch: epochs that are reported already.
        to_epoch: the epoch after which the loop ends.
        epochs: epochs of the whole trial.
        interval_steps: steps of the interval that replaces an epoch; None in a budget of epochs.
        rank, world_size: number of this process among those that train the trial, from 0, and how many.
    """

    trial_id: str
    workload: str
    optimizer: str
    parameters: Parameters
    training: TrainingSettings
    seed: int
    metrics: tuple[str, ...]
    from_epoch: int
    to_epoch: int
    epochs: int
    interval_steps: int | None = None
    rank: int = 0
    world_size: int = 1

    def place(self, epoch: int) -> str:
        """Return what an epoch is called: `epoch 3`, or the last step of the interval that replaces it."""
        return f"epoch {epoch}" if self.interval_steps is None else f"step {epoch * self.interval_steps}"

    @property
    def budget(self) -> str:
        """The budget in words."""
        if self.interval_steps is None:
            return plural(self.epochs, "epoch")
        steps = plural(self.epochs * self.interval_steps, "step")
        return f"{steps}, evaluated every {self.interval_steps}"


@dataclass(frozen=True, kw_only=True)
class ScriptReport:
    """What a user's loop has reported of an epoch.

    In a trial of several processes only the first one's values count; those of the others stay empty.

    Attributes:
        step: the step after which it was measured; None in a budget of epochs.
        validation: metrics by name, the objective first.
        loss: the validation loss; None if it was not reported.
        train_loss: the training loss; None if it was not reported.
        lr: the learning rate at the epoch's last step; NaN if the arm's optimizer is not used.
        probes: weight norm, effective step, gradient cosine and projected fraction; None without the arm's
            optimizer.
        state: what the loop has saved in this epoch; None if it has not.
    """

    step: int | None = None
    validation: Mapping[str, float] = field(default_factory=dict[str, float])
    loss: float | None = None
    train_loss: float | None = None
    lr: float = math.nan
    probes: Probes | None = None
    state: Mapping[str, Any] | None = None


class TrialHost(Protocol):
    """The owner of a trial's budget, which the user's loop waits for after each epoch."""

    def epoch_ended(self, report: ScriptReport, test: Callable[[], Mapping[str, float]]) -> None:
        """Pass on an epoch's report, and return when the loop may go on.

        Args:
            report: the report.
            test: returns the test metrics by name; called if they count.
        """
        ...

    def heard(self, step: int | None) -> None:
        """Note that the loop goes on, and the steps since its last epoch; None if they are not known."""
        ...


class OptimizerWatch(Protocol):
    """Observes the optimizer of a user's loop."""

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        ...

    def expect(self, steps: int) -> None:
        """Note how many steps an epoch has."""
        ...

    def read(self) -> Probes:
        """Return `ScriptReport.probes`, as means since the last call."""
        ...


class ArmRecipe(Protocol):
    """How the arm of a trial trains."""

    def build(
        self, model: nn.Module, groups: Mapping[str, Sequence[nn.Parameter]]
    ) -> tuple[Optimizer, OptimizerWatch]:
        """Return a model's optimizer, and what observes it.

        Args:
            model: the model.
            groups: its parameters by the groups that the configuration names.
        """
        ...

    def factor(self, step: int, total_steps: int) -> float:
        """Return the schedule's multiplier of the learning rate after `step` steps."""
        ...

    def load(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Load an optimizer's state so that training resumes exactly."""
        ...


class ForeignState(ABC):
    """What a program or another library saves, in a file of its own kind."""

    @abstractmethod
    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the bytes of the file."""

    @abstractmethod
    def weights(self) -> Mapping[str, Any] | None:
        """Return the state of the model alone; None if it is not known where that is in the file."""


def states_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of models, optimizers and schedulers by name; any other value as it is."""
    return {
        name: part.state_dict() if callable(getattr(part, "state_dict", None)) else part
        for name, part in parts.items()
    }


def model_of(states: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state that has the name `model`, or all states if none has."""
    model = states.get("model")
    return cast("Mapping[str, Any]", model) if isinstance(model, Mapping) else states
