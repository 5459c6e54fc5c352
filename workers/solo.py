"""One member trained by itself, an epoch at a time: the plain loop that every faster engine must agree with."""

__all__ = ["EpochResult", "Solo"]

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from studies.spec import ScheduleName
from workers.optimizers import OptimizerEntry, build_optimizer
from workers.pack import Member, Pack
from workers.probes import Probe, Projection, probed_steps, weight_norm, weights_of
from workers.schedules import factor
from workers.seeding import epoch_order, initialisation_seed, noise_seed, seeded
from workers.workloads import Data, Split, Workload

CHECK_EVERY = 32
"""Steps between two looks at the training loss on a device that works ahead of Python."""

EVALUATION_BATCH = 512
"""Examples evaluated at once, or the training batch where that is larger."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one member measured in an epoch; NaN and inf stand as they came, and NaN for what was not measured.

    Attributes:
        elapsed_s: training seconds of all epochs so far.
        lr: learning rate of the epoch's last step.
        train_loss: mean over the epoch's steps.
        divergence: which quantity stopped being finite, at which epoch and step; None while all is well.
    """

    elapsed_s: float
    lr: float
    train_loss: float
    validation_loss: float = math.nan
    validation_metric: float = math.nan
    weight_norm: float = math.nan
    effective_step: float = math.nan
    gradient_cosine: float = math.nan
    projected_fraction: float = math.nan
    divergence: str | None = None


