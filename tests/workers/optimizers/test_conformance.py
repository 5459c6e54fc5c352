"""Every optimizer of the catalogue against a float64 oracle and on small problems; a card is a row."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from optimizer_configurations import lively, unusual
from optimizer_oracles import ORACLES, followed
from optimizer_page import page
from torch import Tensor, nn
from toy_regression import build_model, gradients_of, loss_of, stepped

from studies.space import Parameters, Range
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers

__all__: list[str] = []

ENTRIES = load_optimizers()
SCHEDULE = (1.0, 0.5, 2.0, 1.0, 0.0, 1.0, 0.3, 1.0, 1.0, 1.0, 0.1, 1.0)
STEPS = 120

STEEPER: dict[str, Parameters] = {"lars": {"trust_coefficient": 0.02}, "sam-sgd": {"rho": 1e-4}}
"""Settings with which an optimizer gets down the small problems in the given number of steps."""

STARTS_LATE = {"soap": 1}
"""Steps that an optimizer lets pass before its first move."""

STANDS_STILL = {"prodigy"}
"""Optimizers that do not even decay weights in a step without any gradient."""


@pytest.fixture(params=list(ENTRIES))
def entry(request: pytest.FixtureRequest) -> OptimizerEntry:
    return ENTRIES[request.param]


@pytest.mark.parametrize("choose", [lively, unusual])
def test_the_trajectory_is_the_oracles(
    entry: OptimizerEntry, choose: Callable[[OptimizerEntry], Parameters]
) -> None:
    """The learning rate follows a schedule, and biases and norms have no weight decay."""
    oracle, parameters = ORACLES[entry.card.name], choose(entry)
    model, other = build_model(), build_model()
    optimizer = build_optimizer(entry, model, parameters, decay_1d=False)
    full, weights = entry.card.completed(parameters), list(other.parameters())
    apart = {id(w) for w in entry.set_apart(other)} if entry.set_apart is not None else set[int]()
    own = [
        {
            **full,
            "weight_decay": full["weight_decay"] if w.ndim > 1 else 0.0,
            "set_apart": id(w) in apart,
            "parameter": w,
        }
        for w in weights
    ]
    steps = followed(oracle, weights, own)
    torch.manual_seed(0)
    states = [torch.get_rng_state()] * 2
    for step, factor in enumerate(SCHEDULE):
        rows = slice(8 * (step % 4), 8 * (step % 4) + 8)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        torch.set_rng_state(states[0])
        stepped(optimizer, lambda rows=rows: loss_of(model, rows=rows))
        states[0] = torch.get_rng_state()
        torch.set_rng_state(states[1])
        for _ in range(oracle.passes):
            grads = gradients_of(other, lambda rows=rows: loss_of(other, rows=rows))
            moved = steps.send(
                (
                    grads if entry.card.needs == "curvature" else [grad.detach() for grad in grads],
                    float(full["lr"]) * factor,
                )
            )
            with torch.no_grad():
                for weight, new in zip(weights, moved, strict=True):
                    weight.copy_(new)
        states[1] = torch.get_rng_state()
        for mine, theirs in zip(model.parameters(), weights, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0.0, atol=oracle.tolerance)


class Surface(nn.Module):
    """A function of 12 numbers in a matrix and 3 in a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def point(self) -> Tensor:
        """Return all numbers, [15]."""
        return torch.cat([self.weight.flatten(), self.bias])


