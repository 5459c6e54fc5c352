"""One trial trained by itself, an epoch at a time: the plain loop that faster engines must agree with."""

__all__ = ["CHECK_EVERY", "Solo", "projection_of", "restore_optimizer"]

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from studies.layers import MeasuredLayers
from studies.space import Parameters
from workers.checkpoints import CheckpointUnusable
from workers.memory import is_out_of_memory
from workers.named_metrics import evaluated_metrics
from workers.optimizers import OptimizerEntry, build_optimizer
from workers.pack_protocol import Member, Pack
from workers.probes import (
    Probe,
    Projection,
    layer_norms,
    measured_layers,
    names_of,
    probed_steps,
    weight_norm,
    weights_of,
)
from workers.results import EpochResult, epoch_result
from workers.schedules import factor, scheduled
from workers.seeding import GeneratorStates, initialisation_seed, noise_seed, seeded
from workers.sharded_state import sharded_state
from workers.signs_of_life import note
from workers.tensor_states import on_cpu
from workers.training_tasks import training_task
from workers.trial_files import TrialFolder
from workers.trial_processes import trial_processes
from workers.updates import Update
from workers.workloads import Data, LoopWorkload, ModelWorkload, SplitName, grouped_parameters

CHECK_EVERY = 32
"""Steps between two checks of the training loss on a device that runs asynchronously."""


