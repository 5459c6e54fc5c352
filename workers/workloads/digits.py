"""Fast workloads on scikit-learn's 8x8 handwritten digits, with and without batch normalisation."""

__all__ = ["DigitsCnn", "DigitsMlp"]

import torch
from torch import nn

from studies.catalog import Bounds, Hyperparameter, WorkloadCard
from studies.space import Range
from workers.workloads.classification import Classification, read_images
from workers.workloads.tensor_workload import Data

_SOURCE = (
    "scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits, "
    "Alpaydin and Kaynak), BSD-3-Clause"
)


class _Digits(Classification):
    shares_data = True

    def load_data(self, device: torch.device) -> Data:
        """Return 1,077, 360 and 360 images as floats [N, 1, 8, 8]."""
        return read_images("sklearn", "datasets/data/digits.csv.gz", size=8).to(device)


class DigitsMlp(_Digits):
    """A control without scale-invariant weights: two hidden layers of 32 units without normalisation."""

    card = WorkloadCard(
        name="digits-mlp",
        title="Digits, MLP",
        description=(
            "8x8 greyscale digits in ten classes. Two hidden layers of 32 units with ReLU and without "
            "normalisation; cross-entropy loss."
        ),
        source=_SOURCE,
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.97,
        chance=0.1,
        epochs=12,
        batch_size=32,
        examples={"train": 1077, "validation": 360, "test": 360},
        parameters=3466,
        epoch_s=0.02,
        hyperparameters=(
            Hyperparameter(
                name="dropout",
                description="Share of the units of both hidden layers that are set to 0 in training.",
                unit="fraction",
                default=0.0,
                search=Range(low=0.0, high=0.5),
                source="Srivastava et al. (2014) drop half of the units of hidden layers",
                bounds=Bounds(low=0, high=1, high_open=True),
            ),
        ),
        groups=("output",),
    )

    def build_model(self) -> nn.Module:
        """Return a 64-32-32-10 network with torch's default initialisation."""
        rate = self.config["dropout"]
        dropout = [nn.Dropout(rate)] if rate else []
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.ReLU(),
            *dropout,
            nn.Linear(32, 32),
            nn.ReLU(),
            *dropout,
            nn.Linear(32, 10),
        )

    def parameter_groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """Return the weights and biases of the last layer as the group `output`."""
        [*_, last] = model.children()
        return {"output": list(last.parameters())}


class DigitsCnn(_Digits):
    """AdamP's intended case: two convolutions with batch normalisation, whose weights are scale-invariant."""

    card = WorkloadCard(
        name="digits-cnn",
        title="Digits, CNN with batch normalisation",
        description=(
            "8x8 greyscale digits in ten classes. Two 3x3 convolutions of 8 and 16 channels, each with batch "
            "normalisation and ReLU; cross-entropy loss."
        ),
        source=_SOURCE,
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.98,
        chance=0.1,
        epochs=12,
        batch_size=32,
        examples={"train": 1077, "validation": 360, "test": 360},
        parameters=3842,
        epoch_s=0.06,
    )

    def build_model(self) -> nn.Module:
        """Return conv-BN-ReLU 1 to 8 at 8x8, conv-BN-ReLU 8 to 16 at 4x4, and a linear layer."""
        return nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 10),
        )
