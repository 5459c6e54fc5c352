"""What one trial trains on: the batches of an epoch, the loss of a batch, and the values of a split."""

__all__ = [
    "LoopTask",
    "TensorTask",
    "TrainingTask",
    "step_function",
    "training_task",
]

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from workers.named_metrics import NamedMetrics, checked_names, named_metrics
from workers.results import EVALUATION_BATCH, batch_sums, scalar_loss, scalar_of, split_means
from workers.seeding import epoch_order
from workers.trial_processes import OwnRandomness, trial_processes
from workers.workload_errors import CannotTrain
from workers.workloads import Data, LoopWorkload, ModelWorkload, SplitName, TensorWorkload, to_device


class TrainingTask(Protocol):
    """A workload with one trial's model, batch size and seed.

    Attributes:
        steps: batches of an epoch.
        has_validation_loss: whether `evaluate` has measured a loss.
        metrics: the metrics that `evaluate` returns, in this order.
    """

    steps: int
    metrics: NamedMetrics
    has_validation_loss: bool

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch, counted from 1."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar tensor with a gradient."""
        ...

    def evaluate(self, split: SplitName) -> Tensor:
        """Return the mean loss and the metrics of a split, [1 + metrics]; set evaluation mode before."""
        ...


def training_task(
    workload: ModelWorkload,
    model: nn.Module,
    *,
    data: Data | None,
    seed: int,
    batch_size: int,
    device: torch.device,
    objective: str | None = None,
) -> TrainingTask:
    """Return the task of a trial.

    Args:
        workload: what to train.
        model: the trial's model, on `device`.
        data: the data of a workload of tensors, on `device`; None for any other.
        seed: the trial's seed.
        batch_size: examples in a batch.
        device: where to train.
        objective: name of the metric that comes first in the values of a split; None: the card's own.

    Raises:
        CannotTrain: an epoch has no step, or the workload has no metric of that name.
    """
    metrics = named_metrics(workload, objective)
    if isinstance(workload, TensorWorkload):
        assert data is not None, "a workload of tensors has data"
        return TensorTask(
            workload, model, data=data, seed=seed, batch_size=batch_size, device=device, metrics=metrics
        )
    return LoopTask(workload, model, batch_size=batch_size, device=device, metrics=metrics)


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
        batch_size: int,
        device: torch.device,
        metrics: NamedMetrics,
    ) -> None:
        self._workload, self._model, self._data = workload, model, data
        self._seed, self._batch_size, self._device = seed, batch_size, device
        self.steps = len(data.train) // batch_size
        self.has_validation_loss = True
        self.metrics = metrics

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each batch."""
        order = epoch_order(self._seed, epoch=epoch, examples=len(self._data.train))
        rows = order[: self.steps * self._batch_size].to(self._device)
        return iter(rows.view(self.steps, self._batch_size).unbind())

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss over the examples in these rows."""
        train = self._data.train
        loss = scalar_loss(
            self._workload,
            self._model(train.inputs.index_select(0, batch)),
            train.targets.index_select(0, batch),
        )
        return _with_gradient(loss, self._workload)

    @torch.no_grad()
    def evaluate(self, split: SplitName) -> Tensor:
        """Return the mean loss and the mean metrics over a split, [1 + metrics]."""
        return split_means(
            self._data.validation if split == "validation" else self._data.test,
            batch_size=max(EVALUATION_BATCH, self._batch_size),
            sums=lambda inputs, targets: batch_sums(
                self._workload, self._model(inputs), targets, metrics=self.metrics
            ),
        )


class LoopTask:
    """A task whose batches, training step and evaluation are the workload's own.

    In a trial of several processes each trains on its share of every batch, and the first one evaluates.
    """

    def __init__(
        self,
        workload: LoopWorkload,
        model: nn.Module,
        *,
        batch_size: int,
        device: torch.device,
        metrics: NamedMetrics,
    ) -> None:
        self._workload, self._model = workload, model
        self._batch_size, self._device = batch_size, device
        self._processes = trial_processes()
        self._randomness = OwnRandomness(self._processes, device)
        self.steps = workload.steps_per_epoch(batch_size)
        self.has_validation_loss = False
        self.metrics = metrics
        if self.steps < 1:
            raise CannotTrain(
                f"expected at least one step per epoch of workload {workload.card.name!r}, got {self.steps} "
                f"with batches of {batch_size}; lower batch_size",
                function=workload.steps_per_epoch,
            )
        if batch_size % self._processes.size:
            raise CannotTrain(
                f"expected a batch size that can be divided by {self._processes.size}, the number of "
                f"processes of a trial, got {batch_size}; change batch_size or processes_per_trial"
            )
        self._training_step = self._processes.averaging(
            model, lambda batch: workload.training_step(model, batch)
        )

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch, on the device.

        Raises:
            CannotTrain: there are fewer than `steps`.
        """
        yielded = 0
        self._randomness.restart()
        splits = self._workload.splits_batches
        for batch in self._workload.train_batches(batch_size=self._batch_size, epoch=epoch):
            if not splits:
                batch = self._processes.share(batch, function=self._workload.train_batches)
            yield to_device(batch, self._device)
            yielded += 1
            if yielded == self.steps:
                return
        raise CannotTrain(
            f"expected {self.steps} batches of {self._batch_size} in epoch {epoch} of workload "
            f"{self._workload.card.name!r}, got {yielded}; correct steps_per_epoch or the card's examples",
            function=self._workload.train_batches,
        )

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
