"""A workload that trains almost nothing, so that its trials show the overhead of a study."""

__all__ = ["Nothing"]

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from workers.workloads import Data, Split, TensorWorkload


class Nothing(TensorWorkload):
    """A workload of one weight and one example, with one step per epoch."""

    card = WorkloadCard(
        name="nothing",
        title="Nothing",
        description="One weight fitted to one example; one step per epoch.",
        source="No data.",
        metric="squared error",
        unit="none",
        direction="minimize",
        target=1e-3,
        epochs=1,
        batch_size=1,
        examples={"train": 1, "validation": 1, "test": 1},
        parameters=1,
        epoch_s=0.001,
    )

    def load_data(self, device: torch.device) -> Data:
        """Return one example for each split."""
        split = Split(inputs=torch.ones(1, 1), targets=torch.ones(1, 1)).to(device)
        return Data(train=split, validation=split, test=split)

    def build_model(self) -> nn.Module:
        """Return the weight."""
        return nn.Linear(1, 1, bias=False)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error."""
        return (outputs - targets).square().mean()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed squared error."""
        return (outputs - targets).square().sum()
