"""The AdamP paper's claims about scale-invariant weights: how fast norms grow with and without projection."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp import SGDP

__all__: list[str] = []

DOUBLE = torch.float64
NEVER, ALWAYS = 0.0, 0.1


def toy_norm(*, momentum: float, delta: float) -> float:
    """Return the final norm in the toy problem on the AdamP project page.

    It minimises (1 - cos(w, w*))^2 in the plane and starts 0.001 rad from the antipode.
    """
    angle = math.pi - 0.001
    weight = Parameter(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=DOUBLE))
    target = torch.tensor([[1.0, 0.0]], dtype=DOUBLE)
    optimizer = SGDP([weight], lr=0.01, momentum=momentum, delta=delta)
    for _ in range(499):
        optimizer.zero_grad()
        cosine = (weight * target).sum() / weight.norm()
        (1 - cosine).square().backward()
        optimizer.step()
    return float(weight.detach().norm())


@pytest.mark.parametrize(
    ("momentum", "delta", "norm"),
    [(0.0, NEVER, 1.02), (0.9, NEVER, 2.93), (0.99, NEVER, 27.87), (0.9, ALWAYS, 1.12), (0.99, ALWAYS, 1.15)],
)
def test_the_toy_problem_ends_at_the_norm_on_the_project_page(
    momentum: float, delta: float, norm: float
) -> None:
    assert toy_norm(momentum=momentum, delta=delta) == pytest.approx(norm, abs=0.005)


def sideways(weight: Parameter, noise: torch.Generator, size: float = 1.0) -> Tensor:
    """Return a random gradient [1, n] of norm `size`, orthogonal to the weight (scale-invariant loss)."""
    w = weight.detach()
    grad = torch.randn(w.shape, generator=noise, dtype=DOUBLE)
    grad -= w * ((grad * w).sum() / w.square().sum())
    return grad * (size / grad.norm())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_norm_grows_by_the_weighted_sum_over_past_steps(momentum: float) -> None:
    """|w'|^2 = |w|^2 + lr^2 |p|^2 + 2 lr^2 sum over k < t of momentum^(t-k) |p_k|^2, with p the buffer.

    At momentum 0 this is gradient descent.
    """
    noise, lr = torch.Generator().manual_seed(0), 0.05
    weight = Parameter(torch.randn((1, 32), generator=noise, dtype=DOUBLE))
    optimizer = SGDP([weight], lr=lr, momentum=momentum, delta=NEVER)
    lengths: list[float] = []
    for _ in range(40):
        before = float(weight.detach().square().sum())
        weight.grad = sideways(weight, noise)
        optimizer.step()
        past = sum(momentum ** (len(lengths) - k) * length for k, length in enumerate(lengths))
        lengths.append(float(optimizer.state[weight]["momentum"].square().sum()))
        expected = before + lr**2 * lengths[-1] + 2 * lr**2 * past
        assert float(weight.detach().square().sum()) == pytest.approx(expected, rel=1e-12)


def test_momentum_grows_the_norm_faster_by_1_plus_2_beta_over_1_minus_beta() -> None:
    """With equal |p| the factor is 19 at 0.9; growth / sum of |p|^2 approaches it from below."""
    noise, lr, steps = torch.Generator().manual_seed(1), 1e-3, 1500
    weight = Parameter(torch.randn((1, 4096), generator=noise, dtype=DOUBLE))
    optimizer = SGDP([weight], lr=lr, momentum=0.9, delta=NEVER)
    start, lengths = float(weight.detach().square().sum()), 0.0
    for _ in range(steps):
        weight.grad = sideways(weight, noise)
        optimizer.step()
        lengths += float(optimizer.state[weight]["momentum"].square().sum())
    growth = float(weight.detach().square().sum()) - start
    assert growth / (lr**2 * lengths) == pytest.approx(1 + 2 * 0.9 / (1 - 0.9), rel=0.02)


@pytest.mark.parametrize("nesterov", [True, False])
def test_projected_steps_satisfy_pythagoras(nesterov: bool) -> None:
    """|w'|^2 = |w|^2 + |dw|^2 at every step, for any momentum buffer."""
    noise = torch.Generator().manual_seed(2)
    weight = Parameter(torch.randn((1, 32), generator=noise, dtype=DOUBLE))
    optimizer = SGDP([weight], lr=0.05, momentum=0.9, nesterov=nesterov, delta=ALWAYS, eps=1e-16)
    for _ in range(40):
        before = weight.detach().clone()
        weight.grad = sideways(weight, noise)
        optimizer.step()
        step = weight.detach() - before
        assert float(weight.detach().square().sum()) == pytest.approx(
            float(before.square().sum() + step.square().sum()), rel=1e-12
        )
