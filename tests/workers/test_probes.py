"""Probes return the numbers that were calculated by hand."""

import math
from typing import cast

import pytest
import torch
from torch import nn

from adamp import SGDP, AdamP
from workers.probes import MAX_PROBED_STEPS, Probe, Projection, probed_steps, weight_norm, weights_of

__all__: list[str] = []


def parameter(*row: float, gradient: tuple[float, ...]) -> nn.Parameter:
    weight = nn.Parameter(torch.tensor([row]))
    weight.grad = torch.tensor([gradient])
    return weight


def move(weight: nn.Parameter, *row: float) -> None:
    with torch.no_grad():
        weight.copy_(torch.tensor([row]))


def test_a_two_dimensional_weight_gives_the_numbers_calculated_by_hand() -> None:
    # |w| = 5; the first gradient is orthogonal to w, the second has cosine 3/5. Turning (3, 4) to (4, 3)
    # moves the direction by (1/5, -1/5).
    orthogonal, oblique = parameter(3.0, 4.0, gradient=(4.0, -3.0)), parameter(3.0, 4.0, gradient=(10.0, 0.0))
    probe = Probe([orthogonal, oblique], projection=Projection(delta=0.1, eps=1e-8))
    probe.before()
    move(orthogonal, 8.0, 6.0)
    move(oblique, 3.0, 4.0)
    probe.after()
    effective_step, cosine, projected = probe.read()
    assert effective_step == pytest.approx(math.sqrt(2) / 5 / 2)
    assert cosine == pytest.approx(0.6 / 2)
    assert projected == 0.5


def test_several_steps_are_averaged_and_reading_resets_the_mean() -> None:
    weight = parameter(1.0, 0.0, gradient=(1.0, 0.0))
    probe = Probe([weight], projection=None)
    for row in ((1.0, 0.0), (0.0, 1.0)):
        probe.before()
        move(weight, *row)
        probe.after()
    assert probe.read()[:2] == pytest.approx([math.sqrt(2) / 2, 1.0])
    assert all(map(math.isnan, probe.read()))


def test_an_optimizer_that_never_projects_has_no_projected_fraction() -> None:
    probe = Probe([parameter(1.0, 0.0, gradient=(0.0, 1.0))], projection=None)
    probe.before()
    probe.after()
    assert math.isnan(probe.read()[2])


def test_a_zero_weight_has_no_direction_and_a_nan_gradient_is_not_hidden() -> None:
    zero = Probe([parameter(0.0, 0.0, gradient=(1.0, 0.0))], projection=None)
    zero.before()
    zero.after()
    assert zero.read()[:2] == [0.0, 0.0]
    started = parameter(0.0, 0.0, gradient=(1.0, 0.0))
    zero = Probe([started], projection=None)
    zero.before()
    move(started, 0.0, 2.0)
    zero.after()
    assert zero.read()[:2] == [1.0, 0.0]
    broken = Probe([parameter(1.0, 0.0, gradient=(math.nan, 0.0))], projection=None)
    broken.before()
    broken.after()
    assert math.isnan(broken.read()[1])


def test_each_layer_has_its_own_means_and_the_view_that_was_projected() -> None:
    # By channel: every row is orthogonal to its gradient. As a layer: the rows' cosines are 1 and -1, and add
    # up to 0. The third has no gradient in the second step.
    by_channel = parameter(3.0, 4.0, gradient=(4.0, -3.0))
    as_layer = nn.Parameter(torch.eye(2))
    as_layer.grad = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    neither = parameter(1.0, 0.0, gradient=(1.0, 0.0))
    still = parameter(1.0, 0.0, gradient=(1.0, 0.0))
    unused = nn.Parameter(torch.ones(1, 2))
    probe = Probe([by_channel, as_layer, neither, still, unused], projection=Projection(delta=0.1, eps=1e-8))
    probe.before()
    move(by_channel, 7.0, 1.0)
    move(neither, 2.0, 0.0)
    probe.after()
    neither.grad = None
    probe.before()
    probe.after()
    found = probe.layer_means(cast("list[float]", probe.pending().tolist()))
    nan = math.nan
    # From (3, 4) to (7, 1) the direction turns by 45 degrees, and the step is at a right angle to (3, 4).
    assert found.effective_step == pytest.approx(
        [2 * math.sin(math.pi / 8) / 2, 0.0, 0.0, 0.0, nan], nan_ok=True
    )
    assert found.angle[2] == 0.0
    assert [math.isnan(angle) for angle in found.angle] == [True, True, False, True, True]
    assert found.by_channel == pytest.approx([0.5, 0.0, 0.0, 0.0, nan], nan_ok=True)
    assert found.as_layer == pytest.approx([0.0, 1.0, 0.0, 0.0, nan], nan_ok=True)


