"""Which batches a trial trains on in each epoch or interval, so that it can resume after any of them."""

__all__ = ["BatchOrder", "BatchStream"]

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from workers.seeding import epoch_order, pass_seed, seeded
from workers.workload_errors import CannotTrain
from workers.workloads import LoopWorkload


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """The batches of a split of tensors.

    Every batch is full: examples that do not fill a last batch of a pass over the data are left out. Without
    `interval_steps` an epoch is one pass, and batches that do not fill a last step are left out too.

    Attributes:
        examples: training examples.
        batch_size: examples in a batch.
        accumulation_steps: batches in a step.
        interval_steps: steps in an interval that replaces the epoch; None for epochs.
    """

    examples: int
    batch_size: int
    accumulation_steps: int
    interval_steps: int | None

    @property
    def steps(self) -> int:
        """Steps of an epoch or interval; 0 if an epoch does not fill a batch, or a step."""
        batches = self.examples // self.batch_size
        if self.interval_steps is not None and batches:
            return self.interval_steps
        return batches // self.accumulation_steps

    def rows(self, seed: int, *, epoch: int) -> Tensor:
        """Return the examples of each batch of an epoch or interval, int64 [steps * accumulation_steps, B].

        Args:
            seed: the trial's seed.
            epoch: the epoch or interval, counted from 1.
        """
        batches, size = self.steps * self.accumulation_steps, self.batch_size
        if self.interval_steps is None:
            order = epoch_order(seed, epoch=epoch, examples=self.examples)
            return order[: batches * size].view(batches, size)
        in_pass, start = self.examples // size, (epoch - 1) * batches
        first, last = start // in_pass, (start + batches - 1) // in_pass
        passes = [
            epoch_order(seed, epoch=number + 1, examples=self.examples)[: in_pass * size].view(in_pass, size)
            for number in range(first, last + 1)
        ]
        skipped = start - first * in_pass
        return torch.cat(passes)[skipped : skipped + batches]


class BatchStream:
    """The batches of a workload that has its own, over intervals that need not end with a pass over the data.

    Each pass calls `train_batches` once, with the pass as its epoch, and draws what that call and its first
    batch draw from random streams of its own. A trial that resumes within a pass restores the state of what
    `train_batches` returned if that has `state_dict` and `load_state_dict` (as torchdata's
    `StatefulDataLoader` does); otherwise it reads and drops the batches before its position.

    Args:
        workload: the workload.
        batch_size: examples in a batch.
        in_pass: batches in a pass; None for a stream without an end.
        seed: the trial's seed.
        device: where the trial is trained.
    """

    def __init__(
        self,
        workload: LoopWorkload,
        *,
        batch_size: int,
        in_pass: int | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self._workload, self._batch_size, self._in_pass = workload, batch_size, in_pass
        self._seed, self._device = seed, device
        self._read = 0
        self._source: Iterable[Any] = ()
        self._iterator: Iterator[Any] | None = None
        self._restored: Mapping[str, Any] = {}

    def take(self, start: int, count: int) -> Iterator[Any]:
        """Yield some batches, on the CPU.

        Args:
            start: number of batches before the first, from the trial's start.
            count: number of batches.

        Raises:
            CannotTrain: the workload has fewer.
        """
        for position in range(start, start + count):
            number, offset = divmod(position, self._in_pass) if self._in_pass else (0, position)
            is_open = self._iterator is not None and self._read == position and offset > 0
            batch = self._next(self._iterator, number, offset) if is_open else self._opened(number, offset)
            # Before the batch is given away: a caller that has enough does not come back.
            self._read = position + 1
            yield batch

    def _opened(self, number: int, offset: int) -> Any:
        """Start a pass and return the batch at an offset in it."""
        with seeded(pass_seed(self._seed, number=number + 1), device=self._device):
            self._source = self._workload.train_batches(batch_size=self._batch_size, epoch=number + 1)
            state, self._restored = self._restored, {}
            skipped = offset
            if state and offset:
                cast("Any", self._source).load_state_dict(state["state"])
                skipped = 0
            self._iterator = iter(self._source)
            for dropped in range(skipped):
                self._next(self._iterator, number, dropped)
            if offset == 0:
                return self._next(self._iterator, number, offset)
        # As in a trial that was not interrupted, where only a pass's first batch has the pass's streams.
        return self._next(self._iterator, number, offset)

    def _next(self, iterator: Iterator[Any] | None, number: int, offset: int) -> Any:
        assert iterator is not None, "a pass has begun"
        try:
            return next(iterator)
        except StopIteration:
            expected = f"{self._in_pass} batches" if self._in_pass else "batches without an end"
            raise CannotTrain(
                f"expected {expected} of {self._batch_size} in pass {number + 1} over the data of workload "
                f"{self._workload.card.name!r}, got {offset}; correct steps_per_epoch or train_batches",
                function=self._workload.train_batches,
            ) from None

    def state_dict(self) -> dict[str, Any]:
        """Return the position of what `train_batches` returned, if that exposes it."""
        save = cast("Callable[[], Any] | None", getattr(self._source, "state_dict", None))
        return {"state": save()} if callable(save) and hasattr(self._source, "load_state_dict") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a position that `state_dict` returned."""
        self._restored = state
