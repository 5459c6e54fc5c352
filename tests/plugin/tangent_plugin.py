"""An installed package that adds workloads by entry point, as a user's would: slow ones, broken ones, deadly ones.

Tests put this folder on the path of a dispatcher; the `.dist-info` beside this file is what `pip install` would have left.
"""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from workers.workloads import Data, Split, Workload

__all__ = ["WORKLOADS"]


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fit = nn.Linear(2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fit(inputs)[:, 0]


class _Plane(Workload):
    """Fits a plane to 64 points; what happens besides is up to the subclass."""

    def __init__(self, name: str, *, epochs: int = 4) -> None:
        self.card = WorkloadCard(
            name=name,
            title=f"A plane, {name}",
            description="A linear model on 64 points of a plane.",
            source="made up",
            metric="squared error",
            unit="none",
            direction="minimize",
            target=0.1,
            epochs=epochs,
            batch_size=16,
            examples={"train": 64, "validation": 16, "test": 16},
            parameters=3,
            epoch_s=0.01,
        )

    def load_data(self, device: torch.device) -> Data:
        def split(n: int, seed: int) -> Split:
            points = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
            return Split(inputs=points, targets=points @ torch.tensor([1.0, -2.0]) + 0.5).to(device)

        return Data(train=split(64, 1), validation=split(16, 2), test=split(16, 3))

    def build_model(self) -> nn.Module:
        return _Line()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.misbehave()
        return (outputs - targets).square().mean()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum()

    def misbehave(self) -> None:
        """Do nothing; a subclass does."""


class _Slow(_Plane):
    def misbehave(self) -> None:
        time.sleep(0.05)


class _Broken(_Plane):
    def misbehave(self) -> None:
        raise RuntimeError("the third layer has no weights")


class _Deadly(_Plane):
    """Kills its own process: always, or until a file tells that it has done so often enough."""

    def misbehave(self) -> None:
        deaths = Path(os.environ["TANGENT_HOME"]) / "deaths"
        died = int(deaths.read_text()) if deaths.exists() else 0
        if self.card.name == "deadly" or died < 1:
            deaths.write_text(str(died + 1))
            os.kill(os.getpid(), signal.SIGKILL)


WORKLOADS = [_Plane("plane"), _Slow("slow-plane", epochs=10), _Broken("broken"), _Deadly("deadly"), _Deadly("deadly-once")]
