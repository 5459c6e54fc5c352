"""When a tensor is projected (thresholds, extreme numbers, NaN, 16-bit tensors), and the resulting update."""

import math

import numpy as np
import pytest
import torch
from adamp_oracle import cosines, tangent, view_projected
from torch import Tensor
from torch.nn import Parameter

from adamp import SGDP, AdamP, Decision, decide
from adamp._projection import project

__all__: list[str] = []

EPS = 1e-8


def decision(weight: Tensor, grad: Tensor, *, delta: float = 0.1, eps: float = EPS) -> str | None:
    """Return the projected view under the oracle's name, or None."""
    channel, layer = decide(weight, grad, delta=delta, eps=eps)
    assert channel.shape == layer.shape == ()
    assert not (bool(channel) and bool(layer))
    return "channel" if channel else "layer" if layer else None


def rows_at(angle_cosines: list[float], length: int) -> tuple[Tensor, Tensor]:
    """Return a float64 weight and gradient [rows, length] with the given cosine between each pair of rows."""
    weight, grad = (
        torch.zeros(len(angle_cosines), length, dtype=torch.float64),
        torch.zeros(len(angle_cosines), length, dtype=torch.float64),
    )
    weight[:, 0] = 3.0
    for row, cosine in enumerate(angle_cosines):
        grad[row, 0], grad[row, 1] = 2 * cosine, 2 * math.sqrt(1 - cosine**2)
    return weight, grad


@pytest.mark.parametrize("length", [2, 4, 25])
def test_channels_are_projected_if_every_cosine_is_below_delta_over_root_length(length: int) -> None:
    threshold = 0.1 / math.sqrt(length)
    below, above = 0.999 * threshold, 1.001 * threshold
    assert decision(*rows_at([below, -below, 0.0], length)) == "channel"
    assert decision(*rows_at([below, above, -above], length)) == "layer"
    assert decision(*rows_at([below, above, above], length)) is None


def test_the_layer_is_tested_only_if_the_channels_fail() -> None:
    """No row is orthogonal to its weight, but they lean to opposite sides, so the whole layer is."""
    assert decision(*rows_at([0.9, -0.9], 4)) == "layer"
    assert decision(*rows_at([0.9, 0.9], 4)) is None


def test_a_larger_delta_projects_more_and_delta_0_nothing() -> None:
    weight, grad = rows_at([0.3, 0.4], 4)
    assert [decision(weight, grad, delta=delta) for delta in (0.0, 0.1, 0.81, 100.0)] == [
        None,
        None,
        "channel",
        "channel",
    ]
    assert decision(*rows_at([0.0], 4), delta=0.0) is None


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (3, 0)])
def test_decide_is_false_for_a_tensor_that_is_never_projected(shape: tuple[int, ...]) -> None:
    answer = decide(torch.ones(shape), torch.zeros(shape), delta=1.0, eps=EPS)
    assert not bool(answer.projected)


def test_projected_is_true_if_either_view_is_projected() -> None:
    no, yes = torch.tensor(False), torch.tensor(True)
    assert [bool(Decision(*pair).projected) for pair in ((no, no), (yes, no), (no, yes))] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_decide_predicts_the_view_that_a_step_projects(optimizer: type[AdamP | SGDP]) -> None:
    seen: set[str | None] = set()
    for seed in range(40):
        noise = torch.Generator().manual_seed(seed)
        weight = Parameter(torch.randn((3, 4), generator=noise, dtype=torch.float64))
        grad = torch.randn((3, 4), generator=noise, dtype=torch.float64)
        before = weight.detach().clone()
        weight.grad = grad
        named = decision(weight, grad, delta=1.0)
        optimizer([weight], lr=0.1, delta=1.0).step()
        step = weight.detach() - before
        radial = {"channel": (step * before).sum(1), "layer": (step * before).sum(), None: torch.ones(1)}
        at_right_angles = {view: bool(value.abs().max() < 1e-8) for view, value in radial.items()}
        assert at_right_angles["channel"] == (named == "channel")
        assert at_right_angles["layer"] == (named is not None)
        seen.add(named)
    assert seen == {"channel", "layer", None}


def test_decide_records_no_graph_and_changes_no_tensor() -> None:
    weight, grad = Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))), torch.ones(3, 4)
    before, kept = weight.detach().clone(), list[Tensor]()
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: weight):
        decide(weight, grad, delta=0.1, eps=EPS)
    assert not kept
    assert torch.equal(weight, before)
    assert torch.equal(grad, torch.ones(3, 4))


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e-12, 1e20, 1e37])
def test_zero_tiny_and_huge_gradients_have_cosine_0_and_are_projected(size: float) -> None:
    """The exact cosine is 1, but each norm is at least eps, and the norm of a huge gradient is infinite.

    torch's cosine_similarity gives the same.
    """
    weight = torch.ones(2, 8)
    grad = torch.full((2, 8), size)
    similarity = torch.nn.functional.cosine_similarity(grad, weight, dim=1, eps=EPS)
    assert bool((similarity < 0.1 / math.sqrt(8)).all())
    assert decision(weight, grad) == "channel"


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e15])
def test_gradients_of_moderate_size_keep_their_cosine(size: float) -> None:
    assert decision(torch.ones(2, 8), torch.full((2, 8), size)) is None


