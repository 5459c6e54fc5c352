"""Which layers of a model are scale-invariant: the loss depends on the direction of their weights only."""

__all__ = ["ScaleInvariance", "find_scale_invariance", "with_scale_invariance"]

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from adamp._projection import decide
from studies.training_settings import TrainingSettings
from workers.pack_protocol import EpochReport, Pack
from workers.probes import weight_norm
from workers.seeding import initialisation_seed, seeded
from workers.training_tasks import training_task
from workers.trial_files import TrialFolder
from workers.workloads import Data, LoopWorkload, ModelWorkload

_log = logging.getLogger("tangent.training")
_SEED: Final = 0
_TOLERANCE: Final = 3e-4
"""The most that doubling an invariant weight w may change the loss, in parts of |w| |dL/dw|.

A normalisation's eps changes it by about 1e-5 of that, and doubling a weight that is not invariant by 2e-3 or
more, on the built-in workloads.
"""
_ROUNDING: Final = 1e-6
"""What rounding may change of the loss, in parts of it."""
_MAX_TESTED: Final = 64
"""The most weights that are tested: each takes a forward pass."""
_DELTA: Final = 0.1
"""AdamP's and SGDP's threshold by default."""

_WITHIN_S: Final = 20.0
"""How long a pack waits for it."""


@dataclass(frozen=True, kw_only=True)
class ScaleInvariance:
    """What was found of the weights of two or more dimensions that have a gradient.

    Attributes:
        layers: whether each tested weight is scale-invariant, by its name in the model.
        projected: the tested weights that AdamP with delta 0.1 would project in the first step.
        weights: how many weights there are.
    """

    layers: dict[str, bool]
    projected: tuple[str, ...]
    weights: int


def find_scale_invariance(
    workload: ModelWorkload,
    data: Data | None,
    *,
    batch_size: int,
    interval_steps: int | None,
    device: torch.device,
    within_s: float = math.inf,
) -> ScaleInvariance:
    """Return which weights of a workload's model can be doubled without a change of the loss on a batch.

    The model is untrained. The result leaves out weights that are zero and weights that hardly affect the
    loss, because doubling these shows nothing. Errors that the workload raises are not caught.

    Args:
        workload: what is trained.
        data: the data of a workload of tensors, on `device`; None for any other.
        batch_size: examples in the batch.
        interval_steps: steps of the interval that replaces an epoch of a stream; None for passes over the
            data.
        device: where to compute.
        within_s: seconds after which no more weights are tested.
    """
    with seeded(initialisation_seed(_SEED), device=torch.device("cpu")):
        model = workload.build_model()
    model.to(device).train()
    task = training_task(
        workload,
        model,
        data=data,
        seed=_SEED,
        settings=TrainingSettings(batch_size=batch_size),
        interval_steps=interval_steps,
        device=device,
    )
    with seeded(_SEED, device=device):
        batch = next(task.batches(1))

    def batch_loss() -> Tensor:
        with seeded(_SEED, device=device):
            return task.loss(batch)

    until = time.monotonic() + within_s
    loss = batch_loss()
    loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
    weights = [
        (name, weight, weight.grad)
        for name, weight in model.named_parameters()
        if weight.requires_grad and weight.ndim >= 2 and weight.grad is not None
    ]
    layers: dict[str, bool] = {}
    projected: list[str] = []
    for name, weight, gradient in weights[:_MAX_TESTED]:
        if time.monotonic() > until:
            break
        is_invariant = _is_scale_invariant(batch_loss, weight, gradient, loss=loss.item())
        if is_invariant is not None:
            layers[name] = is_invariant
        if bool(decide(weight, gradient, delta=_DELTA, eps=1e-8).projected):
            projected.append(name)
    return ScaleInvariance(layers=layers, projected=tuple(projected), weights=len(weights))


def with_scale_invariance(
    reports: Iterator[EpochReport],
    pack: Pack,
    *,
    workload: ModelWorkload,
    data: Data | None,
    device: torch.device,
) -> Iterator[EpochReport]:
    """Add to a pack's first report which layers are scale-invariant, as far as some seconds allow.

    If the test fails, the report says nothing of it, so that a later pack tries again.

    Args:
        reports: of the pack.
        pack: what is trained.
        workload: its workload, as configured for it.
        data: the data of a workload of tensors, on `device`; None for any other.
        device: where it is trained.
    """
    folder = TrialFolder()
    found: ScaleInvariance | None = None
    try:
        found = find_scale_invariance(
            workload.in_folder(folder) if isinstance(workload, LoopWorkload) else workload,
            data,
            batch_size=pack.training.batch_size,
            interval_steps=pack.interval_steps,
            device=device,
            within_s=_WITHIN_S,
        )
    # Training meets the workload's errors too, and reports them.
    except Exception as error:  # noqa: BLE001
        _log.warning("cannot find which layers are scale-invariant: %s", error)
    finally:
        folder.remove()
    if found is not None:
        for report in reports:
            yield report.model_copy(update={"scale_invariance": found.layers})
            break
    yield from reports


def _is_scale_invariant(
    batch_loss: Callable[[], Tensor], weight: nn.Parameter, gradient: Tensor, *, loss: float
) -> bool | None:
    """Return whether doubling a weight leaves the loss as it is; None if the loss hardly depends on it."""
    dependence = float(weight_norm([weight]) * weight_norm([gradient]))
    if dependence <= 10 * _ROUNDING * abs(loss):
        return None
    # Not without gradients: a task refuses a loss that has none.
    weight.data.mul_(2.0)
    doubled = batch_loss().item()
    weight.data.div_(2.0)
    return abs(doubled - loss) <= _TOLERANCE * dependence + _ROUNDING * abs(loss)
