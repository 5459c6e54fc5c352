"""Two functions of a direction only, so that every weight is scale-invariant, with known minima.

There is no data: each example is a step, an epoch is a fixed number of steps, and validation and test
    evaluate
the function itself.
"""

__all__ = ["Antipode2d", "Rosenbrock3d"]

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from workers.workloads.tensor_workload import Data, Split, TensorWorkload

_SOURCE = "No data; {}. Validation and test evaluate the function itself, so generalisation plays no part."


class _Toy(TensorWorkload):
    """A function of w / |w|; the outputs are that direction, repeated for each example [B, dimensions]."""

    @abstractmethod
    def function(self, direction: Tensor) -> Tensor:
        """Return the function's value [B] at unit vectors [B, dimensions]."""

    @abstractmethod
    def start(self) -> Tensor:
        """Return the start, a unit vector [dimensions] drawn from torch's global generator."""

    def load_data(self, device: torch.device) -> Data:
        """Return empty examples, one for each step of an epoch, whose target is the function's minimum, 0."""
        train, validation, test = (
            _empty(self.card.examples[split]) for split in ("train", "validation", "test")
        )
        return Data(train=train, validation=validation, test=test).to(device)

    def build_model(self) -> nn.Module:
        """Return a model whose one weight [1, dimensions] has norm 1."""
        return _Direction(self.start())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the function's value above its minimum."""
        return (self.function(outputs) - targets).mean()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the function's value above its minimum, times the number of examples."""
        return (self.function(outputs) - targets).sum()


class Rosenbrock3d(_Toy):
    """Rosenbrock's valley on the unit sphere.

    With x = 2 (u1, u2) and u = w / |w|, f = (1 - x1)^2 + 100 (x2 - x1^2)^2. The minima are 0 at u = (1/2,
    1/2, ±sqrt(1/2)). The start is the usual x = (-1.2, 1) on the upper hemisphere with norm 1; the seed moves
    each coordinate by N(0, 0.05).

    Source: AdamP's project page and paper (Heo et al., ICLR 2021), which put Rosenbrock's function on a
    hemisphere with a redundant radius. Deviation: they use the angles of spherical coordinates for x. Ours
    are coordinates of the unit vector, which are smooth on the whole sphere, so a large step meets no pole or
    cut.
    """

    card = WorkloadCard(
        name="rosenbrock-3d",
        title="Rosenbrock on the sphere",
        description=(
            "Rosenbrock's function of twice the first two coordinates of w/|w|, for w in three dimensions, "
            "starting near (-1.2, 1). An epoch is 100 steps without noise."
        ),
        source=_SOURCE.format("after the 3D toy of AdamP's project page"),
        metric="function value",
        unit="none",
        direction="minimize",
        target=0.02,
        epochs=10,
        batch_size=1,
        examples={"train": 100, "validation": 1, "test": 1},
        parameters=3,
        epoch_s=0.03,
    )

    def function(self, direction: Tensor) -> Tensor:
        """Return Rosenbrock's value [B] at unit vectors [B, 3]."""
        x1, x2 = 2.0 * direction[..., 0], 2.0 * direction[..., 1]
        return (1.0 - x1) ** 2 + 100.0 * (x2 - x1**2) ** 2

    def start(self) -> Tensor:
        """Return the perturbed start [3]."""
        # Clamp at four deviations, because beyond about six the point would leave the sphere.
        noise = 0.05 * torch.randn(2).clamp(-4.0, 4.0)
        first_two = (torch.tensor([-1.2, 1.0]) + noise) / 2.0
        return torch.cat([first_two, (1.0 - first_two.square().sum()).sqrt().unsqueeze(0)])


class Antipode2d(_Toy):
    """Rotate a vector by half a turn: minimise (1 - cos(w, w*))^2, starting 0.001 rad from -w*.

    Momentum builds up on the flat start and makes the norm grow: 499 updates of gradient descent at lr 0.01
    take it from 1 to 1.02, with momentum 0.9 to 2.93, and with momentum 0.99 to 27.87. w* = (1, 1) / sqrt(2),
    so that no axis is special to a method that scales each coordinate. The seed moves the start to either
    side, by 0.001 rad times a uniform factor of 0.5 to 1.5.

    Source: the 2D toy of AdamP's project page (Heo et al., ICLR 2021). Its text gives the objective as
    -cos(w, w*), but the norms it reports come from the square above.
    """

    card = WorkloadCard(
        name="antipode-2d",
        title="Turn around in the plane",
        description=(
            "Minimise (1 - cos(w, w*))^2 for w in the plane, starting about 0.001 rad from the opposite of "
            "w*. An epoch is 50 steps without noise."
        ),
        source=_SOURCE.format("after the 2D toy of AdamP's project page"),
        metric="function value",
        unit="none",
        direction="minimize",
        target=2e-6,
        epochs=10,
        batch_size=1,
        examples={"train": 50, "validation": 1, "test": 1},
        parameters=2,
        epoch_s=0.015,
    )

    def function(self, direction: Tensor) -> Tensor:
        """Return (1 - cosine to w*) squared [B] at unit vectors [B, 2]."""
        return (1.0 - (direction[..., 0] + direction[..., 1]) * math.sqrt(0.5)) ** 2

    def start(self) -> Tensor:
        """Return the perturbed start [2]."""
        offset = 0.001 * (0.5 + torch.rand(())) * torch.where(torch.rand(()) < 0.5, -1.0, 1.0)
        angle = 5 * math.pi / 4 + offset
        return torch.stack([angle.cos(), angle.sin()])


class _Direction(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        # A matrix with one row, because AdamP and SGDP never project a one-dimensional tensor.
        self.weight = nn.Parameter(start.unsqueeze(0))

    def forward(self, inputs: Tensor) -> Tensor:  # [B] to [B, dimensions]
        return (self.weight / self.weight.square().sum().sqrt()).expand(inputs.shape[0], -1)


def _empty(examples: int) -> Split:
    return Split(inputs=torch.zeros(examples), targets=torch.zeros(examples))
