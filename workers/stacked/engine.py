"""The engine that trains a pack as one or more stacks, and continues with smaller ones if memory runs out."""

__all__ = ["StackedEngine"]

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from workers.memory import is_out_of_memory
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Pack
from workers.results import EpochResult
from workers.stacked.compiled import CompiledSteps
from workers.stacked.plan import StackPlan
from workers.stacked.rows import Rows
from workers.stacked.stack import Stack
from workers.workloads import Data, TensorWorkload


class StackedEngine:
    """An engine that trains the members of a pack in stacks of about equal size, none wider than `width`.

    The assignment of members to stacks, the size of the stacks, and compiling change a member's numbers only
    by rounding. The same pack gives the same bits at the same width, compiled or not; but the width and the
    choice to compile depend on measured times.

    Args:
        pack: the members and their settings.
        workload: what to train.
        entry: an optimizer with a batched form.
        data: the workload's data, on `device`.
        device: where to train.
        states: each member's checkpoint; None for all of them before the first epoch.
        width: largest number of members in a stack.
        compiled: the steps that this worker has compiled; None never compiles.

    Attributes:
        width: the given width, or a lower one after memory ran out.
        ran_out_with: number of members in the last stack that ran out of memory; None if none did.

    Raises:
        CheckpointUnusable: a state does not fit this model and optimizer.
        NotStackable: the model cannot be stacked.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        workload: TensorWorkload,
        entry: OptimizerEntry,
        data: Data,
        device: torch.device,
        states: Sequence[Mapping[str, Any] | None],
        width: int,
        compiled: CompiledSteps | None = None,
    ) -> None:
        self.width = width
        self.ran_out_with: int | None = None
        self._compiled = compiled
        self._plan = StackPlan(pack, workload=workload, entry=entry, data=data, device=device)
        known = [state for state in states if state is not None]
        rows = (
            Rows.resumed(pack.members, known, self._plan) if known else Rows.initial(pack.members, self._plan)
        )
        self._groups = self._split(list(range(len(pack.members))), rows, done=pack.from_epoch)

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Train one more epoch, counted from 1, and return the results in the order of `alive`.

        The rows of other members are dropped. If memory runs out, the width is halved and the stack's epoch
        starts again from the state before it. Of several stacks, only the one being trained uses the device's
        memory.
        """
        self._drop_all_but(alive)
        self._groups = [(members, self._with_compiled_step(stack)) for members, stack in self._groups]
        waiting, trained = self._groups, list[tuple[list[int], Stack]]()
        results: dict[int, EpochResult] = {}
        while waiting:
            members, stack = waiting.pop(0)
            before: Rows | None = None
            started = time.process_time()
            try:
                before = stack.rows.select(range(stack.size))
                found = stack.train_epoch(epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(members) == 1:
                    raise
                self.ran_out_with = len(stack.members)
                self.width = max(1, min(self.width, len(members)) // 2)
            else:
                self._record_speed(stack, time.process_time() - started)
                results.update(zip(members, found, strict=True))
                trained.append((members, stack))
                if waiting or len(trained) > 1:
                    stack.park()
                continue
            # Retry outside the except block, where the error would keep every tensor of the failed step
            # alive.
            saved = (before or stack.rows).to(torch.device("cpu"))
            del before, stack
            if self._plan.device.type == "cuda":
                torch.cuda.empty_cache()
            waiting = [*self._split(members, saved, done=epoch - 1), *waiting]
        self._groups = trained
        return [results[member] for member in alive]

    def test(self, members: Sequence[int]) -> list[list[float]]:
        """Return these members' test metrics after the epoch just trained, the objective first."""
        wanted = set(members)
        found: dict[int, list[float]] = {}
        for group, stack in self._groups:
            if wanted & set(group):
                found.update(zip(group, stack.test(), strict=True))
                if len(self._groups) > 1:
                    stack.park()
        return [found[member] for member in members]

    def checkpoint(self, member: int) -> Mapping[str, Any]:
        """Return a member's state after the epoch just trained."""
        return next(stack.checkpoint(group.index(member)) for group, stack in self._groups if member in group)

    def weights(self, member: int) -> Mapping[str, Any]:
        """Return the `state_dict` of a member's model after the epoch just trained."""
        return next(stack.weights(group.index(member)) for group, stack in self._groups if member in group)

    def folder(self, member: int) -> None:
        """Return None: a workload of tensors has no folder."""
        del member

    def can_resume(self, member: int) -> bool:
        """Return True."""
        del member
        return True

    def finish(self, members: Sequence[int]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _with_compiled_step(self, stack: Stack) -> Stack:
        """Return the stack with a compiled step if that pays off, padded to the width that the step needs."""
        if (
            self._compiled is None
            or stack.compiled_step is not None
            or not stack.is_plain
            or not self._is_nearly_full(stack)
        ):
            return stack

        def padded() -> Stack:
            return stack.select(range(stack.size), width=self.width)

        step = self._compiled.get(
            self._plan, width=self.width, is_paired=stack.is_paired, example=lambda: padded().example()
        )
        if step is None:
            return stack if stack.size == len(stack.members) else stack.select(range(stack.size))
        stack = padded()
        stack.compiled_step = step
        return stack

    def _is_nearly_full(self, stack: Stack) -> bool:
        # A padding row costs as much as a member, and the speed of a much smaller stack does not predict the
        # speed of one compiled for the full width.
        return self.width > 1 and 4 * stack.size >= 3 * self.width

    def _record_speed(self, stack: Stack, seconds: float) -> None:
        if (
            self._compiled is not None
            and stack.is_plain
            and not stack.is_random
            and self._is_nearly_full(stack)
        ):
            share = seconds / (stack.size * self._plan.steps)
            stack.compiled_step = self._compiled.record(
                self._plan,
                stack.compiled_step,
                width=self.width,
                is_paired=stack.is_paired,
                member_step_s=share,
            )

    def _drop_all_but(self, alive: Sequence[int]) -> None:
        """Drop the rows of all other members, and join stacks if fewer are enough."""
        living = set(alive)
        groups: list[tuple[list[int], Stack]] = []
        for members, stack in self._groups:
            rows = [row for row, member in enumerate(members) if member in living]
            if len(rows) == len(members):
                groups.append((members, stack))
            elif rows:
                groups.append(([members[row] for row in rows], stack.select(rows)))
        if len(groups) > -(-len(living) // self.width):
            joined = Rows.concatenated([stack.rows.select(range(stack.size)) for _, stack in groups])
            groups = self._split(
                [member for members, _ in groups for member in members], joined, done=groups[0][1].done
            )
        self._groups = groups

    def _split(self, members: list[int], rows: Rows, *, done: int) -> list[tuple[list[int], Stack]]:
        """Return members and rows in as few stacks as the width allows, of about equal size."""
        parts = -(-len(members) // self.width)
        ends = [len(members) * part // parts for part in range(parts + 1)]
        return [
            (
                members[start:end],
                Stack(
                    [self._plan.pack.members[member] for member in members[start:end]],
                    plan=self._plan,
                    rows=rows.select(range(start, end)),
                    done=done,
                ),
            )
            for start, end in pairwise(ends)
        ]