_CURVATURES = torch.logspace(-1, 1, 15, dtype=torch.float64)
_ROTATION = torch.linalg.qr(
    torch.randn(15, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
).Q


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * (_CURVATURES * x.square()).sum()


def rotated(x: Tensor) -> Tensor:
    return quadratic(_ROTATION @ x)


def saddle(x: Tensor) -> Tensor:
    """Return the height, which is 0 at the saddle and -1/4 in both valleys."""
    return 0.25 * x[0] ** 4 - 0.5 * x[0] ** 2 + 0.5 * x[1:].square().sum()


def descends(
    entry: OptimizerEntry, lr: float, height: Callable[[Tensor], Tensor], *, noise: float, below: float
) -> bool:
    """Return whether the mean height of ten steps in a row gets below a bound."""
    torch.manual_seed(0)
    noises = noise * torch.randn(STEPS, 15, dtype=torch.float64)
    surface = Surface()
    if height is saddle:
        with torch.no_grad():
            surface.weight[0, 0] = 1e-3
    parameters = {**entry.card.defaults, "lr": lr} | STEEPER.get(entry.card.name, {}) | {"weight_decay": 0.0}
    optimizer = build_optimizer(entry, surface, parameters, decay_1d=True)
    heights: deque[float] = deque([math.inf] * 10, maxlen=10)
    for step in range(STEPS):
        stepped(optimizer, lambda step=step: height(surface.point()) + noises[step] @ surface.point())
        heights.append(height(surface.point()).item())
        if sum(heights) / 10 < below:
            return True
    return False


def rates(entry: OptimizerEntry) -> Iterator[float]:
    """Yield learning rates from the card, those first that go far in a few steps."""
    hyperparameter = entry.card.hyperparameter("lr")
    assert hyperparameter is not None
    dimension = hyperparameter.search
    assert isinstance(dimension, Range)
    for share in (0.8, 1.0, 0.6, 0.4):
        yield dimension.low * (dimension.high / dimension.low) ** share


@pytest.mark.parametrize(
    ("height", "noise", "bound"),
    [(quadratic, 0.0, 0.1), (rotated, 0.0, 0.1), (saddle, 0.0, 0.0), (rotated, 0.3, 0.2)],
    ids=["quadratic", "rotated quadratic", "saddle", "noisy valley"],
)
def test_some_learning_rate_of_the_cards_range_goes_down(
    entry: OptimizerEntry, height: Callable[[Tensor], Tensor], noise: float, bound: float
) -> None:
    """The mean height of ten steps in a row gets below a share of the first height."""
    below = bound * height(Surface().point()).item()
    assert any(descends(entry, lr, height, noise=noise, below=below) for lr in rates(entry))


def after_gradients(
    entry: OptimizerEntry, parameters: Parameters, grads: Callable[[int, Tensor], Tensor], *, steps: int
) -> list[list[Tensor]]:
    """Return a surface's weights before the first step and after each."""
    surface = Surface()
    optimizer = build_optimizer(entry, surface, parameters, decay_1d=True)
    trajectory = [[p.detach().clone() for p in surface.parameters()]]
    for step in range(steps):
        now = [grads(step, p.detach()) for p in surface.parameters()]
        stepped(
            optimizer,
            lambda now=now: torch.stack(
                [(p * g).sum() for p, g in zip(surface.parameters(), now, strict=True)]
            ).sum(),
        )
        trajectory.append([p.detach().clone() for p in surface.parameters()])
    return trajectory


def test_nothing_moves_without_a_gradient_and_weight_decay(entry: OptimizerEntry) -> None:
    parameters = entry.card.defaults | {"weight_decay": 0.0}
    trajectory = after_gradients(entry, parameters, lambda _, w: torch.zeros_like(w), steps=3)
    for weights, first in itertools.product(trajectory, trajectory[:1]):
        assert all(torch.equal(w, f) for w, f in zip(weights, first, strict=True))


def test_weight_decay_is_where_its_description_says(entry: OptimizerEntry) -> None:
    """Decoupled decay needs no gradient; an L2 penalty is cancelled by the opposite gradient."""
    decay = entry.card.hyperparameter("weight_decay")
    assert decay is not None
    parameters = lively(entry) | {"weight_decay": 0.1}
    if decay.description.startswith("L2"):
        trajectory = after_gradients(entry, parameters, lambda _, w: -0.1 * w, steps=3)
        weight, first = trajectory[-1][0], trajectory[0][0]
        torch.testing.assert_close(weight, first, rtol=0.0, atol=1e-12)
    else:
        trajectory = after_gradients(entry, parameters, lambda _, w: torch.zeros_like(w), steps=3)
        weight, first = trajectory[-1][0], trajectory[0][0]
        if entry.card.name in STANDS_STILL:
            assert torch.equal(weight, first)
            return
        assert (weight < first).all()
        if "w *= 1 - lr * weight_decay," in decay.description:
            late = STARTS_LATE.get(entry.card.name, 0)
            shrunk = first * (1 - float(parameters["lr"]) * 0.1) ** (3 - late)
            torch.testing.assert_close(weight, shrunk, rtol=1e-6, atol=0.0)


def test_a_plateau_is_survived(entry: OptimizerEntry) -> None:
    """After many steps without any gradient it steps, and no further than 20 times the usual."""

    def moves(*, plateau: int) -> list[float]:
        trajectory = after_gradients(
            entry,
            entry.card.defaults | {"weight_decay": 0.0},
            lambda step, w: torch.zeros_like(w) if 10 <= step < 10 + plateau else w * (1.1 + step % 2),
            steps=20 + plateau,
        )
        flat = [torch.cat([w.flatten() for w in weights]) for weights in trajectory]
        assert all(bool(point.isfinite().all()) for point in flat)
        return [(after - before).norm().item() for before, after in itertools.pairwise(flat)]

    assert 0 < max(moves(plateau=50)[60:]) <= 20 * max(moves(plateau=0))


def test_the_page_is_up_to_date() -> None:
    found = (Path(__file__).parents[3] / "docs" / "optimizers.md").read_text(encoding="utf-8")
    assert found == page(), "run scripts/optimizers-docs"