class Solo:
    """A member's model, optimizer and clock.

    Members share nothing but the data, and each epoch draws from streams of the member's own: what a member does depends on nothing beside it.

    Args:
        member: the trial.
        pack: what its members share.
        workload: what is trained.
        entry: the optimizer.
        data: the workload's data, on `device`.
        device: where to train.
        check_every: steps between two looks at the training loss; each look waits for the device. By default 1 on the CPU, where nothing is
            waited for and a NaN is stopped before it reaches the weights, and 32 elsewhere.
    """

    def __init__(
        self,
        member: Member,
        *,
        pack: Pack,
        workload: Workload,
        entry: OptimizerEntry,
        data: Data,
        device: torch.device,
        check_every: int | None = None,
    ) -> None:
        self._seed = member.seed
        self._workload = workload
        self._data = data
        self._device = device
        self._check_every = check_every or (1 if device.type == "cpu" else CHECK_EVERY)
        self._batch_size = pack.batch_size
        self._steps = len(data.train) // pack.batch_size
        self._total_steps = self._steps * pack.epochs
        self._schedule: ScheduleName = "constant" if entry.card.schedule == "constant" else pack.schedule
        self._warmup_fraction = pack.warmup_fraction
        # Built on the CPU whatever the device, so that a seed means the same start everywhere.
        with seeded(initialisation_seed(member.seed), device=torch.device("cpu")):
            self._model = workload.build_model()
        self._model.to(device)
        self._optimizer = build_optimizer(entry, self._model, member.parameters, decay_1d=pack.decay_1d)
        self._initial_lrs = [float(group["initial_lr"]) for group in self._optimizer.param_groups]
        self._weights = weights_of(self._model)
        self._probe = Probe(self._weights, projection=_projection(entry, member))
        self._elapsed_s = 0.0

    def train_epoch(self, epoch: int) -> EpochResult:
        """Return what one more epoch of training, counted from 1, and the evaluation after it showed.

        The examples that do not fill a last batch sit the epoch out, so that every step has the same batch size.
        """
        with seeded(noise_seed(self._seed, epoch=epoch), device=self._device):
            self._synchronize()
            started = time.perf_counter()
            order = epoch_order(self._seed, epoch=epoch, examples=len(self._data.train))[: self._steps * self._batch_size]
            batches = order.to(self._device).view(self._steps, self._batch_size).unbind()
            losses = self._train(batches, done=(epoch - 1) * self._steps)
            self._synchronize()
            self._elapsed_s += time.perf_counter() - started
            result = EpochResult(elapsed_s=self._elapsed_s, lr=float(self._optimizer.param_groups[0]["lr"]), train_loss=sum(losses) / len(losses))
            for step, loss in enumerate(losses, start=1):
                if not math.isfinite(loss):
                    return replace(result, divergence=self._blame(f"training loss became {loss} at epoch {epoch}, step {step}"))
            return self._evaluated(result, epoch=epoch)

    def test(self) -> float:
        """Return the test metric of the weights that the last epoch's validation saw; not finite when the metric is not."""
        return self._evaluate(self._data.test)[1].item()

    def _train(self, batches: Sequence[Tensor], *, done: int) -> list[float]:
        """Return the losses of an epoch's steps, `done` steps having gone before; they end soon after one that is not finite."""
        self._to_training()
        train, model, optimizer, workload, probe = self._data.train, self._model, self._optimizer, self._workload, self._probe
        probed = probed_steps(self._steps)
        losses: list[float] = []
        unread: list[Tensor] = []
        for step, rows in enumerate(batches):
            if self._schedule != "constant":
                self._set_lr(done + step)
            loss = workload.loss(model(train.inputs.index_select(0, rows)), train.targets.index_select(0, rows))
            unread.append(loss.detach())
            if len(unread) == self._check_every or step == self._steps - 1:
                read = _floats(torch.stack(unread))
                unread.clear()
                losses += read
                if not all(map(math.isfinite, read)):
                    break
            loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
            if step in probed:
                probe.before()
                optimizer.step()
                probe.after()
            else:
                optimizer.step()
            optimizer.zero_grad()
        return losses

    def _evaluated(self, result: EpochResult, *, epoch: int) -> EpochResult:
        self._to_evaluation()
        # One transfer for all of an epoch's numbers; a model without such weights has its norm and probes on the CPU.
        numbers = [self._evaluate(self._data.validation), weight_norm(self._weights).unsqueeze(0), self._probe.read()]
        validation_loss, validation_metric, norm, effective_step, gradient_cosine, projected_fraction = _floats(
            torch.cat([part.to(self._device) for part in numbers])
        )
        result = replace(
            result,
            validation_loss=validation_loss,
            validation_metric=validation_metric,
            weight_norm=norm,
            effective_step=effective_step,
            gradient_cosine=gradient_cosine,
            projected_fraction=projected_fraction,
        )
        for name, value in (("weight norm", norm), ("validation loss", validation_loss), ("validation metric", validation_metric)):
            if not math.isfinite(value):
                return replace(result, divergence=self._blame(f"{name} became {value} at epoch {epoch}, after its last step"))
        return result

    @torch.no_grad()
    def _evaluate(self, split: Split) -> Tensor:
        """Return the mean loss and the mean metric over a split, [2]; the model must be in evaluation mode."""
        size = max(EVALUATION_BATCH, self._batch_size)
        sums: list[Tensor] = []
        for inputs, targets in zip(torch.split(split.inputs, size), torch.split(split.targets, size), strict=True):
            outputs = self._model(inputs)
            sums.append(torch.stack([self._workload.loss(outputs, targets) * len(inputs), self._workload.metric_sum(outputs, targets)]))
        return torch.stack(sums).sum(dim=0) / len(split)

    def _to_training(self) -> None:
        self._model.train()
        # Schedule-free optimizers train at one point and are judged at another; their train() and eval() move the weights between the two.
        if callable(train := getattr(self._optimizer, "train", None)):
            train()

    def _to_evaluation(self) -> None:
        self._model.eval()
        # BatchNorm keeps the statistics of the point trained at. schedule_free's README would renew them with some forward passes; on
        # digits-cnn that moved no validation loss by more than 0.005 after the first epoch, at three learning rates.
        if callable(evaluate := getattr(self._optimizer, "eval", None)):
            evaluate()

    def _set_lr(self, step: int) -> None:
        scale = factor(self._schedule, step=step, total_steps=self._total_steps, warmup_fraction=self._warmup_fraction)
        for group, lr in zip(self._optimizer.param_groups, self._initial_lrs, strict=True):
            group["lr"] = lr * scale

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _blame(self, what: str) -> str:
        return f"{what}; lr {self._initial_lrs[0]:g} may be too high"


def _floats(tensor: Tensor) -> list[float]:
    return cast("list[float]", tensor.tolist())  # pyright: ignore[reportUnknownMemberType]  # torch cannot know the depth of the list


def _projection(entry: OptimizerEntry, member: Member) -> Projection | None:
    """Return when this member's optimizer projects, or None where it never does: those that can are those that have a `delta`."""
    if entry.card.hyperparameter("delta") is None:
        return None
    return Projection(delta=float(member.parameters["delta"]), eps=float(member.parameters.get("eps", 1e-8)))