class Solo:
    """The model, optimizer and clock of one member of a pack.

    Members share nothing but the data, and each epoch draws from random streams of the member's own, so a
    member's numbers depend on nothing beside it.

    Args:
        member: the trial.
        pack: the settings that its members share.
        workload: what to train.
        entry: the optimizer.
        data: the data of a workload of tensors, on `device`; None for any other.
        device: where to train.
        state: what `checkpoint` returned after the last epoch trained; None before the first.
        check_every: steps between two checks of the training loss; each check waits for the device. By
            default 1 on the CPU, where there is nothing to wait for and a NaN is caught before it reaches the
            weights, and 32 elsewhere.

    Attributes:
        model: the member's own model.
        folder: the trial's own folder; None for a workload of tensors.
        clock: returns the seconds by which training is timed; those on the wall by default.

    Raises:
        CheckpointUnusable: the state does not fit this model and optimizer.
    """

    def __init__(
        self,
        member: Member,
        *,
        pack: Pack,
        workload: ModelWorkload,
        entry: OptimizerEntry,
        data: Data | None,
        device: torch.device,
        state: Mapping[str, Any] | None = None,
        check_every: int | None = None,
    ) -> None:
        self._processes = trial_processes()
        self._trial_ids, self._seed = (member.trial_id,), member.seed
        self._device = device
        self._check_every = check_every or (1 if device.type == "cpu" else CHECK_EVERY)
        settings = pack.settings_of(member)
        self.folder = TrialFolder() if isinstance(workload, LoopWorkload) else None
        if isinstance(workload, LoopWorkload) and self.folder is not None:
            workload = workload.in_folder(self.folder)
        self._settings = scheduled(settings, entry.card)
        self._has_schedule = self._settings.schedule != "constant" or self._settings.warmup > 0
        # Built on the CPU so that a seed gives the same initial values on every device.
        with seeded(initialisation_seed(member.seed), device=torch.device("cpu")):
            self.model = workload.build_model()
        self.model.to(device)
        self._metrics = evaluated_metrics(workload, pack.objective_metric, pack.training)
        self._task = training_task(
            workload,
            self.model,
            data=data,
            seed=member.seed,
            settings=settings,
            interval_steps=pack.interval_steps,
            device=device,
            objective=self._metrics.once.names[0],
        )
        self._total_steps = self._task.steps * pack.epochs
        self._is_sharded = pack.shard_optimizer and self._processes.size > 1
        if self._is_sharded:
            entry = sharded_state(entry)
        self._optimizer = build_optimizer(
            entry,
            self.model,
            member.parameters,
            decay_1d=settings.decay_1d,
            groups=grouped_parameters(workload, self.model, member.parameters),
        )
        self._update = Update(
            settings, model=self.model, optimizer=self._optimizer, device=device, needs=entry.card.needs
        )
        self._initial_lrs = [float(group["initial_lr"]) for group in self._optimizer.param_groups]
        self._lr = float(member.parameters.get("lr", self._initial_lrs[0]))
        # An optimizer may have groups with other learning rates, derived from the study's or fixed.
        self._lr_group = self._initial_lrs.index(self._lr) if self._lr in self._initial_lrs else 0
        self._weights = weights_of(self.model)
        self._probe = Probe(
            self._weights, projection=projection_of(entry, member.parameters), optimizer=self._optimizer
        )
        self._layers = names_of(self.model) if member.measures_layers else []
        self.clock: Callable[[], float] = time.perf_counter
        self._elapsed_s = 0.0
        self._epoch = pack.from_epoch
        self._collected_epoch: int | None = None
        if state is not None:
            self._resume(state)

    def train_epoch(self, epoch: int) -> EpochResult:
        """Train one more epoch, counted from 1, evaluate, and return the result."""
        self._epoch = epoch
        with seeded(noise_seed(self._seed, epoch=epoch), device=self._device):
            is_first = bool(self._layers) and epoch == 1
            initial_norms = _floats(layer_norms(self._weights)) if is_first else []
            self._synchronize()
            started = self.clock()
            losses = self._train(epoch)
            self._synchronize()
            self._elapsed_s += self.clock() - started
            numbers, layers = (
                self._measure(epoch, initial_norms) if all(map(math.isfinite, losses)) else (None, None)
            )
            return epoch_result(
                losses,
                numbers,
                epoch=epoch,
                elapsed_s=self._elapsed_s,
                lr=float(self._optimizer.param_groups[self._lr_group]["lr"]),
                initial_lr=self._lr,
                metrics=self._metrics.every,
                has_validation_loss=self._task.has_validation_loss,
                layers=layers,
            )

    def test(self) -> list[float]:
        """Return the test metrics after the last epoch, the objective first; they may not be finite."""
        noise = noise_seed(self._seed, epoch=self._epoch)
        with seeded(noise, device=self._device):
            return _floats(self._evaluate("test")[1:])

    def checkpoint(self) -> dict[str, Any]:
        """Return the state after the epoch just trained, which the next epoch changes in place.

        It holds the model's and the optimizer's `state_dict`, the average weights and the scaler, the
        position in a stream, and the clock. Training resumes from it bit for bit as if it had never stopped.
        Non-persistent buffers are not in it. In a trial of several processes all must call this, and only
        the first one's state is whole.
        """
        if self._is_sharded:
            # Saving again after a failure must not wait for the others again.
            if self._collected_epoch != self._epoch:
                cast("Any", self._optimizer).consolidate_state_dict(to=0)
                self._collected_epoch = self._epoch
            if not self._processes.is_main:
                return {}
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "update": self._update.state_dict(),
            "data": self._task.state_dict(),
            "elapsed_s": self._elapsed_s,
        }

    def weights(self) -> dict[str, Any]:
        """Return the model's `state_dict` as it was evaluated after the epoch just trained.

        It is a copy only if average weights were evaluated.
        """
        if not (self._update.has_average and self._metrics.counts_average):
            return self.model.state_dict()
        with self._update.evaluated(average=True):
            return on_cpu(self.model.state_dict())

    def _resume(self, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            restore_optimizer(self._optimizer, state["optimizer"])
            # Checkpoints of earlier versions have neither.
            self._update.load_state_dict(state.get("update", {}))
            self._task.load_state_dict(state.get("data", {}))
            self._elapsed_s = float(state["elapsed_s"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointUnusable(
                f"expected the state of a trial with this model and optimizer, got one that does not fit: "
                f"{error}"
            ) from error

    def _train(self, epoch: int) -> list[float]:
        """Train an epoch and return its losses, which end soon after one that is not finite."""
        self._set_training_mode()
        task, update, probe = self._task, self._update, self._probe
        done = (epoch - 1) * task.steps
        probed = probed_steps(task.steps)
        losses: list[float] = []
        unread: list[Tensor] = []
        is_due = False
        batches = task.batches(epoch)
        for step in range(task.steps):
            if self._has_schedule:
                self._set_lr(done + step)
            loss, again = self._backward(batches)
            unread.append(loss)
            if len(unread) == self._check_every or step == task.steps - 1:
                # A stack of one tensor would be a copy in every step.
                together = unread[0].reshape(1) if len(unread) == 1 else torch.stack(unread)
                read = _floats(self._processes.mean(together))
                unread.clear()
                losses += read
                if not all(map(math.isfinite, read)):
                    break
            update.prepare()
            is_due |= step in probed
            # In place of a step that float16 leaves out, the next one is probed.
            if is_due and update.has_finite_gradients():
                is_due = False
                probe.before()
                update.step(again)
                probe.after()
            else:
                update.step(again)
            note(self._trial_ids, step + 1)
        return losses

    def _backward(self, batches: Iterator[Any]) -> tuple[Tensor, Callable[[], Tensor] | None]:
        """Add the gradients of the next step's mean loss to the weights' own.

        Returns:
            The loss, detached, and what does the same once more; None if the optimizer does not need it.
        """
        if self._update.needs != "closure":
            return self._accumulate(batches), None
        given = [next(batches) for _ in range(self._settings.accumulation_steps)]
        draws = GeneratorStates.current(self._device)
        return self._accumulate(iter(given)), partial(self._again, given, draws)

    def _again(self, batches: Sequence[Any], draws: GeneratorStates) -> Tensor:
        """Do what `_accumulate` did with these batches, with the same random draws of the model."""
        now = GeneratorStates.current(self._device)
        draws.restore()
        try:
            return self._accumulate(iter(batches))
        finally:
            now.restore()

    def _accumulate(self, batches: Iterator[Any]) -> Tensor:
        """Add the gradients of a step's mean loss to the weights' own, and return it detached."""
        count = self._settings.accumulation_steps
        losses: list[Tensor] = []
        for _ in range(count):
            with self._update.precision():
                loss = self._task.loss(next(batches))
            losses.append(loss.detach())
            self._update.backward(loss if count == 1 else loss / count)
        return losses[0] if count == 1 else torch.stack(losses).mean()

    def _measure(
        self, epoch: int, initial_norms: Sequence[float]
    ) -> tuple[list[float], MeasuredLayers | None]:
        """Return the numbers of `epoch_result` and, if that was asked for, what each layer measured."""
        self._set_evaluation_mode()
        # One transfer for all of an epoch's numbers. A model without weights of two or more dimensions has
        # its norm and probes on the CPU.
        parts = [
            self._evaluate("validation"),
            weight_norm(self._weights).unsqueeze(0),
            *([layer_norms(self._weights)] if self._layers else []),
            self._probe.pending(),
        ]
        numbers = _floats(torch.cat([part.to(self._device) for part in parts]))
        end = len(numbers) - len(parts[-1])
        probed, before = numbers[end:], end - len(self._layers)
        found = numbers[:before] + self._probe.means(probed)
        if not self._layers:
            return found, None
        layers = measured_layers(
            self._layers,
            epoch=epoch,
            norms=numbers[before:end],
            means=self._probe.layer_means(probed),
            initial_norms=initial_norms,
        )
        return found, layers

    def _evaluate(self, split: SplitName) -> Tensor:
        """Return the loss and all metrics of a split."""
        metrics, update = self._metrics, self._update
        note(self._trial_ids, self._task.steps)
        with update.evaluated(average=metrics.counts_average):
            counted = self._task.evaluate(split)
        if not metrics.has_both:
            return counted
        if not update.has_average:
            return metrics.joined(counted, counted)
        with update.evaluated(average=not metrics.counts_average):
            return metrics.joined(counted, self._task.evaluate(split))

    def _set_training_mode(self) -> None:
        self.model.train()
        # Schedule-free optimizers train at one point and evaluate at another; their train() and eval() move
        # the weights between the two.
        if callable(train := getattr(self._optimizer, "train", None)):
            train()

    def _set_evaluation_mode(self) -> None:
        self.model.eval()
        # BatchNorm keeps the statistics of the training point. schedule_free's README recommends recomputing
        # them with some forward passes; on digits-cnn, at three learning rates, that changed no validation
        # loss by more than 0.005 after the first epoch.
        if callable(evaluate := getattr(self._optimizer, "eval", None)):
            evaluate()

    def _set_lr(self, step: int) -> None:
        scale = factor(self._settings, step=step, total_steps=self._total_steps)
        for group, lr in zip(self._optimizer.param_groups, self._initial_lrs, strict=True):
            group["lr"] = lr * scale

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _floats(tensor: Tensor) -> list[float]:
    # Torch cannot know the depth of the list.
    return cast("list[float]", tensor.tolist())  # pyright: ignore[reportUnknownMemberType]


def restore_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Load an optimizer's state so that training resumes exactly."""
    # A copy: optimizers keep the objects that they load, and a state may be loaded twice.
    saved = on_cpu(saved)
    optimizer.load_state_dict(cast("dict[str, Any]", saved))
    if hasattr(optimizer, "consolidate_state_dict"):
        # A sharded one has copied each state as it was saved.
        return
    # torch casts loaded state to the weight's dtype, even counters that some optimizers keep in float32 for
    # all weights (NAdam, QHAdam).
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in saved.get("state", {}).items():
        own = optimizer.state[parameters[index]]
        for name, value in entries.items():
            if isinstance(value, Tensor) and own[name].dtype != value.dtype:
                own[name] = value.to(own[name].device)


def projection_of(entry: OptimizerEntry, parameters: Parameters) -> Projection | None:
    """Return the projection settings of a trial's optimizer, or None if it never projects (no `delta`)."""
    if entry.card.hyperparameter("delta") is None:
        return None
    return Projection(delta=float(parameters["delta"]), eps=float(parameters.get("eps", 1e-8)))
