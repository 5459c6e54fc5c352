"""One stack: members of a pack that train side by side, in the same way as one in `workers.solo.Solo`."""

__all__ = ["Stack"]

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor

from studies.layers import MeasuredLayers
from workers.optimizers import build_optimizer
from workers.optimizers.batched.optimizer import hyperparameters_of
from workers.pack_protocol import Member
from workers.probes import ProbedLayers, measured_layers, probed_steps
from workers.results import EpochResult, epoch_result
from workers.schedules import factor, scheduled
from workers.seeding import generator_states, noise_seed, seeded
from workers.signs_of_life import note
from workers.solo import CHECK_EVERY
from workers.stacked.clipping import Clipping
from workers.stacked.compiled import CompiledStep
from workers.stacked.forward import Forward
from workers.stacked.member_draws import MemberDraws
from workers.stacked.plan import StackPlan
from workers.stacked.probes import StackedProbe, layer_norms, weight_norms
from workers.stacked.rows import Rows
from workers.tensor_states import on_cpu


class Stack:
    """K members and their rows.

    Args:
        members: the trials, all of them members of the plan's pack.
        plan: the plan of the pack.
        rows: their state, which training changes in place once it is on the plan's device.
        done: epochs already trained.
        padding: number of members at the end that only fill the width of a compiled step; they have no
            results.

    Attributes:
        members: the given trials.
        plan: the given plan.
        rows: the current state; on the plan's device from training or testing until `park`.
        done: epochs trained so far.
        size: number of members without the padding.
        is_paired: whether the members share one seed, and so their data and all random numbers.
        is_random: whether the last epoch drew random numbers; None before the first.
        draws_together: whether its members drew any of them together; None before the first epoch.
        is_plain: whether a step is that of the optimizer alone, on one batch.
        compiled_step: replaces the plain step, except at probed steps; None if there is none.
        clock: returns the seconds by which training is timed; those on the wall by default.
    """

    def __init__(
        self, members: Sequence[Member], *, plan: StackPlan, rows: Rows, done: int, padding: int = 0
    ) -> None:
        self.members = tuple(members)
        self.plan, self.done = plan, done
        self._set_rows(rows)
        self.is_paired = len({member.seed for member in members}) == 1
        self.is_random: bool | None = None
        self.draws_together: bool | None = None
        self._draws: MemberDraws | None = None
        self.compiled_step: CompiledStep | None = None
        self.clock: Callable[[], float] = time.perf_counter
        self.size = len(self.members) - padding
        self._forward = Forward(plan, is_paired=self.is_paired)
        self._h = hyperparameters_of(plan.entry.card, [member.parameters for member in members])
        self._optimizer = plan.optimizer(self._h, plan.layout)
        projection = (
            {name: self._h[name].to(plan.device, plan.dtype) for name in ("delta", "eps")}
            if plan.optimizer.can_project
            else None
        )
        has_layers = bool(plan.layout.matrices) and any(member.measures_layers for member in members)
        self._layers = [slot.name for slot in plan.layout.matrices] if has_layers else []
        self._probe = StackedProbe(plan.layout, projection=projection, has_layers=has_layers)
        self._settings = [scheduled(plan.pack.settings_of(member), plan.entry.card) for member in members]
        self._clip = Clipping(self._settings, device=plan.device, dtype=plan.dtype)
        self.is_plain = not self._clip.is_on and not plan.has_average and plan.order.accumulation_steps == 1
        # Rows without a decay of their own move by the whole difference: their average is their weights.
        moved = torch.tensor([1 - each.ema_decay for each in self._settings], dtype=torch.float64)
        self._moved = moved.to(plan.device, plan.dtype)[:, None]

    @classmethod
    def initial(cls, plan: StackPlan) -> "Stack":
        """Return a stack of all members of the plan's pack before their first step."""
        members = plan.pack.members
        return cls(members, plan=plan, rows=Rows.initial(members, plan), done=0)

    def train_epoch(self, epoch: int) -> list[EpochResult]:
        """Train one more epoch, counted from 1, evaluate, and return each member's result."""
        plan = self.plan
        self._set_rows(self.rows.to(plan.device))
        rows = self.rows
        with seeded(noise_seed(self.members[0].seed, epoch=epoch), device=plan.device):
            before = generator_states(plan.device)
            draws = self._draws = (
                None
                if self.is_paired
                else MemberDraws([noise_seed(member.seed, epoch=epoch) for member in self.members])
            )
            # Before the first step.
            initial = [layer_norms(rows.weights, plan.layout)] if self._layers and epoch == 1 else []
            self._synchronize()
            started = self.clock()
            factors = self._factors(epoch)
            losses = self._train(epoch, factors)
            self._synchronize()
            rows.elapsed_s.add_((self.clock() - started) / self.size)
            self.draws_together = before != generator_states(plan.device)
            self.is_random = self.draws_together or (draws is not None and draws.has_drawn)
            self.done = epoch
            plan.template.eval()
            numbers = [
                self._evaluate("validation"),
                weight_norms(self._weights.detach(), plan.layout).unsqueeze(0),
                self._probe.read(self._weights),
                *([layer_norms(self._weights.detach(), plan.layout)] if self._layers else []),
                *initial,
            ]
            measured = _lists(torch.cat(numbers).T)
        end = len(numbers[0]) + 4
        results: list[EpochResult] = []
        clocks = _lists(torch.stack([rows.elapsed_s, self._h["lr"], factors[-1]], dim=1))
        for member, member_losses, member_numbers, (elapsed_s, initial_lr, scale) in zip(
            self.members, _lists(losses.T), measured, clocks, strict=True
        ):
            results.append(
                epoch_result(
                    member_losses,
                    member_numbers[:end],
                    epoch=epoch,
                    elapsed_s=elapsed_s,
                    lr=initial_lr * scale,
                    initial_lr=initial_lr,
                    metrics=plan.metrics.every,
                    layers=self._measured_layers(epoch, member_numbers[end:])
                    if self._layers and member.measures_layers
                    else None,
                )
            )
        return results[: self.size]

    def _measured_layers(self, epoch: int, numbers: Sequence[float]) -> MeasuredLayers:
        """Return what a member's layers measured, from the numbers that follow those of all its weights."""
        count = len(self._layers)
        means, shares = numbers[: 2 * count], numbers[2 * count : 4 * count]
        if not self.plan.optimizer.can_project:
            shares = ()
        norms = numbers[2 * count + len(shares) :]
        return measured_layers(
            self._layers,
            epoch=epoch,
            norms=norms[:count],
            means=ProbedLayers(
                effective_step=means[:count],
                angle=means[count:],
                by_channel=shares[:count],
                as_layer=shares[count:],
            ),
            initial_norms=norms[count:],
        )

    def test(self) -> list[list[float]]:
        """Return each member's test metrics after the epoch just trained, the objective first."""
        self._set_rows(self.rows.to(self.plan.device))
        with seeded(noise_seed(self.members[0].seed, epoch=self.done), device=self.plan.device):
            return _lists(self._evaluate("test")[1:].T)[: self.size]

    def park(self) -> None:
        """Free the device's memory until the next epoch or test."""
        self._set_rows(self.rows.to(torch.device("cpu")))

    def select(self, rows: Sequence[int], *, width: int | None = None) -> "Stack":
        """Return a stack of copies of some members, padded to a width with copies of the first."""
        padding = max(0, (width or 0) - len(rows))
        chosen = [*rows, *([rows[0]] * padding)]
        return Stack(
            [self.members[row] for row in chosen],
            plan=self.plan,
            rows=self.rows.select(chosen),
            done=self.done,
            padding=padding,
        )

    def weights(self, row: int) -> dict[str, Tensor]:
        """Return the `state_dict` of a member's model as it was evaluated after the epoch just trained."""
        return self._state_dict(row, self._weights_for(average=self.plan.metrics.counts_average))

    def _weights_for(self, *, average: bool) -> Tensor:
        """Return the weights or, if asked for and any member has them, their average, [K, P]."""
        of_members = self.rows.average if average else None
        return self._weights.detach() if of_members is None else of_members

    def _state_dict(self, row: int, weights: Tensor) -> dict[str, Tensor]:
        """Return the `state_dict` of a member's model with some weights [K, P], on the CPU."""
        plan = self.plan
        pieces = {
            name: on_cpu(piece[row])
            for name, piece in {**plan.layout.pieces(weights), **self.rows.buffers}.items()
        }
        return {name: pieces[first] for name, first in plan.state_names.items()}

    def checkpoint(self, row: int) -> dict[str, Any]:
        """Return a member's state after the epoch just trained, in the form of `Solo.checkpoint`."""
        plan, rows, done = self.plan, self.rows, self.done * self.plan.steps
        moments = {name: plan.layout.pieces(flat) for name, flat in rows.moments.items()}
        own = build_optimizer(
            plan.entry, plan.template, self.members[row].parameters, decay_1d=plan.pack.training.decay_1d
        )
        groups = cast("list[dict[str, Any]]", own.state_dict()["param_groups"])
        scale = float(self._factors(self.done)[-1, row])
        for group in groups:
            group.update(lr=group["lr"] * scale, **self._optimizer.saved_group(done=done))
        entries = [
            self._optimizer.saved(
                {moment: on_cpu(parts[name][row]) for moment, parts in moments.items()}, member=row, done=done
            )
            for name in plan.trained_names
        ]
        average = (
            {}
            if rows.average is None or self._settings[row].ema_decay == 0
            else {
                "average": {
                    name: on_cpu(piece[row]) for name, piece in plan.layout.pieces(rows.average).items()
                }
            }
        )
        return {
            "model": self._state_dict(row, self._weights.detach()),
            "optimizer": {
                "state": {index: entry for index, entry in enumerate(entries) if entry},
                "param_groups": groups,
            },
            "update": average,
            "data": {},
            "elapsed_s": float(rows.elapsed_s[row]),
        }

    def example(self) -> tuple[Any, ...]:
        """Return the arguments of a compiled step of this stack, except the coefficients."""
        rows, train = self._batches(self.done)[0], self.plan.data.train
        return (
            self._weights.detach(),
            self.rows.moments,
            self.rows.buffers,
            _gathered(train.inputs, rows),
            _gathered(train.targets, rows),
        )

    def _set_rows(self, rows: Rows) -> None:
        self.rows = rows
        self._weights = rows.weights.requires_grad_()

    def _train(self, epoch: int, factors: Tensor) -> Tensor:
        """Train an epoch and return its losses [steps, K]; stop early once no member's loss is finite."""
        plan = self.plan
        plan.template.train()
        train, probed = plan.data.train, probed_steps(plan.steps)
        names, tables = self._tables(epoch, factors)
        losses: list[Tensor] = []
        trial_ids = [member.trial_id for member in self.members]
        batches = iter(self._batches(epoch))
        for step, table in enumerate(tables):
            if self.compiled_step is not None and step not in probed:
                examples = next(batches)
                inputs, targets = _gathered(train.inputs, examples), _gathered(train.targets, examples)
                weights = self._weights.detach()
                rows = self.rows
                losses.append(self.compiled_step(weights, rows.moments, rows.buffers, inputs, targets, table))
            else:
                loss, grads = self._gradients(batches)
                self._clip.apply(grads)
                self._step(grads, dict(zip(names, table.unbind(), strict=True)), is_probed=step in probed)
                self._move_average(is_first=epoch == 1 and step == 0)
                losses.append(loss)
            note(trial_ids, step + 1)
            if step % CHECK_EVERY == CHECK_EVERY - 1 and not bool(losses[-1].isfinite().any()):
                break
        return torch.stack(losses)

    def _gradients(self, batches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Return each member's mean loss over the next step's batches, [K], and its gradients, [K, P]."""
        train, count = self.plan.data.train, self.plan.order.accumulation_steps
        losses: list[Tensor] = []
        grads: Tensor | None = None
        for examples in islice(batches, count):
            inputs, targets = _gathered(train.inputs, examples), _gathered(train.targets, examples)
            loss = self._forward.losses(self._weights, self.rows.buffers, inputs, targets, draws=self._draws)
            if self._draws is not None and not self._draws.has_drawn:
                # The mode costs time in every operation of a model that needs none.
                self._draws = None
            # A member's loss depends only on its own row, so the gradient of the sum contains each member's
            # gradient.
            [found] = torch.autograd.grad(loss.sum() if count == 1 else loss.sum() / count, self._weights)
            grads = found if grads is None else grads.add_(found)
            losses.append(loss.detach())
        assert grads is not None, "a step has a batch"
        return losses[0] if count == 1 else torch.stack(losses).mean(dim=0), grads

    @torch.no_grad()
    def _move_average(self, *, is_first: bool) -> None:
        average = self.rows.average
        if average is not None and is_first:
            average.copy_(self._weights)
        elif average is not None:
            average.lerp_(self._weights.detach(), self._moved)

    @torch.no_grad()
    def _step(self, grads: Tensor, coefficients: dict[str, Tensor], *, is_probed: bool) -> None:
        weights = self._weights.detach()
        if is_probed:
            self._probe.before(weights, grads)
        self._optimizer.step(weights, grads, self.rows.moments, coefficients)
        if is_probed:
            self._probe.after(weights)

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the indices of each batch's examples, int64 [B] if the members are paired, else [K, B]."""
        plan = self.plan
        seeds = list(dict.fromkeys(member.seed for member in self.members))
        orders = {seed: plan.order.rows(seed, epoch=epoch) for seed in seeds}
        if self.is_paired:
            return orders[seeds[0]].to(plan.device).unbind()
        each = torch.stack([orders[member.seed] for member in self.members]).to(plan.device)
        return each.unbind(dim=1)

    def _tables(self, epoch: int, factors: Tensor) -> tuple[list[str], tuple[Tensor, ...]]:
        """Return the names of the coefficients, and for each step a tensor of them, [names, K, 1]."""
        steps = self.plan.steps
        lr = factors * self._h["lr"]
        coefficients = self._optimizer.coefficients(lr, done=(epoch - 1) * steps)
        table = torch.stack(
            [numbers.expand_as(lr) for numbers in coefficients.values()], dim=1
        )  # [steps, names, K]
        return list(coefficients), table.to(self.plan.device, self.plan.dtype).unsqueeze(3).unbind()

    def _factors(self, epoch: int) -> Tensor:
        """Return the schedule's factor at each step of an epoch for each member, float64 [steps, K]."""
        plan = self.plan
        total, done = plan.steps * plan.pack.epochs, (epoch - 1) * plan.steps
        curves = {
            each: [factor(each, step=done + step, total_steps=total) for step in range(plan.steps)]
            for each in set(self._settings)
        }
        return torch.tensor([curves[each] for each in self._settings], dtype=torch.float64).T

    def _evaluate(self, split: str) -> Tensor:
        """Return the loss and all metrics of a split, [1 + M, K]."""
        metrics = self.plan.metrics
        note([member.trial_id for member in self.members], self.plan.steps)

        def values(*, average: bool) -> Tensor:
            weights = self._weights_for(average=average)
            return self._forward.evaluate(weights, self.rows.buffers, getattr(self.plan.data, split))

        counted = values(average=metrics.counts_average)
        if not metrics.has_both:
            return counted
        has_average = self.rows.average is not None
        other = values(average=not metrics.counts_average) if has_average else counted
        return metrics.joined(counted, other)

    def _synchronize(self) -> None:
        if self.plan.device.type == "cuda":
            torch.cuda.synchronize(self.plan.device)


def _gathered(examples: Tensor, rows: Tensor) -> Tensor:
    """Return the examples of a split with these indices, [*rows, ...]."""
    # Faster than indexing.
    return examples.index_select(0, rows.flatten()).view(*rows.shape, *examples.shape[1:])


def _lists(tensor: Tensor) -> list[list[float]]:
    # torch's stubs do not give the depth of the list.
    return cast("list[list[float]]", tensor.tolist())  # pyright: ignore[reportUnknownMemberType]
