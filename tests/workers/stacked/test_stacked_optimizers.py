"""The law of batched optimizers: each member takes the same steps as with its own optimizer alone.

The law holds for all hyperparameters. A new optimizer is one more row.
"""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from studies.catalog import Hyperparameter
from studies.space import Choices, Parameters, Range, Scalar
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers
from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.optimizer import Coefficients, StackedOptimizer, hyperparameters_of

__all__: list[str] = []

ENTRIES = {name: entry for name, entry in load_optimizers().items() if entry.stacked is not None}
MEMBERS, STEPS = 6, 60
PROJECTED = [
    name for name, entry in ENTRIES.items() if entry.stacked is not None and entry.stacked.can_project
]


@pytest.fixture(params=list(ENTRIES))
def entry(request: pytest.FixtureRequest) -> OptimizerEntry:
    return ENTRIES[request.param]


def test_the_requested_optimizers_have_a_batched_form() -> None:
    assert set(ENTRIES) == {"adamp", "sgdp", "adamw", "adam", "sgd", "sgd-nesterov", "qhadam", "qhadamw"}


def model() -> nn.Module:
    """Return a model with every kind of parameter that optimizers distinguish.

    Its 1-D parameters come before and between the others.
    """
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Conv2d(2, 3, 3, bias=False), nn.Linear(3, 1))


def drawn(hyperparameter: Hyperparameter, generator: np.random.Generator) -> Scalar:
    """Return a random value, sometimes the default or the lower bound, which have special cases."""
    search, luck = hyperparameter.search, generator.random()
    if luck < 0.15:
        return hyperparameter.default
    match search:
        case Choices(choices=choices):
            return choices[int(generator.integers(len(choices)))]
        case Range(low=low, high=high, log=log):
            low, high = (np.log(low), np.log(high)) if log else (low, high)
            value = low + generator.random() * (high - low)
            return hyperparameter.typed(float(np.exp(value) if log else value))
        case _:
            raise AssertionError(search)


def configurations(entry: OptimizerEntry) -> list[Parameters]:
    generator = np.random.default_rng(7)
    found: list[Parameters] = []
    while len(found) < MEMBERS:
        one: Parameters = {h.name: drawn(h, generator) for h in entry.card.hyperparameters}
        if all(constraint.holds(one) for constraint in entry.card.constraints):
            found.append(one)
    return found


def gradients(step: int, weights: Tensor) -> Tensor:
    """Return gradients [K, P] that are the same for every member.

    Sometimes they are nearly orthogonal to the weights, so that updates are projected.
    """
    generator = torch.Generator().manual_seed(step)
    raw = (
        torch.randn(weights.shape[1], generator=generator, dtype=torch.float64)
        .to(weights.dtype)
        .expand_as(weights)
    )
    if step % 3:
        return raw.clone()
    return raw * (torch.rand(weights.shape[1], generator=generator) < 0.02)


def solo(
    entry: OptimizerEntry, parameters: Parameters, layout: Layout, start: Tensor, *, decay_1d: bool
) -> tuple[Tensor, dict[str, object]]:
    one = model().to(start.dtype)
    named = dict(one.named_parameters())
    optimizer = build_optimizer(entry, one, parameters, decay_1d=decay_1d)
    initial = [group["lr"] for group in optimizer.param_groups]
    for name, piece in layout.pieces(start.unsqueeze(0)).items():
        named[name].data.copy_(piece[0])
    for step in range(STEPS):
        flat = torch.cat([named[slot.name].detach().flatten() for slot in layout.slots]).unsqueeze(0)
        for name, piece in layout.pieces(gradients(step, flat)).items():
            named[name].grad = piece[0].clone()
        for group, lr in zip(optimizer.param_groups, initial, strict=True):
            group["lr"] = lr * (1 - step / STEPS)
        optimizer.step()
    return torch.cat([named[slot.name].detach().flatten() for slot in layout.slots]), optimizer.state_dict()


