"""Two functions of a direction alone.

Every weight is scale-invariant by construction, and the answer is known.

There is no data: an example is a step, an epoch a fixed number of them, and validation and test are the
function itself.
"""

__all__ = ["Antipode2d", "Rosenbrock3d"]

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from workers.workloads.workload import Data, Split, Workload

_SOURCE = "No data; {}. Validation and test are the function itself, so there is nothing to generalise to."


class _Toy(Workload):
    """A function of w / |w|; outputs are that direction, repeated for each example [B, dimensions]."""

    @abstractmethod
    def function(self, direction: Tensor) -> Tensor:
        """Return the function's value [B] at unit vectors [B, dimensions]."""

    @abstractmethod
    def start(self) -> Tensor:
        """Return the start, a unit vector [dimensions] drawn from torch's global generator."""

    def load_data(self, device: torch.device) -> Data:
        """Return examples without content, as many for training as an epoch has steps.

        Their target is the function's minimum, 0.
        """
        train, validation, test = (
            _nothing(self.card.examples[split]) for split in ("train", "validation", "test")
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

    x = 2 (u1, u2) with u = w / |w|, and f = (1 - x1)^2 + 100 (x2 - x1^2)^2; the minima are 0 at u = (1/2,
    1/2, ±sqrt(1/2)). The start is the customary x = (-1.2, 1), each coordinate moved by N(0, 0.05) as the
    seed says, on the upper hemisphere and of norm 1.

    Source: AdamP's project page and paper (Heo et al., ICLR 2021), which put Rosenbrock's function on a
    hemisphere with a redundant radius. Deviation: they take angles of spherical coordinates for x; ours are
    coordinates of the unit vector, smooth on the whole sphere, so that a large step meets neither pole nor
    cut.
    """

    card = WorkloadCard(
        name="rosenbrock-3d",
        title="Rosenbrock on the sphere",
        description=(
            "Rosenbrock's function of twice the first two coordinates of w/|w|, w in three dimensions, "
            "from about (-1.2, 1); an epoch is 100 steps without noise."
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
        # Cut at four deviations: beyond about six the point would leave the sphere.
        noise = 0.05 * torch.randn(2).clamp(-4.0, 4.0)
        first_two = (torch.tensor([-1.2, 1.0]) + noise) / 2.0
        return torch.cat([first_two, (1.0 - first_two.square().sum()).sqrt().unsqueeze(0)])


class Antipode2d(_Toy):
    """Turn a vector round: minimise (1 - cos(w, w*))^2 from 0.001 rad off the point opposite to w*.

    Momentum gathers on the flat way out and makes the norm grow: 499 updates of gradient descent at lr 0.01
    take it from 1 to 1.02, with momentum 0.9 to 2.93, with 0.99 to 27.87. w* = (1, 1) / sqrt(2), so that no
    axis is special to a method that scales each coordinate. The seed moves the start: a uniform factor of 0.5
    to 1.5 on the 0.001 rad, to either side.

    Source: the 2D toy of AdamP's project page (Heo et al., ICLR 2021). Its text gives the objective as
    -cos(w, w*), but the norms it reports come from the square above.
    """

    card = WorkloadCard(
        name="antipode-2d",
        title="Turn round in the plane",
        description=(
            "Minimise (1 - cos(w, w*))^2, w in the plane, from about 0.001 rad off the opposite of w*; an "
            "epoch is 50 steps without noise."
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
        # One row, for AdamP and SGDP never project a tensor of one dimension.
        self.weight = nn.Parameter(start.unsqueeze(0))

    def forward(self, inputs: Tensor) -> Tensor:  # [B] to [B, dimensions]
        return (self.weight / self.weight.square().sum().sqrt()).expand(inputs.shape[0], -1)


def _nothing(examples: int) -> Split:
    return Split(inputs=torch.zeros(examples), targets=torch.zeros(examples))
