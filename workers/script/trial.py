"""The trial that a user's training loop gets: its configuration and budget, and where to report to."""

__all__ = ["Trial"]

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from studies.space import Parameters
from studies.training_settings import PREFIX
from workers.script.reported_values import LOSS, checked_number, checked_values
from workers.script.trial_task import (
    ArmRecipe,
    OptimizerWatch,
    Probes,
    ScriptReport,
    TrialHost,
    TrialTask,
    Values,
)
from workers.seeding import noise_seed, seed_generators
from workers.tensor_states import on_cpu
from workers.trial_files import TrialFolder
from workers.workload_errors import CannotTrain


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

    In a loop over `epochs()` or `steps()`, an epoch or step ends with the loop's body. In any other loop an
    epoch ends with `report`, so that `save` comes first.

    In a study whose budget counts steps, an interval of `evaluate_every` steps is what an epoch is elsewhere.

    In a trial of several processes each of them runs the loop. Reports of the first one count; the others may
    leave them out in a loop over `epochs()` or `steps()`. All have to call `restore`.

    Attributes:
        id: the trial's id.
        seed: the trial's seed; the same for every arm of a replicate. Global generators are seeded already,
            alike in all processes of the trial.
        device: where to train.
        config: the whole configuration: the optimizer's hyperparameters by name (`lr`), the training settings
            (`training.batch_size`), and everything else that the study sets or searches.
        training: the training settings, by attribute.
        optimizer_name: name of the arm's optimizer.
        metrics: names of the metrics that each report holds, the study's objective first.
        budget: epochs of the whole trial or, in a budget of steps, its steps.
        evaluate_every: steps from one report to the next; None in a budget of epochs.
        rank, world_size: number of this process among those that train the trial, from 0, and how many.
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
        self.budget = task.epochs * (task.interval_steps or 1)
        self.evaluate_every = task.interval_steps
        self.rank, self.world_size = task.rank, task.world_size
        settings = {**task.training.model_dump(), "warmup_fraction": task.training.warmup}
        self.config: Parameters = {
            **{f"{PREFIX}{name}": value for name, value in settings.items()},
            **task.parameters,
        }
        self.task = task
        self._recipe, self._host = recipe, host
        self._stored = state
        self._is_restored = False
        self._has_begun = self._has_resumed = False
        self._loop: Literal["epochs", "steps"] | None = None
        # Steps from one report to the next, if that is known, and the step that is being taken.
        self._each = task.interval_steps
        self._step = 0
        # Steps of the optimizer since the last epoch, and the step of the last sign of life since then.
        self._taken, self._noted = 0, cast("int | None", None)
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
        self.heard(None)

    def heard(self, step: int | None) -> None:
        """Note that the loop goes on, at the epoch's last step without one; for the trial's host alone."""
        if not self._is_closed:
            self._noted = self._noted if step is None else step
            self._host.heard(self._noted)

    @property
    def is_over(self) -> bool:
        """Whether the loop is to end now: the budget is used up, or the trial pauses at a rung.

        `epochs()` and `steps()` end by themselves. A loop that a library owns is to ask after each report.
        """
        return self._done >= self.task.to_epoch

    @property
    def is_due(self) -> bool:
        """Whether a report is due: in a loop over `steps()` in the last step of each interval."""
        return self._loop != "steps" or self._step == (self._done + 1) * (self._each or 1)

    @property
    def has_resumed(self) -> bool:
        """Whether the loop has continued from what it had saved."""
        return self._has_resumed

    @property
    def is_main(self) -> bool:
        """Whether this process reports and saves; true in trials of one process."""
        return self.rank == 0

    @property
    def distributed(self) -> bool:
        """Whether several processes train this trial; their torch.distributed group is initialised."""
        return self.world_size > 1

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
        # Torch leaves the signatures of hooks untyped.
        optimizer.register_step_post_hook(cast("Any", self._note_step))
        return optimizer

    def scheduler(self, optimizer: Optimizer, *, steps_per_epoch: int | None = None) -> LambdaLR:
        """Return the arm's learning-rate schedule; call its `step()` after each `optimizer.step()`.

        Args:
            optimizer: the trial's.
            steps_per_epoch: calls of `step()` in an epoch, which a budget of steps replaces. Further calls
                keep the last learning rate.

        Raises:
            CannotTrain: `steps_per_epoch` is missing in a budget of epochs, or not positive.
        """
        each = self._steps_of_epoch(steps_per_epoch, "trial.scheduler")
        if self._watch is not None:
            self._watch.expect(each)
        total = each * self.task.epochs
        return LambdaLR(optimizer, lambda step: self._recipe.factor(min(step, total - 1), total))

    def epochs(self) -> Iterator[int]:
        """Yield the epochs that are to be trained, counted from 1.

        They begin after the last one of the restored state, and end with the budget or where the trial pauses
        to be compared with others. Before each of them the global generators are seeded.

        Raises:
            CannotTrain: there was no report in an epoch, or the study's budget counts steps.
        """
        if self.task.interval_steps is not None:
            raise self._refused(
                f"expected a loop over trial.steps() in a budget of {self.task.budget}, got one over "
                "trial.epochs(); loop over the steps and report where trial.is_due is true, or give the "
                "study a budget of epochs"
            )
        self._enter("epochs")
        try:
            while not self.is_over:
                yield self._done + 1
                self._end_body("call trial.report in each epoch")
        finally:
            self._loop = None

    def steps(self, *, steps_per_epoch: int | None = None) -> Iterator[int]:
        """Yield the steps that are to be trained, counted from 1, in place of `epochs()`.

            for step in trial.steps():
                train(next(batches))
                if trial.is_due:
                    trial.report(validation=..., test=...)
                    trial.save(parts)

        They begin after the last step of the restored state, and end with the budget or where the trial
        pauses. After each interval of `evaluate_every` steps a report is due. Before each interval the global
        generators are seeded.

        Args:
            steps_per_epoch: lets the loop train in a budget of epochs too: a report is then due after each
                epoch of this many steps. A budget of steps replaces it.

        Raises:
            CannotTrain: there was no report at the end of an interval, or the study's budget counts epochs
                and `steps_per_epoch` is missing.
        """
        each = self._steps_of_epoch(steps_per_epoch, "trial.steps")
        self._enter("steps")
        self._each = each
        try:
            self._step = self._done * each
            while not self.is_over:
                self._step += 1
                yield self._step
                self.heard(self._step - self._done * each)
                if self.is_due:
                    self._end_body("call trial.report where trial.is_due is true")
        finally:
            self._loop, self._each = None, self.task.interval_steps

    def report(
        self,
        *,
        validation: Values,
        test: Values | Callable[[], Values] | None = None,
        train_loss: float | Tensor | None = None,
        step: int | None = None,
    ) -> None:
        """Report what was measured in an epoch, or at the end of an interval of steps.

        A validation value or a training loss that is not finite ends the trial as diverged.

        Args:
            validation: the card's metrics on the validation split by name, and `loss` if there is a
                validation loss; or the study's objective by itself.
            test: the same metrics on the test split, or a function that returns them. They are needed in the
                epoch whose value counts: the last one, or each that is better than all before if the study's
                objective is the best epoch. The function is called only then.
            train_loss: the mean training loss.
            step: how many steps the trial has trained. In a budget of steps a loop must name it, unless it
                is one over `steps()`.

        Raises:
            CannotTrain: a name is unknown or missing, a value is not a number, or no report is due: the epoch
                was reported already, lies beyond the budget, or ends after another step.
        """
        watch = self._watch
        self.report_measured(
            validation=validation,
            test=test,
            train_loss=train_loss,
            step=step,
            lr=watch.lr if watch is not None else None,
            probes=watch.read() if watch is not None else None,
        )

    def report_measured(
        self,
        *,
        validation: Values,
        test: Values | Callable[[], Values] | None,
        train_loss: float | Tensor | None,
        step: int | None,
        lr: float | None,
        probes: Probes | None,
    ) -> None:
        """Report an epoch like `report`, with what another process has observed of its optimizer.

        Args:
            validation: as in `report`.
            test: as in `report`.
            train_loss: as in `report`.
            step: as in `report`.
            lr: the learning rate of the last step; None for the configuration's.
            probes: as in `ScriptReport`.
        """
        if self._is_closed:
            raise self._refused("expected no report after run has returned, got one")
        self._begin()
        if self._loop is not None and self._pending is not None:
            raise self._refused(f"expected one report of {self.task.place(self._done + 1)}, got a second")
        self.end_pending()
        if self.is_over:
            last = self.task.place(self._done)
            why = (
                "the last of its budget"
                if self._done == self.task.epochs
                else f"at which it pauses, of {self.budget}"
            )
            loop = "epochs" if self.evaluate_every is None else "steps"
            raise self._refused(
                f"expected no report after {last}, {why}, got another; loop over trial.{loop}(), or "
                "end the loop when trial.is_over is true"
            )
        step = self._checked_step(step)
        if not self.is_main:
            self._pending = ScriptReport(step=step), lambda: self._values_of_others(test)
        else:
            values = self._checked(validation, "validation")
            report = ScriptReport(
                step=step,
                validation={name: values[name] for name in self.task.metrics},
                loss=values.get(LOSS),
                train_loss=self._checked_loss(train_loss),
                lr=float(self.config.get("lr", math.nan)) if lr is None else lr,
                probes=probes,
            )
            self._pending = report, lambda: self._test_values(test)
        if self._loop is None:
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
        reports of those that are known already are ignored. If there is something, the global generators are
        seeded for the next epoch; so call it last before the loop.

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
        self._seed(self.task.from_epoch)
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
            place, last = self.task.place, self.task.to_epoch
            after = f"after {place(self._done)} of {self.budget}" if self._done else "without a report"
            each, advice = f"each epoch up to {last}", "in each epoch of trial.epochs()"
            if self.evaluate_every is not None:
                each, advice = f"each interval up to {place(last)}", "where trial.is_due is true"
            raise CannotTrain(
                f"expected a report of {each}, but the loop ended {after}; call trial.report {advice}"
            )

    def end_pending(self) -> None:
        """End the epoch of a loop that was left with `break`; to be called by a trial's host alone."""
        if self._pending is not None:
            self._end_epoch()

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._has_resumed = self._stored is not None and self._is_restored
            self._done = self.task.from_epoch if self._has_resumed else 0
            # Its tensors may be as large as the model's.
            self._stored = None

    def _note_step(self, *_: object) -> None:
        # A step of a loop over `steps()` may have several steps of the optimizer, or none.
        if self._loop != "steps":
            self._taken += 1
            self.heard(self._taken)

    def _enter(self, loop: Literal["epochs", "steps"]) -> None:
        """Begin a loop over epochs or steps."""
        if self._loop is not None:
            raise self._refused(f"expected one loop over trial.{self._loop}(), got another one within it")
        self._begin()
        self._seed(self._done)
        self._loop = loop

    def _seed(self, done: int) -> None:
        """Seed the global generators for the epoch after this many."""
        seed_generators(noise_seed(self.seed, epoch=done + 1), device=self.device)

    def _end_body(self, advice: str) -> None:
        """End an epoch with the body of its loop; only the first process must have reported it."""
        if self._pending is None and self.is_main:
            raise self._refused(f"expected a report of {self.task.place(self._done + 1)}, got none; {advice}")
        self._end_epoch()

    def _end_epoch(self) -> None:
        due = None if self._each is None else (self._done + 1) * self._each
        report, test = self._pending or (ScriptReport(step=due), dict[str, float])
        self._pending = None
        state, self._state = self._state, None
        self._done += 1
        self._taken, self._noted = 0, None
        if self._done > self.task.from_epoch:
            self._host.epoch_ended(replace(report, state=state), test)
        self._seed(self._done)

    def _steps_of_epoch(self, given: int | None, function: str) -> int:
        """Return the steps of an epoch or interval."""
        each = self.evaluate_every or given
        if each is None:
            raise self._refused(
                f"expected steps_per_epoch in {function}, because the study's budget counts epochs "
                f"({self.task.epochs}), got none; pass it, or give the study a budget of steps: "
                "{steps: 2000, evaluate_every: 200}"
            )
        if each < 1:
            raise self._refused(f"expected steps_per_epoch of at least 1, got {each}")
        return each

    def _checked_step(self, step: int | None) -> int | None:
        """Return the step after which a report comes, if that is known."""
        if self._each is None:
            return None
        due = (self._done + 1) * self._each
        found = self._step if step is None and self._loop == "steps" else step
        if found is None:
            raise self._refused(
                f"expected the step of the report in a budget of {self.task.budget}, got none; loop over "
                "trial.steps(), or pass step=... to trial.report"
            )
        if found != due or (self._loop == "steps" and found != self._step):
            raise self._refused(
                f"expected the next report after step {due}, because one is due every {self._each} steps, "
                f"got one after step {found}; report where trial.is_due is true"
            )
        return found

    def _values_of_others(self, test: Values | Callable[[], Values] | None) -> dict[str, float]:
        """Take part in measuring the test values, which the first process reports."""
        if callable(test):
            test()
        return {}

    def _test_values(self, test: Values | Callable[[], Values] | None) -> dict[str, float]:
        found = test() if callable(test) else test
        if found is None:
            raise self._refused(
                f"expected the test value of {self.task.place(self._done)}, which counts, got none; pass "
                "test to trial.report: a value, or a function that returns it"
            )
        values = self._checked(found, "test")
        return {name: values[name] for name in self.task.metrics}

    def _checked(self, values: Values, split: str) -> dict[str, float]:
        """Return metrics by name, the objective first, and perhaps a loss."""
        try:
            return checked_values(values, self.task.metrics, split=split)
        except CannotTrain as error:
            raise self._refused(str(error)) from None

    def _checked_loss(self, loss: object) -> float | None:
        """Return a training loss as a number, if there is one."""
        try:
            return None if loss is None else checked_number(loss, "train_loss")
        except CannotTrain as error:
            raise self._refused(str(error)) from None

    def _refused(self, message: str) -> CannotTrain:
        """Return an error about a call, and keep it: a loop that catches it fails all the same."""
        self._misuse = self._misuse or CannotTrain(f"{message} (workload {self.task.workload!r})")
        return self._misuse