def test_small_and_large_steps_are_as_precise_as_in_float64() -> None:
    source = torch.Generator().manual_seed(0)
    for scale in (1e-6, 1e-3, 1.0, 1e3):
        weight = nn.Parameter(torch.randn(40, 50, generator=source) * 0.1)
        weight.grad = gradient = torch.randn(40, 50, generator=source)
        probe = Probe([weight], projection=None)
        probe.before()
        before = weight.detach().double()
        with torch.no_grad():
            weight += scale * torch.randn(40, 50, generator=source)
        probe.after()
        after = weight.detach().double()
        effective_step, cosine, _ = probe.read()
        expected = (after / after.norm() - before / before.norm()).norm().item()
        assert effective_step == pytest.approx(expected, rel=1e-5)
        overlap = (before * gradient.double()).sum() / before.norm() / gradient.double().norm()
        assert cosine == pytest.approx(abs(overlap.item()), rel=1e-4)


@pytest.mark.parametrize("name", ["adamp", "sgdp"])
@pytest.mark.parametrize("delta", [0.0, 0.1, 2.0])
def test_the_sums_of_an_optimizers_own_step_give_the_numbers_of_any_other(name: str, delta: float) -> None:
    """The convolution is kept in channels_last, and one weight gets no gradient."""
    read: list[list[float]] = []
    for is_known in (True, False):
        source = torch.Generator().manual_seed(0)
        shapes = ((40, 50), (6, 3, 3, 3), (10,), (2, 2))
        weights = [nn.Parameter(torch.randn(shape, generator=source)) for shape in shapes]
        weights[1].data = weights[1].data.to(memory_format=torch.channels_last)
        optimizer = (AdamP if name == "adamp" else SGDP)(weights, lr=0.01, delta=delta)
        projection = Projection(delta=delta, eps=1e-8)
        matrices = [weight for weight in weights if weight.ndim > 1]
        probe = Probe(matrices, projection=projection, optimizer=optimizer if is_known else None)
        for _ in range(2):
            for weight in weights[:3]:
                weight.grad = torch.randn(weight.shape, generator=source)
            probe.before()
            optimizer.step()
            optimizer.zero_grad()
            probe.after()
        read.append(probe.read())
    assert read[0] == pytest.approx(read[1], rel=1e-5)
    assert read[0][2] == {0.0: 0.0, 0.1: 0.25, 2.0: 1.0}[delta]


def test_weights_without_gradients_and_models_without_weights_are_passed_over() -> None:
    for weights in ([], [nn.Parameter(torch.ones(1, 2))]):
        probe = Probe(weights, projection=Projection(delta=0.1, eps=1e-8))
        probe.before()
        probe.after()
        assert all(map(math.isnan, probe.read()))
    assert weight_norm([]).item() == 0.0


def test_the_norm_is_of_all_weights_and_of_no_bias() -> None:
    model = nn.Linear(2, 1)
    [weight] = weights_of(model)
    assert weight is model.weight
    move(weight, 3.0, 4.0)
    assert weight_norm([weight, torch.full((2, 2), 6.0)]).item() == 13.0


@pytest.mark.parametrize("steps", [1, 33, 75, 1000])
def test_probed_steps_are_few_and_evenly_spaced_from_the_first(steps: int) -> None:
    probed = sorted(probed_steps(steps))
    assert probed[0] == 0
    assert len(probed) == {1: 1, 33: 1, 75: 3, 1000: MAX_PROBED_STEPS}[steps]
    gaps = {later - earlier for earlier, later in zip(probed, [*probed[1:], steps], strict=True)}
    assert max(gaps) - min(gaps) <= 1
