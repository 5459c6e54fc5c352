"""The trial that a user's training loop gets: its configuration and budget, and where to report to."""

__all__ = [
    "ArmRecipe",
    "OptimizerWatch",
    "Probes",
    "ScriptReport",
    "Trial",
    "TrialHost",
    "TrialTask",
    "Values",
    "states_of",
]

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from studies.space import Parameters
from studies.training_settings import PREFIX, TrainingSettings
from workers.seeding import noise_seed, seed_generators
from workers.tensor_states import on_cpu
from workers.trial_files import TrialFolder
from workers.workload_errors import CannotTrain

Values = float | Tensor | Mapping[str, float | Tensor]
"""Metrics by name; a number by itself is the study's objective."""

Probes = tuple[float, float, float, float]
_LOSS = "loss"


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


@dataclass(frozen=True, kw_only=True)
class ScriptReport:
    """What a user's loop has reported of an epoch.

    Attributes:
        validation: metrics by name, the objective first.
        loss: the validation loss; None if it was not reported.
        train_loss: the training loss; None if it was not reported.
        lr: the learning rate at the epoch's last step; NaN if the arm's optimizer is not used.
        probes: weight norm, effective step, gradient cosine and projected fraction; None without the arm's
            optimizer.
        state: what the loop has saved in this epoch; None if it has not.
    """

    validation: Mapping[str, float]
    loss: float | None
    train_loss: float | None
    lr: float
    probes: Probes | None
    state: Mapping[str, Any] | None


class TrialHost(Protocol):
    """The owner of a trial's budget, which the user's loop waits for after each epoch."""

    def epoch_ended(self, report: ScriptReport, test: Callable[[], Mapping[str, float]]) -> None:
        """Pass on an epoch's report, and return when the loop may go on.

        Args:
            report: the report.
            test: returns the test metrics by name; called if they count.
        """
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


