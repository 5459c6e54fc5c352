"""Checks of the training settings that not every workload can be trained with."""

__all__ = ["check_settings"]

import math
from collections.abc import Collection, Iterator

import torch

from studies.formatting import number
from studies.training_settings import PrecisionName, TrainingSettings
from studies.trials import CheckResult
from workers.seeding import seeded
from workers.training_tasks import step_function, training_task
from workers.updates import Update
from workers.workload_check.check_result import about, calling
from workers.workload_check.shortened import interval_of
from workers.workloads import Data, ModelWorkload

_SEED = 0
_SMOOTHING = 0.1


def check_settings(
    workload: ModelWorkload,
    data: Data | None,
    device: torch.device,
    *,
    batch_size: int,
    precisions: Collection[PrecisionName],
    smooths_labels: bool,
) -> Iterator[CheckResult]:
    """Yield whether a workload can be trained and evaluated with the settings that a study uses.

    Args:
        workload: what to check.
        data: the data of a workload of tensors, on `device`; None for any other.
        device: where to train.
        batch_size: examples in a batch.
        precisions: the precisions in which to run the model.
        smooths_labels: whether the training loss must change with label smoothing.

    Raises:
        CheckFailed: the workload's code raised an error.
    """
    function, name = step_function(workload), workload.card.name

    def measured(settings: TrainingSettings) -> tuple[float, list[float]]:
        """Return a batch's loss and the values of the validation split, after a backward pass."""
        with seeded(_SEED, device=torch.device("cpu")):
            model = workload.build_model()
        model.to(device)
        interval = interval_of(workload, steps=1, batch_size=batch_size)
        task = training_task(
            workload,
            model,
            data=data,
            seed=_SEED,
            settings=settings,
            interval_steps=interval,
            device=device,
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        update = Update(settings, model=model, optimizer=optimizer, device=device)
        with seeded(_SEED, device=device):
            model.train()
            with update.precision():
                loss = task.loss(next(task.batches(1)))
            update.backward(loss)
            model.eval()
            with update.evaluated(average=False):
                return loss.item(), [value.item() for value in task.evaluate("validation")[1:]]

    plain = TrainingSettings(batch_size=batch_size)
    for precision in precisions:
        check = f"precision {precision}"
        with calling(check, workload=name):
            loss, values = measured(plain.model_copy(update={"precision": precision}))
        yield (
            CheckResult(check, "ok", f"training loss {number(loss)} on the first batch")
            if all(map(math.isfinite, [loss, *values]))
            else about(
                function,
                check,
                "error",
                f"expected a finite loss and finite metrics in {precision}, got {loss} and "
                f"{', '.join(map(str, values))}; use another precision, or compute the loss in float32",
            )
        )
    if smooths_labels:
        with calling("label smoothing", workload=name):
            losses = [
                measured(plain.model_copy(update={"label_smoothing": each}))[0] for each in (0.0, _SMOOTHING)
            ]
        yield (
            CheckResult("label smoothing", "ok", "the training loss changes with label_smoothing")
            if losses[0] != losses[1]
            else about(
                function,
                "label smoothing",
                "error",
                f"expected another loss with label_smoothing {_SMOOTHING:g}, got {number(losses[0])} as "
                "without; use the argument, or remove it and training.label_smoothing",
            )
        )
