"""CIFAR-10 and CIFAR-100 from the user's copies of their binary versions, and the usual crops and flips."""

__all__ = [
    "cropped_and_flipped",
    "missing_cifar10",
    "missing_cifar100",
    "read_cifar10",
    "read_cifar100",
]

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.workloads.requirements import data_folder, missing_files
from workers.workloads.tensor_workload import Data, Split

_PIXELS = 3 * 32 * 32
_HELD_OUT = 10
"""One training image in this many is in the validation split."""


@dataclass(frozen=True)
class _Layout:
    """The files of one data set.

    Attributes:
        folder: what its archive unpacks to.
        train: the files with training images.
        test: the file with test images.
        labels: bytes of labels before the pixels of an image; the last one is the class.
    """

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: int

    def missing(self) -> str | None:
        archive = f"https://www.cs.toronto.edu/~kriz/{self.name.lower()}-binary.tar.gz"
        layout = f"the binary version of {self.name}, {archive},"
        return missing_files(data_folder(self.folder), layout, *self.train, self.test)


_CIFAR10 = _Layout(
    name="CIFAR-10",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    labels=1,
)
# An image has its superclass too.
_CIFAR100 = _Layout(
    name="CIFAR-100", folder="cifar-100-binary", train=("train.bin",), test="test.bin", labels=2
)


def missing_cifar10() -> str | None:
    """Return what is missing of the user's copy of CIFAR-10, or None."""
    return _CIFAR10.missing()


def missing_cifar100() -> str | None:
    """Return what is missing of the user's copy of CIFAR-100, or None."""
    return _CIFAR100.missing()


def read_cifar10() -> Data:
    """Return the images, uint8 [N, 3, 32, 32], and their classes, int64 [N].

    The validation split is the last tenth of the 50,000 training images; the test split is the published one.
    The files are read once.

    Raises:
        ValueError: a file does not hold whole records.
    """
    return _read(data_folder(_CIFAR10.folder), _CIFAR10)


def read_cifar100() -> Data:
    """Return the images of CIFAR-100 with their fine classes; see `read_cifar10`."""
    return _read(data_folder(_CIFAR100.folder), _CIFAR100)


@cache
def _read(folder: Path, layout: _Layout) -> Data:
    images, labels = zip(*(_records(folder / name, layout) for name in layout.train), strict=True)
    inputs, targets = torch.cat(images), torch.cat(labels)
    first = len(targets) - len(targets) // _HELD_OUT
    test_inputs, test_targets = _records(folder / layout.test, layout)
    return Data(
        train=Split(inputs=inputs[:first], targets=targets[:first]),
        validation=Split(inputs=inputs[first:], targets=targets[first:]),
        test=Split(inputs=test_inputs, targets=test_targets),
    )


def _records(file: Path, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Return the images and classes of a file of records: labels, then the red, green and blue pixels."""
    found, size = np.fromfile(file, dtype=np.uint8), layout.labels + _PIXELS
    if len(found) % size:
        raise ValueError(
            f"expected {file} to hold records of {size} bytes, got {len(found)} bytes; unpack the binary "
            f"version of {layout.name} again"
        )
    records = torch.as_tensor(found).view(-1, size)
    return records[:, layout.labels :].reshape(-1, 3, 32, 32), records[:, layout.labels - 1].long()


def cropped_and_flipped(images: Tensor, *, padding: int = 4, generator: torch.Generator) -> Tensor:
    """Return images each shifted by up to `padding` pixels, with zeros beyond the edge, half of them flipped.

    Source: He et al., Deep Residual Learning (CVPR 2016), 4.2.

    Args:
        images: [B, C, H, W] of any dtype.
        padding: pixels added on each side before the crop.
        generator: draws the shifts and flips, on the device of the images.
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, [padding] * 4)
    tops, lefts = torch.randint(2 * padding + 1, (2, count, 1), device=images.device, generator=generator)
    rows = tops + torch.arange(height, device=images.device)
    columns = lefts + torch.arange(width, device=images.device)
    is_flipped = torch.rand(count, 1, device=images.device, generator=generator) < 0.5
    columns = torch.where(is_flipped, columns.flip(1), columns)
    each = torch.arange(count, device=images.device)[:, None, None]
    # Indices around a slice put the channels last.
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
