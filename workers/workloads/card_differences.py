"""Compares a workload's card with its data: the numbers of examples, and whether the splits share inputs."""

__all__ = ["card_differences", "row_hashes", "shared_inputs"]

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import numpy as np
import torch
from torch import Tensor

from studies.catalog import WorkloadCard
from studies.trials import CardDifference
from workers.workloads.tensor_workload import Data, Split

_SPLITS: Final = ("train", "validation", "test")
# Data with more bytes of inputs is not searched for shared inputs, which takes about a second per gigabyte.
_MAX_BYTES: Final = 2 * 2**30
# Neither is data with more examples: each takes a microsecond and a hundred bytes of memory.
_MAX_EXAMPLES: Final = 2_000_000
_BYTES_AT_ONCE: Final = 64 * 2**20


def card_differences(card: WorkloadCard, data: Data) -> tuple[CardDifference, ...]:
    """Return in which of its numbers the card differs from the data, and which splits share inputs."""
    splits: dict[str, Split] = {name: getattr(data, name) for name in _SPLITS}
    found = [
        CardDifference(kind="examples", split=name, expected=on_card, found=len(splits[name]))
        for name, on_card in card.examples.items()
        if on_card != len(splits[name])
    ]
    size = sum(split.inputs.element_size() * split.inputs.numel() for split in splits.values())
    if size <= _MAX_BYTES and sum(map(len, splits.values())) <= _MAX_EXAMPLES:
        found += [
            CardDifference(kind="overlap", split=other, other=one, expected=len(splits[other]), found=shared)
            for one, other, shared in shared_inputs(splits)
        ]
    return tuple(found)


def shared_inputs(splits: dict[str, Split]) -> Iterator[tuple[str, str, int]]:
    """Yield two splits and how many different inputs of the second occur in the first, if there are any.

    Inputs are equal if all their bytes are. Nothing is yielded if all training examples are the same, as
    those of a function that is minimised.
    """
    rows = {name: row_hashes(split.inputs) for name, split in splits.items()}
    if len(rows["train"]) == 1 < len(splits["train"]):
        return
    for one, other in combinations(splits, 2):
        shared = len(rows[one] & rows[other])
        if shared:
            yield one, other, shared


def row_hashes(inputs: Tensor) -> set[int]:
    """Return a 64-bit hash of each different input."""
    flat = inputs.detach().reshape(len(inputs), -1)
    row_bytes = max(1, flat.element_size() * flat.shape[1])
    return {
        hash(row.tobytes())
        for part in torch.split(flat, max(1, _BYTES_AT_ONCE // row_bytes))
        for row in np.ascontiguousarray(part.cpu().contiguous().view(torch.uint8).numpy())
    }
