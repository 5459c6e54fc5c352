"""What the image classification workloads share.

Cross-entropy, accuracy, stratified splits, standardisation.
"""

__all__ = ["Classification", "classification_data"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from workers.workloads.workload import Data, Split, Workload

SPLIT_SEED = 20210503
"""Fixes which example lies in which split, for good.

Results of two studies are comparable only with the same test split.
"""

FOLDS = 5
"""One fold is the validation split, one the test split, three are the training split."""


class Classification(Workload):
    """Cross-entropy for a loss and accuracy for a metric.

    Outputs are logits [B, classes], targets are int64 [B].
    """

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the number of examples whose largest logit is the right one, as a float."""
        return (outputs.argmax(dim=-1) == targets).to(outputs.dtype).sum()


def classification_data(inputs: NDArray[np.float64], targets: NDArray[np.int64]) -> Data:
    """Return stratified splits of 60, 20 and 20 percent.

    They are standardised by one mean and one deviation of the training split.

    The examples, shuffled within their class and laid out class after class, are dealt in turn to five folds:
    so every fold holds each class in proportion, to within one example, and the splits add up to all
    examples.

    Args:
        inputs: numbers [N, ...]; become float32.
        targets: class numbers [N]; become int64.
    """
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    fold = np.arange(len(targets)) % FOLDS
    rows = {"train": by_class[fold >= 2], "validation": by_class[fold == 0], "test": by_class[fold == 1]}
    mean, deviation = inputs[rows["train"]].mean(), inputs[rows["train"]].std()
    train, validation, test = (
        Split(
            inputs=torch.tensor((inputs[chosen] - mean) / deviation, dtype=torch.float32),
            targets=torch.tensor(targets[chosen], dtype=torch.int64),
        )
        for chosen in rows.values()
    )
    return Data(train=train, validation=validation, test=test)
