"""The engine that trains a pack as one stack or several, and goes on in smaller ones when memory runs out."""

__all__ = ["Stacks"]

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from workers.memory import is_out_of_memory
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Pack
from workers.results import EpochResult
from workers.stacked.compiled import Compiled
from workers.stacked.plan import StackPlan
from workers.stacked.rows import Rows
from workers.stacked.stack import Stack
from workers.workloads import Data, Workload


class Stacks:
    """Trains the members of a pack in stacks of about equal size, none wider than `width`.

    Which members share a stack, how many, and whether its step is compiled, changes no member's numbers
    beyond rounding. The same pack gives the same bits at the same width, compiled or not; both were chosen by
    the clock.

    Args:
        pack: the members and their settings.
        workload: what is trained.
        entry: an optimizer with a batched form.
        data: the workload's data, on `device`.
        device: where to train.
        states: each member's checkpoint; None for all of them before the first epoch.
        width: members in a stack, at most.
        compiled: the steps that this worker has compiled; None never compiles.

    Attributes:
        width: as given, or what it was lowered to when memory ran out.
        ran_out_with: members in the stack that memory ran out with last; None while it has not.

    Raises:
        CheckpointUnusable: a state is not that of such a member.
        NotStackable: the model cannot be stacked.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        workload: Workload,
        entry: OptimizerEntry,
        data: Data,
        device: torch.device,
        states: Sequence[Mapping[str, Any] | None],
        width: int,
        compiled: Compiled | None = None,
    ) -> None:
        self.width = width
        self.ran_out_with: int | None = None
        self._compiled = compiled
        self._plan = StackPlan(pack, workload=workload, entry=entry, data=data, device=device)
        known = [state for state in states if state is not None]
        rows = (
            Rows.resumed(pack.members, known, self._plan) if known else Rows.begun(pack.members, self._plan)
        )
        self._groups = self._divided(list(range(len(pack.members))), rows, done=pack.from_epoch)

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Return each living member's result of one more epoch, in the order of `alive`.

        The others' rows are given up.

        Where memory runs out the width is halved and the stack's epoch begun again from where it stood. Of
        several stacks only the one that is trained takes the device's memory.
        """
        self._keep(alive)
        self._groups = [(members, self._hastened(stack)) for members, stack in self._groups]
        waiting, trained = self._groups, list[tuple[list[int], Stack]]()
        results: dict[int, EpochResult] = {}
        while waiting:
            members, stack = waiting.pop(0)
            before: Rows | None = None
            started = time.process_time()
            try:
                before = stack.rows.select(range(stack.told))
                found = stack.train_epoch(epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(members) == 1:
                    raise
                self.ran_out_with = len(stack.members)
                self.width = max(1, min(self.width, len(members)) // 2)
            else:
                self._note(stack, time.process_time() - started)
                results.update(zip(members, found, strict=True))
                trained.append((members, stack))
                if waiting or len(trained) > 1:
                    stack.park()
                continue
            # Here, and not in the except block, whose error keeps every tensor of the failed step alive.
            kept = (before or stack.rows).to(torch.device("cpu"))
            del before, stack
            if self._plan.device.type == "cuda":
                torch.cuda.empty_cache()
            waiting = [*self._divided(members, kept, done=epoch - 1), *waiting]
        self._groups = trained
        return [results[member] for member in alive]

    def test(self, members: Sequence[int]) -> list[float]:
        """Return these members' test metrics after the epoch just trained."""
        wanted = set(members)
        found: dict[int, float] = {}
        for group, stack in self._groups:
            if wanted & set(group):
                found.update(zip(group, stack.test(), strict=True))
                if len(self._groups) > 1:
                    stack.park()
        return [found[member] for member in members]

    def checkpoint(self, member: int) -> Mapping[str, Any]:
        """Return a member's state after the epoch just trained."""
        return next(stack.checkpoint(group.index(member)) for group, stack in self._groups if member in group)

    def _hastened(self, stack: Stack) -> Stack:
        """Return the stack with a compiled step where that pays.

        It is filled up to the width that the step is compiled for.
        """
        if self._compiled is None or stack.fast is not None or not self._is_about_full(stack):
            return stack

        def filled_up() -> Stack:
            return stack.select(range(stack.told), width=self.width)

        fast = self._compiled.step(
            self._plan, width=self.width, is_paired=stack.is_paired, example=lambda: filled_up().example()
        )
        if fast is None:
            return stack if stack.told == len(stack.members) else stack.select(range(stack.told))
        stack = filled_up()
        stack.fast = fast
        return stack

    def _is_about_full(self, stack: Stack) -> bool:
        # Spares cost as much as members do; and what a step takes in a smaller stack says nothing of one that
        # is compiled for the width.
        return self.width > 1 and 4 * stack.told >= 3 * self.width

    def _note(self, stack: Stack, seconds: float) -> None:
        if self._compiled is not None and not stack.is_random and self._is_about_full(stack):
            share = seconds / (stack.told * self._plan.steps)
            stack.fast = self._compiled.noted(
                self._plan, stack.fast, width=self.width, is_paired=stack.is_paired, member_step_s=share
            )

    def _keep(self, alive: Sequence[int]) -> None:
        """Give up the rows of members that are not alive, and join stacks where fewer would do."""
        living = set(alive)
        groups: list[tuple[list[int], Stack]] = []
        for members, stack in self._groups:
            rows = [row for row, member in enumerate(members) if member in living]
            if len(rows) == len(members):
                groups.append((members, stack))
            elif rows:
                groups.append(([members[row] for row in rows], stack.select(rows)))
        if len(groups) > -(-len(living) // self.width):
            joined = Rows.joined([stack.rows.select(range(stack.told)) for _, stack in groups])
            groups = self._divided(
                [member for members, _ in groups for member in members], joined, done=groups[0][1].done
            )
        self._groups = groups

    def _divided(self, members: list[int], rows: Rows, *, done: int) -> list[tuple[list[int], Stack]]:
        """Return members and their rows as few stacks of about equal size, none wider than the width."""
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
