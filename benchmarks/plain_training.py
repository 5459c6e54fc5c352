"""The training of one trial as a user without Tangent writes it: the model, data and schedule of a workload.

The other sides of `throughput.py` share it. It uses ready-made optimizers, and the faster option where torch
has one: the data stays in memory as one tensor and is indexed without a DataLoader, and torch's optimizers
are fused.
"""

__all__ = ["loaded", "trained"]

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import nn

from studies.catalog import OptimizerCard
from studies.recipe import arguments
from studies.space import Parameters
from workers.workloads import Data, Split, TensorWorkload, builtin_tensor_workloads

_EVALUATION_BATCH = 512


@functools.cache
def loaded(name: str) -> tuple[TensorWorkload, Data]:
    """Return a workload and its data, which a process loads once."""
    workload = builtin_tensor_workloads()[name]
    return workload, workload.load_data(torch.device("cpu"))


def _optimizer(card: OptimizerCard, model: nn.Module, parameters: Parameters) -> torch.optim.Optimizer:
    """Return the optimizer that a user of torch and pytorch_optimizer would choose."""
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": functools.partial(torch.optim.AdamW, fused=True),
        "sgd": functools.partial(torch.optim.SGD, fused=True),
    }
    if card.name not in makers:
        import pytorch_optimizer

        makers |= {"adamp": pytorch_optimizer.AdamP, "sgdp": pytorch_optimizer.SGDP}
    return makers[card.name](model.parameters(), **arguments(card, parameters))


@torch.no_grad()
def _evaluate(workload: TensorWorkload, model: nn.Module, split: Split) -> float:
    model.eval()
    batches = zip(
        torch.split(split.inputs, _EVALUATION_BATCH),
        torch.split(split.targets, _EVALUATION_BATCH),
        strict=True,
    )
    return sum(workload.metric_sum(model(inputs), targets).item() for inputs, targets in batches) / len(split)


def trained(
    parameters: Parameters,
    *,
    card: OptimizerCard,
    workload_name: str,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Iterator[dict[str, float]]:
    """Train one configuration and yield the metrics of each epoch; end early if the loss is not finite."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    workload, data = loaded(workload_name)
    model = workload.build_model()
    optimizer = _optimizer(card, model, parameters)
    steps = len(data.train) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * epochs)
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(data.train))[: steps * batch_size].view(steps, batch_size).unbind():
            optimizer.zero_grad()
            loss = workload.loss(model(data.train.inputs[rows]), data.train.targets[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if not math.isfinite(total):
            return
        measured = {"train_loss": total / steps, "validation": _evaluate(workload, model, data.validation)}
        if epoch == epochs:
            measured["test"] = _evaluate(workload, model, data.test)
        yield measured
