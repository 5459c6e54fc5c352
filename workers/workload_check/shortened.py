"""A workload with epochs of a few steps, for checks that train."""

__all__ = ["interval_of", "shortened", "steps_of_epoch"]

import copy

from workers.workloads import Data, LoopWorkload, ModelWorkload, TensorWorkload


def steps_of_epoch(workload: ModelWorkload, data: Data | None, *, batch_size: int) -> int | None:
    """Return the number of steps of an epoch.

    Of a stream without an end, it is that of the card's examples; None if the card has none.
    """
    if isinstance(workload, LoopWorkload):
        steps, examples = workload.steps_per_epoch(batch_size), workload.card.examples.get("train")
        return max(1, examples // batch_size) if steps is None and examples is not None else steps
    assert data is not None, "a workload of tensors has data"
    return len(data.train) // batch_size


def interval_of(workload: ModelWorkload, *, steps: int, batch_size: int) -> int | None:
    """Return this number of steps for a stream without an end, which has intervals; None for any other."""
    is_endless = isinstance(workload, LoopWorkload) and workload.steps_per_epoch(batch_size) is None
    return steps if is_endless else None


def shortened(
    workload: ModelWorkload, data: Data | None, *, steps: int, batch_size: int
) -> tuple[ModelWorkload, Data | None]:
    """Return a workload and its data with epochs of this many steps, and small other splits of tensors.

    A stream without an end stays as it is: `interval_of` gives its length.
    """
    if isinstance(workload, LoopWorkload):
        if interval_of(workload, steps=steps, batch_size=batch_size) is not None:
            return workload, None
        # A copy, so that what is found is still in the user's functions.
        short = copy.copy(workload)
        whole = steps_of_epoch(workload, None, batch_size=batch_size)
        most = steps if whole is None else min(steps, whole)
        short.steps_per_epoch = lambda batch_size: most  # noqa: ARG005 # the parameter's name
        return short, None
    assert isinstance(workload, TensorWorkload)
    assert data is not None, "a workload of tensors has data"
    small = Data(
        train=data.train.head(steps * batch_size),
        validation=data.validation.head(batch_size),
        test=data.test.head(batch_size),
    )
    return workload, small
