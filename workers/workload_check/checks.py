"""All checks of a workload, in the order in which they depend on each other."""

__all__ = ["check_workload"]

from collections.abc import Collection, Iterator

import torch

from studies.training_settings import PrecisionName
from studies.trials import CheckResult
from workers.optimizers import OptimizerEntry, load_optimizers
from workers.trial_files import TrialFolder
from workers.workload_check.check_result import CheckFailed, about, calling
from workers.workload_check.data_checks import check_data
from workers.workload_check.model_checks import check_model
from workers.workload_check.script_checks import check_script
from workers.workload_check.settings_checks import check_settings
from workers.workload_check.training_checks import check_training
from workers.workloads import AnyWorkload, Data, LoopWorkload, ScriptWorkload, TensorWorkload


def check_workload(
    workload: AnyWorkload,
    *,
    device: torch.device,
    batch_size: int | None = None,
    entry: OptimizerEntry | None = None,
    in_steps: bool = False,
    precisions: Collection[PrecisionName] = (),
    smooths_labels: bool = False,
) -> Iterator[CheckResult]:
    """Yield what is right, noteworthy and wrong about a workload.

    It loads the data of a workload of tensors twice, builds the model a few times, and trains a few steps
    with an optimizer at its defaults; of a script it trains two epochs. After an error without whose repair
    later checks cannot run, the iterator ends.

    Args:
        workload: what to check.
        device: where to train.
        batch_size: examples in a batch; None stands for the card's.
        entry: the optimizer to train with; None stands for AdamP.
        in_steps: whether a script gets a budget of steps, instead of epochs.
        precisions: precisions beside float32 in which a study runs the model.
        smooths_labels: whether a study smooths labels.
    """
    entry = entry or load_optimizers()["adamp"]
    folder = TrialFolder()
    try:
        with calling("requirements", workload=workload.card.name):
            missing = workload.missing()
        if missing:
            yield about(type(workload), "requirements", "error", missing)
            return
        if isinstance(workload, ScriptWorkload):
            size = batch_size or workload.card.batch_size
            yield from check_script(workload, device, entry=entry, batch_size=size, in_steps=in_steps)
            return
        data: Data | None = None
        has_errors = False
        for found in check_data(workload, device) if isinstance(workload, TensorWorkload) else ():
            if isinstance(found, Data):
                data = found
            else:
                has_errors |= found.status == "error"
                yield found
        if isinstance(workload, LoopWorkload):
            workload = workload.in_folder(folder)
        size = batch_size or workload.card.batch_size
        if data is not None:
            size = min(size, len(data.train))
        for result in check_model(workload, data, device, batch_size=size):
            has_errors |= result.status == "error"
            yield result
        if has_errors:
            yield CheckResult("training", "note", "not checked, because of the errors above")
            return
        yield from check_settings(
            workload,
            data,
            device,
            batch_size=size,
            precisions=precisions,
            smooths_labels=smooths_labels,
        )
        yield from check_training(workload, data, device, entry=entry, batch_size=size)
    except CheckFailed as error:
        yield error.result
    finally:
        folder.remove()
