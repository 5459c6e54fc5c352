"""One trial of Ray Tune alone: a function trainable like a user's, with ready-made optimizers.

It has its own module so that Ray's workers import it and keep the data between trials if Tune reuses them.
"""

__all__ = ["train"]

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ray import tune
from torch import nn

from studies.catalog import OptimizerCard
from studies.recipe import arguments
from studies.space import Parameters
from workers.workloads import Data, Split, TensorWorkload, builtin_workloads

_EVALUATION_BATCH = 512


def _optimizer(card: OptimizerCard, model: nn.Module, parameters: Parameters) -> torch.optim.Optimizer:
    """Return the optimizer that a user of torch and pytorch_optimizer would choose."""
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
    }
    if card.name not in makers:
        import pytorch_optimizer

        makers |= {"adamp": pytorch_optimizer.AdamP, "sgdp": pytorch_optimizer.SGDP}
    return makers[card.name](model.parameters(), **arguments(card, parameters))


@functools.cache
def _loaded(name: str) -> tuple[TensorWorkload, Data]:
    workload = builtin_workloads()[name]
    return workload, workload.load_data(torch.device("cpu"))


@torch.no_grad()
def _evaluate(workload: TensorWorkload, model: nn.Module, split: Split) -> float:
    model.eval()
    batches = zip(
        torch.split(split.inputs, _EVALUATION_BATCH),
        torch.split(split.targets, _EVALUATION_BATCH),
        strict=True,
    )
    return sum(workload.metric_sum(model(inputs), targets).item() for inputs, targets in batches) / len(split)


def train(
    config: Mapping[str, Any],
    *,
    card: OptimizerCard,
    workload_name: str,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """Train one configuration and report every epoch; this is the function trainable."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    workload, data = _loaded(workload_name)
    model = workload.build_model()
    optimizer = _optimizer(card, model, dict(config))
    steps = len(data.train) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * epochs)
    worst = 0.0 if workload.card.direction == "maximize" else math.inf
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
            tune.report({"validation": worst})
            return
        measured = {"train_loss": total / steps, "validation": _evaluate(workload, model, data.validation)}
        if epoch == epochs:
            measured["test"] = _evaluate(workload, model, data.test)
        tune.report(measured)
