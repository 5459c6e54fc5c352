"""A sound workload: scikit-learn's scanned digits. Each of the other files makes one mistake in it."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from tangent import Data, Split, TensorWorkload, WorkloadCard

__all__ = ["SoundDigits"]


class SoundDigits(TensorWorkload):
    """A network with batch normalisation."""

    card = WorkloadCard(
        name="sound-digits",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        epochs=3,
        examples={"train": 1197, "validation": 300, "test": 300},
    )

    def load_data(self, device: torch.device) -> Data:
        """Return shuffled splits; the same ones each time."""
        pictures, digits = (torch.tensor(part) for part in load_digits(return_X_y=True))
        rows = torch.randperm(len(digits), generator=torch.Generator().manual_seed(1))
        train, validation, test = (
            Split(inputs=pictures[part].float() / 16, targets=digits[part])
            for part in rows.split([1197, 300, 300])
        )
        return Data(train=train, validation=validation, test=test).to(device)

    def build_model(self) -> nn.Module:
        """Return 64-32-10 units."""
        return nn.Sequential(nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many digits are right."""
        return (outputs.argmax(1) == targets).sum()
