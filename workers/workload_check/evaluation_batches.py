"""The batches that a workload's own evaluation draws: their sizes, and others to compare with."""

__all__ = ["EvaluationBatches"]

from collections.abc import Iterator
from typing import Self

from torch.utils.data import BatchSampler


class EvaluationBatches:
    """Notes the sizes of the batches that `DataLoader`s draw in the block, and divides them if asked.

    The batches of a `batch_sampler` of the workload's own, and those that come from elsewhere, stay as they
    are.

    Args:
        divide: whether each batch is drawn as two of different sizes.

    Attributes:
        sizes: the sizes that the workload has asked for.
    """

    def __init__(self, *, divide: bool) -> None:
        self.sizes: list[int] = []
        self._divide = divide

    def __enter__(self) -> Self:
        drawn = self._drawn = BatchSampler.__iter__

        def noted(sampler: BatchSampler) -> Iterator[list[int]]:
            for batch in drawn(sampler):
                self.sizes.append(len(batch))
                first = len(batch) // 3 if self._divide else 0
                yield from (part for part in (batch[:first], batch[first:]) if part)

        BatchSampler.__iter__ = noted  # pyright: ignore[reportAttributeAccessIssue]  # the parameter's name
        return self

    def __exit__(self, *error: object) -> None:
        BatchSampler.__iter__ = self._drawn