class Trial:
    """One trial of a study, as the user's own training loop sees it.

        def run(self, trial):
            model = Network().to(trial.device)
            optimizer = trial.optimizer(model)
            parts = {"model": model, "optimizer": optimizer}
            trial.restore(parts)
            for epoch in trial.epochs():
                train(model, optimizer)
                trial.report(
                    validation={"accuracy": accuracy(model, "validation")},
                    test={"accuracy": accuracy(model, "test")},
                )
                trial.save(parts)

    In a loop over `epochs()`, an epoch ends with the loop's body. In any other loop it ends with `report`, so
    that `save` comes first.

    Attributes:
        id: the trial's id.
        seed: the trial's seed; the same for every arm of a replicate. Global generators are seeded already.
        device: where to train.
        config: the whole configuration: the optimizer's hyperparameters by name (`lr`), the training settings
            (`training.batch_size`), and everything else that the study sets or searches.
        training: the training settings, by attribute.
        optimizer_name: name of the arm's optimizer.
        metrics: names of the metrics that each report holds, the study's objective first.
        budget: epochs of the whole trial.
        task: all of this as plain values.
    """

    def __init__(
        self,
        task: TrialTask,
        *,
        device: torch.device,
        recipe: ArmRecipe,
        host: TrialHost,
        folder: TrialFolder,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Begin or continue a trial.

        Args:
            task: what to do.
            device: where to train.
            recipe: how its arm trains.
            host: waits for its reports.
            folder: its folder, which the host removes.
            state: what its loop has saved after `task.from_epoch` epochs; None if it has not.
        """
        self.id = task.trial_id
        self.seed = task.seed
        self.device = device
        self.training = task.training
        self.optimizer_name = task.optimizer
        self.metrics = task.metrics
        self.budget = task.epochs
        settings = {**task.training.model_dump(), "warmup_fraction": task.training.warmup}
        self.config: Parameters = {
            **{f"{PREFIX}{name}": value for name, value in settings.items()},
            **task.parameters,
        }
        self.task = task
        self._recipe, self._host = recipe, host
        self._stored = state
        self._is_restored = False
        self._has_begun = False
        self._is_in_loop = False
        self._is_closed = False
        self._done = 0
        self._pending: tuple[ScriptReport, Callable[[], Mapping[str, float]]] | None = None
        self._state: Mapping[str, Any] | None = None
        self._watch: OptimizerWatch | None = None
        self._folder = folder
        self._misuse: CannotTrain | None = None

    @property
    def folder(self) -> Path:
        """A folder of the trial's own on this machine, whose files are kept if `keep.files` says so.

        It is removed when the trial ends or pauses, and empty when a trial continues.
        """
        return self._folder.path

    def log(self, **values: object) -> None:
        """Append a line to `log.jsonl` in the folder: the time and the values, as JSON.

        Args:
            values: by name; what JSON cannot hold is written as text.
        """
        self._folder.log(**values)

    @property
    def is_over(self) -> bool:
        """Whether the loop is to end now: the budget is used up, or the trial pauses at a rung.

        `epochs()` ends by itself. A loop that a library owns is to ask after each report.
        """
        return self._done >= self.task.to_epoch

    @property
    def is_main(self) -> bool:
        """Whether this process reports and saves; true in trials of one process."""
        return True

    def optimizer(
        self, model: nn.Module, *, groups: Mapping[str, Iterable[nn.Parameter]] | None = None
    ) -> Optimizer:
        """Return the arm's optimizer, with the trial's hyperparameters, for a model on its device.

        It has one group for parameters that get weight decay, and others where the arm treats some
        differently. If the optimizer evaluates at other weights than it trains (schedule-free ones), it
        follows the model's `train()` and `eval()`.

        Args:
            model: the model.
            groups: the parameters of the card's groups, which may have hyperparameters of their own, such as
                `groups.embedding.lr`.

        Raises:
            CannotTrain: it was called before.
        """
        if self._watch is not None:
            raise self._refused("expected one optimizer in a trial, got a second call of trial.optimizer")
        named = {name: tuple(members) for name, members in (groups or {}).items()}
        optimizer, self._watch = self._recipe.build(model, named)
        return optimizer

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int) -> LambdaLR:
        """Return the arm's learning-rate schedule; call its `step()` after each `optimizer.step()`.

        Args:
            optimizer: the trial's.
            steps_per_epoch: calls of `step()` in an epoch. Further calls keep the last learning rate.
        """
        if steps_per_epoch < 1:
            raise self._refused(f"expected steps_per_epoch of at least 1, got {steps_per_epoch}")
        if self._watch is not None:
            self._watch.expect(steps_per_epoch)
        total = steps_per_epoch * self.task.epochs
        return LambdaLR(optimizer, lambda step: self._recipe.factor(min(step, total - 1), total))

    def epochs(self) -> Iterator[int]:
        """Yield the epochs that are to be trained, counted from 1.

        They begin after the last one of the restored state, and end with the budget or where the trial pauses
        to be compared with others. Before each of them the global generators are seeded.

        Raises:
            CannotTrain: there was no report in an epoch.
        """
        if self._is_in_loop:
            raise self._refused("expected one loop over trial.epochs(), got another one within it")
        self._begin()
        seed_generators(noise_seed(self.seed, epoch=self._done + 1), device=self.device)
        self._is_in_loop = True
        try:
            while not self.is_over:
                yield self._done + 1
                if self._pending is None:
                    raise self._refused(
                        f"expected a report of epoch {self._done + 1}, got none; call trial.report in each "
                        "epoch"
                    )
                self._end_epoch()
        finally:
            self._is_in_loop = False

    def report(
        self,
        *,
        validation: Values,
        test: Values | Callable[[], Values] | None = None,
        train_loss: float | Tensor | None = None,
    ) -> None:
        """Report what was measured in an epoch.

        A validation value or a training loss that is not finite ends the trial as diverged.

        Args:
            validation: the card's metrics on the validation split by name, and `loss` if there is a
                validation loss; or the study's objective by itself.
            test: the same metrics on the test split, or a function that returns them. They are needed in the
                epoch whose value counts: the last one, or each that is better than all before if the study's
                objective is the best epoch. The function is called only then.
            train_loss: the mean training loss.

        Raises:
            CannotTrain: a name is unknown or missing, a value is not a number, or there is no such epoch: it
                was reported already, or lies beyond the budget.
        """
        watch = self._watch
        self.report_measured(
            validation=validation,
            test=test,
            train_loss=train_loss,
            lr=watch.lr if watch is not None else None,
            probes=watch.read() if watch is not None else None,
        )

    def report_measured(
        self,
        *,
        validation: Values,
        test: Values | Callable[[], Values] | None,
        train_loss: float | Tensor | None,
        lr: float | None,
        probes: Probes | None,
    ) -> None:
        """Report an epoch like `report`, with what another process has observed of its optimizer.

        Args:
            validation: as in `report`.
            test: as in `report`.
            train_loss: as in `report`.
            lr: the learning rate of the last step; None for the configuration's.
            probes: as in `ScriptReport`.
        """
        if self._is_closed:
            raise self._refused("expected no report after run has returned, got one")
        self._begin()
        if self._is_in_loop and self._pending is not None:
            raise self._refused(f"expected one report of epoch {self._done + 1}, got a second")
        self.end_pending()
        if self.is_over:
            last, epochs = self._done, self.task.epochs
            why = "the last of its budget" if last == epochs else f"at which it pauses, of {epochs}"
            raise self._refused(
                f"expected no report after epoch {last}, {why}, got another; loop over trial.epochs(), or "
                "end the loop when trial.is_over is true"
            )
        values = self._checked(validation, "validation")
        report = ScriptReport(
            validation={name: values[name] for name in self.task.metrics},
            loss=values.get(_LOSS),
            train_loss=None if train_loss is None else self._number(train_loss, "train_loss"),
            lr=float(self.config.get("lr", math.nan)) if lr is None else lr,
            probes=probes,
            state=None,
        )
        self._pending = report, lambda: self._test_values(test)
        if not self._is_in_loop:
            self._end_epoch()

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep what the loop needs to continue after this epoch.

        Call it in each epoch. It costs nothing: tensors and the state of models and optimizers are read at
        the end of the epoch, and only if a checkpoint is due.

        Args:
            state: by name: tensors, numbers, strings, containers of these, and objects with a `state_dict`.
        """
        if not isinstance(cast("object", state), Mapping):
            raise self._refused(f"expected trial.save to get a mapping, got a {type(state).__name__}")
        self._state = state

    def restore(self, parts: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """Return what `save` kept after the last epoch, its tensors on the CPU; None if there is nothing.

        A loop that does not call it before its first epoch starts over: it trains all epochs again, and
        reports of those that are known already are ignored.

        Args:
            parts: models, optimizers and other objects with `load_state_dict`, which is called with what was
                kept under the same name; other values are ignored.
        """
        if self._has_begun:
            raise self._refused("expected trial.restore before the first epoch, got it afterwards")
        self._is_restored = True
        state = self._stored
        if state is None:
            return None
        loaded: set[str] = set()
        for name, part in (parts or {}).items():
            if not hasattr(part, "load_state_dict"):
                continue
            if name not in state:
                raise self._refused(
                    f"expected one of {', '.join(state)}, which trial.save has kept, got {name!r}"
                )
            if isinstance(part, Optimizer):
                self._recipe.load(part, state[name])
            else:
                # Modules copy it. Anything else may keep it for longer than its file exists.
                part.load_state_dict(state[name] if isinstance(part, nn.Module) else on_cpu(state[name]))
            loaded.add(name)
        return {name: value if name in loaded else on_cpu(value) for name, value in state.items()}

    def close(self) -> None:
        """End the trial after its loop; to be called by its host alone.

        Raises:
            CannotTrain: the loop has broken one of the rules above, or has left out epochs.
        """
        self.end_pending()
        self._is_closed = True
        if self._misuse is not None:
            raise self._misuse
        if not self.is_over:
            after = f"after epoch {self._done} of {self.task.epochs}" if self._done else "without a report"
            raise CannotTrain(
                f"expected a report of each epoch up to {self.task.to_epoch}, but the loop ended {after}; "
                "call trial.report in each epoch of trial.epochs()"
            )

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            is_resumed = self._stored is not None and self._is_restored
            self._done = self.task.from_epoch if is_resumed else 0
            # Its tensors may be as large as the model's.
            self._stored = None

    def end_pending(self) -> None:
        """End the epoch of a loop that was left with `break`; to be called by a trial's host alone."""
        if self._pending is not None:
            self._end_epoch()

    def _end_epoch(self) -> None:
        assert self._pending is not None
        report, test = self._pending
        self._pending = None
        state, self._state = self._state, None
        self._done += 1
        if self._done > self.task.from_epoch:
            self._host.epoch_ended(replace(report, state=state), test)
        seed_generators(noise_seed(self.seed, epoch=self._done + 1), device=self.device)

    def _test_values(self, test: Values | Callable[[], Values] | None) -> dict[str, float]:
        found = test() if callable(test) else test
        if found is None:
            raise self._refused(
                f"expected the test value of epoch {self._done}, which counts, got none; pass test to "
                "trial.report: a value, or a function that returns it"
            )
        values = self._checked(found, "test")
        return {name: values[name] for name in self.task.metrics}

    def _checked(self, values: Values, split: str) -> dict[str, float]:
        """Return metrics by name, the objective first, and perhaps a loss."""
        names = self.task.metrics
        if not isinstance(values, Mapping):
            values = {names[0]: values}
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in {*names, _LOSS}]
        if missing or unknown:
            raise self._refused(
                f"expected {split} values of {', '.join(map(repr, names))} and perhaps 'loss', got "
                f"{', '.join(map(repr, values)) or 'none'}"
            )
        return {name: self._number(values[name], name) for name in sorted(values, key=[*names, _LOSS].index)}

    def _number(self, value: object, name: str) -> float:
        try:
            return float(cast("float", value))
        except (TypeError, ValueError, RuntimeError):
            found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise self._refused(f"expected a number for {name!r}, got {found[:80]}") from None

    def _refused(self, message: str) -> CannotTrain:
        """Return an error about a call, and keep it: a loop that catches it fails all the same."""
        self._misuse = self._misuse or CannotTrain(f"{message} (workload {self.task.workload!r})")
        return self._misuse


def states_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of models, optimizers and schedulers by name; any other value as it is."""
    return {
        name: part.state_dict() if callable(getattr(part, "state_dict", None)) else part
        for name, part in parts.items()
    }
