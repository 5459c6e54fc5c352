"""What one trial trains on: the batches of an epoch, the loss of a batch, and the values of a split."""

__all__ = [
    "LoopTask",
    "TensorTask",
    "TrainingTask",
    "step_function",
    "takes_label_smoothing",
    "training_task",
]

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from studies.training_settings import TrainingSettings
from workers.batch_order import BatchOrder, BatchStream
from workers.named_metrics import NamedMetrics, checked_names, named_metrics
from workers.results import EVALUATION_BATCH, batch_sums, scalar_loss, scalar_of, split_means
from workers.trial_processes import OwnRandomness, trial_processes
from workers.workload_errors import CannotTrain
from workers.workloads import Data, LoopWorkload, ModelWorkload, SplitName, TensorWorkload
from workers.workloads.loop_workload import moved


class TrainingTask(Protocol):
    """A workload with one trial's model, batch size and seed.

    Attributes:
        steps: steps of an epoch, or of the interval that replaces it.
        has_validation_loss: whether `evaluate` has measured a loss.
        metrics: the metrics that `evaluate` returns, in this order.
    """

    steps: int
    metrics: NamedMetrics
    has_validation_loss: bool

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch, counted from 1: `accumulation_steps` for each step."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar tensor with a gradient."""
        ...

    def evaluate(self, split: SplitName) -> Tensor:
        """Return the mean loss and the metrics of a split, [1 + metrics]; set evaluation mode before."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data if it does not follow from the number of epochs."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a position that `state_dict` returned."""
        ...


def training_task(
    workload: ModelWorkload,
    model: nn.Module,
    *,
    data: Data | None,
    seed: int,
    settings: TrainingSettings,
    interval_steps: int | None = None,
    device: torch.device,
    objective: str | None = None,
) -> TrainingTask:
    """Return the task of a trial.

    Args:
        workload: what to train.
        model: the trial's model, on `device`.
        data: the data of a workload of tensors, on `device`; None for any other.
        seed: the trial's seed.
        settings: the trial's settings.
        interval_steps: steps of the interval that replaces the epoch; None for epochs.
        device: where to train.
        objective: name of the metric that comes first in the values of a split; None: the card's own.

    Raises:
        CannotTrain: an epoch has no step, the workload has no metric of that name, or its loss takes no label
            smoothing.
    """
    metrics = named_metrics(workload, objective)
    if settings.label_smoothing > 0 and not takes_label_smoothing(workload):
        function = step_function(workload)
        raise CannotTrain(
            f"expected {function.__name__} of workload {workload.card.name!r} to take label_smoothing, which "
            f"the study sets to {settings.label_smoothing:g}; give it a keyword argument "
            "`label_smoothing: float = 0.0`, or remove training.label_smoothing",
            function=function,
        )
    if isinstance(workload, TensorWorkload):
        assert data is not None, "a workload of tensors has data"
        order = BatchOrder(
            examples=len(data.train),
            batch_size=settings.batch_size,
            accumulation_steps=settings.accumulation_steps,
            interval_steps=interval_steps,
        )
        return TensorTask(
            workload,
            model,
            data=data,
            seed=seed,
            order=order,
            label_smoothing=settings.label_smoothing,
            device=device,
            metrics=metrics,
        )
    return LoopTask(
        workload,
        model,
        seed=seed,
        settings=settings,
        interval_steps=interval_steps,
        device=device,
        metrics=metrics,
    )


def takes_label_smoothing(workload: ModelWorkload) -> bool:
    """Return whether the function that returns the loss of a batch has an argument `label_smoothing`."""
    try:
        parameters = inspect.signature(step_function(workload)).parameters
    except (TypeError, ValueError):
        return False
    return "label_smoothing" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def step_function(workload: ModelWorkload) -> Callable[..., object]:
    """Return the function of a workload that returns the loss of a batch."""
    return workload.loss if isinstance(workload, TensorWorkload) else workload.training_step


def _with_gradient(loss: Tensor, workload: ModelWorkload) -> Tensor:
    """Return a loss; raise CannotTrain if it has no gradient."""
    if not loss.requires_grad:
        raise CannotTrain(
            f"expected the loss of workload {workload.card.name!r} to depend on the parameters, got one "
            "without a gradient; remove .detach(), .item() and torch.no_grad()",
            function=step_function(workload),
        )
    return loss