def stacked(entry: OptimizerEntry, members: list[Parameters], layout: Layout, start: Tensor) -> Tensor:
    assert entry.stacked is not None
    h = hyperparameters_of(entry.card, members)
    optimizer = entry.stacked(h, layout)
    weights = start.repeat(len(members), 1)
    moments = {name: torch.zeros_like(weights) for name in optimizer.moments}
    for first in (0, STEPS // 2):
        factors = torch.tensor(
            [1 - step / STEPS for step in range(first, first + STEPS // 2)], dtype=torch.float64
        )
        table = optimizer.coefficients(factors.unsqueeze(1) * h["lr"], done=first)
        for step in range(STEPS // 2):
            c = {
                name: numbers.expand(STEPS // 2, -1)[step].to(start.dtype).unsqueeze(1)
                for name, numbers in table.items()
            }
            optimizer.step(weights, gradients(first + step, weights), moments, c)
    return weights


@pytest.mark.parametrize("decay_1d", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_each_member_takes_the_steps_of_its_optimizer_alone(
    entry: OptimizerEntry, decay_1d: bool, dtype: torch.dtype, tolerance: float
) -> None:
    layout = Layout(model(), decay_1d=decay_1d)
    start = torch.randn(layout.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(
        dtype
    )
    members = configurations(entry)
    together = stacked(entry, members, layout, start)
    for row, parameters in zip(together, members, strict=True):
        alone, _ = solo(entry, parameters, layout, start, decay_1d=decay_1d)
        torch.testing.assert_close(row, alone, rtol=tolerance, atol=tolerance * float(alone.abs().max()))


def test_no_two_members_are_equal(entry: OptimizerEntry) -> None:
    layout = Layout(model(), decay_1d=True)
    together = stacked(entry, configurations(entry), layout, torch.ones(layout.size, dtype=torch.float64))
    assert len({tuple(row.tolist()) for row in together}) == MEMBERS


def test_a_diverged_member_does_not_change_the_others(entry: OptimizerEntry) -> None:
    layout = Layout(model(), decay_1d=True)
    members = configurations(entry)
    start = torch.ones(layout.size, dtype=torch.float64)
    usual = stacked(entry, members, layout, start)
    members[2] = {**members[2], "lr": float("nan")}
    lost = stacked(entry, members, layout, start)
    assert lost[2].isnan().all()
    others = [0, 1, 3, 4, 5]
    assert torch.equal(lost[others], usual[others])


@pytest.mark.parametrize("name", PROJECTED)
def test_the_law_is_tested_with_projected_and_unprojected_members(name: str) -> None:
    from workers.optimizers.batched.projection import decide

    layout = Layout(model(), decay_1d=True)
    weights = torch.randn(
        MEMBERS, layout.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    h = hyperparameters_of(ENTRIES[name].card, configurations(ENTRIES[name]))
    decisions = torch.stack(
        [
            torch.logical_or(
                *decide(
                    Layout.rows_of(weights, slot),
                    Layout.rows_of(gradients(step, weights), slot),
                    delta=h["delta"],
                    eps=h["eps"],
                )
            )
            for slot in layout.matrices
            for step in range(STEPS)
        ]
    )
    assert 0.05 < decisions.double().mean() < 0.95
    assert (decisions.any(dim=1) & ~decisions.all(dim=1)).any()


class StackedDescent(StackedOptimizer):
    """An optimizer like one from a user's package, without weight decay, momentum or any other option."""

    moments = ()

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        return {"step": lr * (1 + done)}

    def step(self, weights: Tensor, grads: Tensor, moments: Mapping[str, Tensor], c: Coefficients) -> None:
        assert moments == {}
        self.move(weights, grads, grads, c)


def test_a_users_optimizer_needs_neither_moments_nor_weight_decay() -> None:
    layout = Layout(model(), decay_1d=False)
    optimizer = StackedDescent({"lr": torch.tensor([0.5, 2.0], dtype=torch.float64)}, layout)
    weights, grads = torch.zeros(2, layout.size), torch.ones(2, layout.size)
    optimizer.step(weights, optimizer.with_l2(weights, grads, {}), {}, {"step": torch.tensor([[0.5], [2.0]])})
    assert weights[:, 0].tolist() == [-0.5, -2.0]
    assert optimizer.saved({}, member=0, done=3) == optimizer.saved_group(done=3) == {}