def test_each_norm_is_clamped_separately() -> None:
    """Clamping the product of the norms, as older torch versions did, would give cosine 0.01 here, not 1."""
    weight, grad = (
        torch.full((1, 1), 1e-5, dtype=torch.float64),
        torch.full((1, 1), 1e-5, dtype=torch.float64),
    )
    assert decision(weight, grad, delta=0.5, eps=1e-8) is None
    assert decision(weight, grad, delta=0.5, eps=1e-4) == "channel"


def test_norms_near_eps_are_clamped_as_in_the_oracle() -> None:
    noise = np.random.default_rng(0)
    seen: list[str | None] = []
    for _ in range(600):
        weight, grad = (
            noise.standard_normal((3, 4)) * 10 ** noise.uniform(-5, -2, size=(3, 1)) for _ in range(2)
        )
        named = decision(torch.from_numpy(weight), torch.from_numpy(grad), delta=0.4, eps=1e-3)
        assert named == view_projected(grad, weight, delta=0.4, eps=1e-3)
        seen.append(named)
    assert min(seen.count(view) for view in ("channel", "layer", None)) > 60


def test_a_zero_weight_is_projected_and_keeps_its_update() -> None:
    update, weight = torch.ones(2, 3), torch.zeros(2, 3)
    assert bool(project(update, weight, torch.ones(2, 3), delta=0.1, eps=EPS))
    assert torch.equal(update, torch.ones(2, 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_prevents_both_views(bad: float) -> None:
    weight, grad = rows_at([0.0, 0.0, 0.0], 4)
    grad[1, 0] = bad
    assert decision(weight, grad) is None
    update = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    expected = update.clone()
    assert not bool(project(update, weight, grad, delta=0.1, eps=EPS))
    assert torch.equal(update, expected)


def test_a_nan_in_the_update_does_not_spread_if_nothing_is_projected() -> None:
    weight, grad = rows_at([0.9, 0.9], 4)
    update = torch.ones(2, 4, dtype=torch.float64)
    update[0, 0] = float("nan")
    project(update, weight, grad, delta=0.1, eps=EPS)
    assert int(update.isnan().sum()) == 1


def test_a_nan_in_the_update_stays_visible_if_the_tensor_is_projected() -> None:
    weight, grad = rows_at([0.0, 0.0], 4)
    update = torch.ones(2, 4, dtype=torch.float64)
    update[0, 2] = float("nan")
    assert bool(project(update, weight, grad, delta=0.1, eps=EPS))
    assert bool(update[0, 2].isnan())
    assert not bool(update[1].isnan().any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(16, 64), (8, 4, 3, 3), (64, 576)])
def test_16_bit_tensors_are_decided_correctly_a_thousandth_from_the_threshold(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    noise = torch.Generator().manual_seed(1)
    for _ in range(20):
        weight, grad = (torch.randn(shape, generator=noise).to(dtype) for _ in range(2))
        largest = cosines(grad.double().numpy(), weight.double().numpy(), "channel", EPS).max() * math.sqrt(
            weight[0].numel()
        )
        assert decision(weight, grad, delta=1.001 * largest) == "channel"
        assert decision(weight, grad, delta=0.999 * largest) != "channel"


def test_cosines_summed_in_bfloat16_would_be_off_by_a_tenth_of_the_threshold() -> None:
    noise = torch.Generator().manual_seed(1)
    weight, grad = (torch.randn((64, 576), generator=noise).bfloat16() for _ in range(2))
    exact = cosines(grad.double().numpy(), weight.double().numpy(), "channel", EPS)
    narrow = torch.nn.functional.cosine_similarity(grad, weight, dim=1).abs().double().numpy()
    assert np.abs(exact - narrow).max() > 0.1 * 0.1 / math.sqrt(576)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_update_is_projected_in_float32(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(2)
    weight = torch.randn((4, 64), generator=noise).to(dtype)
    grad, update = torch.zeros_like(weight), torch.randn((4, 64), generator=noise).to(dtype)
    exact = torch.from_numpy(tangent(update.double().numpy(), weight.double().numpy(), "channel", EPS)).to(
        dtype
    )
    assert bool(project(update, weight, grad, delta=0.1, eps=EPS))
    torch.testing.assert_close(update, exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("wd_ratio", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("projected", [True, False])
def test_the_decay_of_a_projected_tensor_is_multiplied_by_wd_ratio(wd_ratio: float, projected: bool) -> None:
    weight, grad = rows_at([0.0 if projected else 0.9] * 2, 4)
    changes: list[Tensor] = []
    for weight_decay in (0.0, 0.5):
        parameter = Parameter(weight.clone())
        parameter.grad = grad
        AdamP([parameter], lr=0.1, weight_decay=weight_decay, wd_ratio=wd_ratio).step()
        changes.append(parameter.detach())
    expected = -0.1 * 0.5 * (wd_ratio if projected else 1.0) * weight
    torch.testing.assert_close(changes[1] - changes[0], expected, rtol=0, atol=1e-15)


def test_the_decision_uses_the_raw_gradient_and_not_the_momentum() -> None:
    """The buffer points along the weight but this step's gradient does not, so the step is projected to 0."""
    weight = Parameter(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    optimizer = SGDP([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.step()
    assert weight[0].tolist() == pytest.approx([0.9, 0.0])
    weight.grad = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    optimizer.step()
    assert weight[0].tolist() == pytest.approx([0.9, -0.1])
