"""Checks of a workload's data: its contents, its card, and whether the splits share examples."""

__all__ = ["check_data"]

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from studies.formatting import count, plural
from studies.trials import CheckResult
from workers.workload_check.check_result import about, calling
from workers.workloads import Data, Split, TensorWorkload, load_data
from workers.workloads.card_differences import shared_inputs

_SPLITS: Final = ("train", "validation", "test")
_MUCH: Final = 0.5
"""Part of a split from which on inputs that another split has too are a mistake."""


def check_data(workload: TensorWorkload, device: torch.device) -> Iterator[CheckResult | Data]:
    """Yield the results about the data, and last the data itself.

    Raises:
        CheckFailed: `load_data` raised an error, or did not return data with examples in every split.
    """
    name = workload.card.name
    with calling("data", workload=name):
        data, again = (load_data(workload, device=device) for _ in range(2))
    splits = {split: _split(data, split) for split in _SPLITS}
    sizes = ", ".join(f"{count(len(examples))} {split}" for split, examples in splits.items())
    yield CheckResult("data", "ok", f"{sizes} examples")
    yield _repeated(workload, splits, again)
    yield _sizes(workload, splits)
    yield _numbers(workload, splits)
    yield from _overlaps(workload, splits)
    yield data


def _split(data: Data, name: str) -> Split:
    return getattr(data, name)


def _repeated(workload: TensorWorkload, splits: dict[str, Split], again: Data) -> CheckResult:
    changed = [
        name
        for name, split in splits.items()
        if not (
            _equal(split.inputs, _split(again, name).inputs)
            and _equal(split.targets, _split(again, name).targets)
        )
    ]
    if not changed:
        return CheckResult("same data twice", "ok", "two calls of load_data return the same contents")
    return about(
        workload.load_data,
        "same data twice",
        "error",
        f"expected the same contents from every call of load_data, got others in {' and '.join(changed)}; "
        "sort the files and seed every split and shuffle",
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.nan_to_num(), other.nan_to_num())
    )


def _sizes(workload: TensorWorkload, splits: dict[str, Split]) -> CheckResult:
    on_card = dict(workload.card.examples)
    found = {name: len(split) for name, split in splits.items() if name in on_card}
    if on_card == found:
        return CheckResult("card: examples", "ok", "the card has the numbers of examples of the data")
    return about(
        type(workload),
        "card: examples",
        "warning",
        f"expected the card's numbers of examples, {on_card}, got {found}; correct `examples` on the card",
    )


def _numbers(workload: TensorWorkload, splits: dict[str, Split]) -> CheckResult:
    for name, split in splits.items():
        for part, tensor in (("inputs", split.inputs), ("targets", split.targets)):
            wrong = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
            if wrong:
                return about(
                    workload.load_data,
                    "finite data",
                    "error",
                    f"expected finite {part}, got {plural(wrong, 'value')} of NaN or infinity in the "
                    f"{name} split",
                )
    return CheckResult("finite data", "ok", "no input and no target is NaN or infinite")


def _overlaps(workload: TensorWorkload, splits: dict[str, Split]) -> Iterator[CheckResult]:
    """Yield what the splits have in common, by the bytes of their inputs."""
    is_separate = True
    for one, other, shared in shared_inputs(splits):
        is_separate = False
        # Data with few different inputs has some of them in every split.
        is_wrong = shared >= _MUCH * len(splits[other])
        yield about(
            workload.load_data,
            "separate splits",
            "error" if is_wrong else "warning",
            ("expected splits without common inputs, got " if is_wrong else "")
            + f"{plural(shared, 'different input')} of the {other} split that also "
            f"{'occurs' if shared == 1 else 'occur'} in the {one} split; values there are optimistic"
            + (": divide the examples before anything else" if is_wrong else ""),
        )
    if is_separate:
        yield CheckResult("separate splits", "ok", "no input occurs in two splits")
