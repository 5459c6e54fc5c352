"""A package that adds an optimizer and two workloads to the catalogue."""

__all__ = ["SIGNUM", "AugmentedMoons", "Signum", "TwoMoons"]

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from tangent import (
    Bounds,
    Data,
    Hyperparameter,
    LoopWorkload,
    OptimizerCard,
    OptimizerEntry,
    Parameters,
    Range,
    Split,
    TensorWorkload,
    WorkloadCard,
    arguments,
    to_device,
)


class Signum(Optimizer):
    """Step by a constant size along the sign of the momentum.

    Source: Bernstein et al., ICML 2018, arXiv:1802.04434.
    """

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every weight by lr against the sign of its momentum."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    buffer.lerp_(weight.grad, 1 - group["momentum"])
                    weight.sub_(buffer.sign(), alpha=group["lr"])


_CARD = OptimizerCard(
    name="signum",
    title="Signum",
    description="Steps of constant size along the sign of the momentum.",
    reference=(
        "Bernstein et al., signSGD: compressed optimisation for non-convex "
        "problems, ICML 2018, arXiv:1802.04434"
    ),
    import_line="from tangent_own import Signum",
    constructor="Signum",
    hyperparameters=(
        Hyperparameter(
            name="lr",
            description="How far every weight moves in one step.",
            unit="weight per step",
            default=1e-3,
            search=Range(low=1e-5, high=1e-1, log=True),
            source="our choice: two decades below the default and two above",
            tuned=True,
            bounds=Bounds(low=0, low_open=True),
        ),
        Hyperparameter(
            name="momentum",
            description="Fraction of the running mean of gradients that each step keeps.",
            unit="none",
            default=0.9,
            search=Range(low=0.5, high=0.99),
            source="the paper uses 0.9",
            tuned=False,
            bounds=Bounds(low=0, high=1, high_open=True),
        ),
    ),
)


def _build(groups: list[dict[str, Any]], parameters: Parameters) -> Signum:
    keywords: dict[str, Any] = {**arguments(_CARD, parameters)}
    return Signum(groups, **keywords)


SIGNUM = OptimizerEntry(_CARD, build=_build)


class TwoMoons(TensorWorkload):
    """Classify points of two interleaving half circles with a small network."""

    card = WorkloadCard(
        name="two-moons",
        title="Two moons",
        description=(
            "Classify points of two noisy, interleaving half circles; two hidden layers "
            "of 16 units with tanh; cross-entropy."
        ),
        source="Generated: half circles of radius 1 with noise of standard deviation 0.2",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.95,
        epochs=10,
        batch_size=32,
        examples={"train": 600, "validation": 200, "test": 200},
        parameters=354,
        epoch_s=0.01,
    )

    def load_data(self, device: torch.device) -> Data:
        """Return 600, 200 and 200 points; the same ones on every call."""
        generator = torch.Generator().manual_seed(0)
        splits = {name: _moons(count, generator) for name, count in self.card.examples.items()}
        return Data(train=splits["train"], validation=splits["validation"], test=splits["test"]).to(device)

    def build_model(self) -> nn.Module:
        """Return a network with layers of 2, 16, 16 and 2 units."""
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the number of points assigned to the correct half circle."""
        return (outputs.argmax(dim=-1) == targets).sum()


def _moons(count: int, generator: torch.Generator) -> Split:
    targets = torch.arange(count) % 2
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    points = torch.where(targets.unsqueeze(1) == 0, upper, lower)
    return Split(inputs=points + 0.2 * torch.randn(count, 2, generator=generator), targets=targets)


class AugmentedMoons(LoopWorkload):
    """The same points, moved a little at random each time that they are used, from a DataLoader."""

    card = TwoMoons.card.model_copy(
        update={
            "name": "augmented-moons",
            "title": "Two moons, augmented",
            "description": "Two moons with batches from a DataLoader: each point is moved at random by 0.1.",
            "epoch_s": 0.02,
        }
    )

    def build_model(self) -> nn.Module:
        """Return the network of the other workload."""
        return TwoMoons().build_model()

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        """Return shuffled batches of points and their half circles."""
        del epoch
        train = TwoMoons().load_data(torch.device("cpu")).train
        return DataLoader(TensorDataset(train.inputs, train.targets), batch_size=batch_size, shuffle=True)

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean cross-entropy with label smoothing."""
        points, half_circles = batch
        outputs = model(points + 0.1 * torch.randn_like(points))
        return functional.cross_entropy(outputs, half_circles, label_smoothing=0.1)

    def evaluate(
        self, model: nn.Module, split: Literal["validation", "test"], *, device: torch.device
    ) -> Mapping[str, float]:
        """Return the accuracy and the mean cross-entropy."""
        data = TwoMoons().load_data(torch.device("cpu"))
        points, half_circles = to_device((getattr(data, split).inputs, getattr(data, split).targets), device)
        outputs = model(points)
        return {
            "accuracy": (outputs.argmax(dim=-1) == half_circles).float().mean().item(),
            "loss": functional.cross_entropy(outputs, half_circles).item(),
        }