class TensorTask:
    """A task whose examples are tensors on the device.

    Examples that do not fill a last batch are left out of an epoch, so that every step has the same batch
    size.
    """

    def __init__(
        self,
        workload: TensorWorkload,
        model: nn.Module,
        *,
        data: Data,
        seed: int,
        order: BatchOrder,
        label_smoothing: float,
        device: torch.device,
        metrics: NamedMetrics,
    ) -> None:
        self._workload, self._model, self._data = workload, model, data
        self._seed, self._order, self._label_smoothing, self._device = seed, order, label_smoothing, device
        self.steps = order.steps
        self.has_validation_loss = True
        self.metrics = metrics

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each batch."""
        return iter(self._order.rows(self._seed, epoch=epoch).to(self._device).unbind())

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss over the examples in these rows."""
        train = self._data.train
        loss = scalar_loss(
            self._workload,
            self._model(train.inputs.index_select(0, batch)),
            train.targets.index_select(0, batch),
            label_smoothing=self._label_smoothing,
        )
        return _with_gradient(loss, self._workload)

    @torch.no_grad()
    def evaluate(self, split: SplitName) -> Tensor:
        """Return the mean loss and the mean metrics over a split, [1 + metrics]."""
        return split_means(
            self._data.validation if split == "validation" else self._data.test,
            batch_size=max(EVALUATION_BATCH, self._order.batch_size),
            sums=lambda inputs, targets: batch_sums(
                self._workload, self._model(inputs), targets, metrics=self.metrics
            ),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the order follows from the seed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


class LoopTask:
    """A task whose batches, training step and evaluation are the workload's own.

    In a trial of several processes each trains on its share of every batch, and the first one evaluates.
    """

    def __init__(
        self,
        workload: LoopWorkload,
        model: nn.Module,
        *,
        seed: int,
        settings: TrainingSettings,
        interval_steps: int | None,
        device: torch.device,
        metrics: NamedMetrics,
    ) -> None:
        self._workload, self._model = workload, model
        self._batch_size, self._device = settings.batch_size, device
        self._processes = trial_processes()
        self._randomness = OwnRandomness(self._processes, device)
        self.has_validation_loss = False
        self.metrics = metrics
        in_pass = workload.steps_per_epoch(settings.batch_size)
        if in_pass is None and interval_steps is None:
            raise CannotTrain(
                f"expected steps_per_epoch of workload {workload.card.name!r} to return a number, got None; "
                "name the training examples on its card, return how many batches of a stream count as an "
                "epoch, or give the study a budget of steps and evaluate_every",
                function=workload.steps_per_epoch,
            )
        if settings.batch_size % self._processes.size:
            raise CannotTrain(
                f"expected a batch size that can be divided by {self._processes.size}, the number of "
                f"processes of a trial, got {settings.batch_size}; change batch_size or processes_per_trial"
            )
        smoothing = {"label_smoothing": settings.label_smoothing} if settings.label_smoothing else {}
        self._training_step = self._processes.averaging(
            model, lambda batch: workload.training_step(model, batch, **smoothing)
        )
        steps = 1 if in_pass is None else in_pass // settings.accumulation_steps
        if steps < 1 and (interval_steps is None or not in_pass):
            raise CannotTrain(
                f"expected at least {settings.accumulation_steps} batches per epoch of workload "
                f"{workload.card.name!r}, as many as a step needs, got {in_pass} of {settings.batch_size}; "
                "lower batch_size or accumulation_steps",
                function=workload.steps_per_epoch,
            )
        self.steps = steps if interval_steps is None else interval_steps
        self._batches = self.steps * settings.accumulation_steps
        self._stream = (
            BatchStream(workload, batch_size=settings.batch_size, in_pass=in_pass, seed=seed, device=device)
            if interval_steps is not None
            else None
        )

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch or interval, on the device.

        Raises:
            CannotTrain: there are too few.
        """
        if self._stream is not None:
            for batch in self._stream.take((epoch - 1) * self._batches, self._batches):
                yield moved(batch, self._device)
            return
        yielded = 0
        self._randomness.restart()
        splits = self._workload.splits_batches
        for batch in self._workload.train_batches(batch_size=self._batch_size, epoch=epoch):
            if not splits:
                batch = self._processes.share(batch, function=self._workload.train_batches)
            yield moved(batch, self._device)
            yielded += 1
            if yielded == self._batches:
                return
        raise CannotTrain(
            f"expected {self._batches} batches of {self._batch_size} in epoch {epoch} of workload "
            f"{self._workload.card.name!r}, got {yielded}; correct steps_per_epoch or the card's examples",
            function=self._workload.train_batches,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position of a stream that exposes it."""
        return {} if self._stream is None else self._stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position of a stream."""
        if self._stream is not None:
            self._stream.load_state_dict(state)

    def loss(self, batch: Any) -> Tensor:
        """Return the loss of the workload's training step."""
        step = self._workload.training_step
        with self._randomness:
            found: Any = self._training_step(batch)
        if isinstance(found, Mapping):
            if "loss" not in found:
                names = ", ".join(map(str, cast("Mapping[Any, Any]", found)))
                raise CannotTrain(
                    f"expected training_step of workload {self._workload.card.name!r} to return a loss, or a "
                    f"mapping with `loss`, got {names or 'an empty mapping'}",
                    function=step,
                )
            found = cast("Mapping[str, Any]", found)["loss"]
        loss = scalar_of(found, self._workload.card.name, step, "a mean over the batch, e.g. loss.mean()")
        return _with_gradient(loss, self._workload)

    def evaluate(self, split: SplitName) -> Tensor:
        """Return the loss, NaN if the workload has none, and the metrics over a split, [1 + metrics]."""
        found, self.has_validation_loss = self._processes.from_main(lambda: self._evaluated(split))
        return found

    @torch.no_grad()
    def _evaluated(self, split: SplitName) -> tuple[Tensor, bool]:
        """Return what `evaluate` does, and whether the workload has a loss."""
        card, function = self._workload.card, self._workload.evaluate
        found: Any = function(self._model, split, device=self._device)
        names = (card.metric, *(metric.name for metric in card.metrics))
        values = checked_names(found, names, workload=card.name, function=function, optional=("loss",))
        wanted = ("loss", *self.metrics.names)
        numbers = torch.tensor(
            [
                _number_of(values[name], name=name, workload=card.name, function=function)
                if name in values
                else math.nan
                for name in wanted
            ],
            dtype=torch.float64,
        )
        return numbers, "loss" in values


def _number_of(value: Any, *, name: str, workload: str, function: Callable[..., object]) -> float:
    """Return the value of a metric as a number; raise CannotTrain if it is something else."""
    if not isinstance(value, Tensor) and callable(compute := getattr(value, "compute", None)):
        computed = compute()
        # Else the next evaluation would count this one's batches too.
        if callable(reset := getattr(value, "reset", None)):
            reset()
        value = computed
    if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1):
        return float(value)
    found = (
        f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
    raise CannotTrain(
        f"expected {function.__name__} of workload {workload!r} to return a number for {name!r}, got "
        f"{found}; return a number, a tensor with one element, or a metric whose compute() returns one",
        function=function,
    )
