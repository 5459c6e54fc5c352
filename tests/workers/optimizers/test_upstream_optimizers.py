"""Behaviour of pytorch_optimizer that our cards rely on or work around.

If a test fails, a new release has changed this behaviour and a card must be adapted.
"""

from collections.abc import Sequence

import pytest
import torch
from pytorch_optimizer import Lamb, Lookahead
from torch import Tensor
from torch.optim import AdamW
from toy_regression import build_model, loss_of, train

from workers.optimizers import build_optimizer, load_optimizers, sam_around

__all__: list[str] = []

ENTRIES = load_optimizers()


def first_relative_steps(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> list[float]:
    before = [w.detach().clone() for w in weights]
    optimizer.step()
    return [((w.detach() - b).norm() / b.norm()).item() for w, b in zip(weights, before, strict=True)]


def test_lamb_with_upstream_defaults_would_start_ten_times_as_fast() -> None:
    model = build_model()
    optimizer = Lamb(model.parameters(), lr=1e-3)
    loss_of(model).backward()
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert first_relative_steps(optimizer, weights) == pytest.approx([1e-2] * len(weights), rel=1e-3)


def test_lookahead_rejects_alpha_1_and_so_must_its_card() -> None:
    with pytest.raises(ValueError, match="alpha must be in the range"):
        Lookahead(AdamW(build_model().parameters()), alpha=1.0)


@pytest.mark.parametrize("name", ["adamp", "lion", "muon", "lookahead-adamw"])
def test_sam_goes_around_optimizers_of_torch_alone(name: str) -> None:
    with pytest.raises(ValueError, match=f"got {name}"):
        sam_around(ENTRIES[name])


def test_a_step_may_overwrite_the_gradients() -> None:
    """This is why probes read gradients before the step."""
    entry = ENTRIES["lars"]
    model = build_model()
    optimizer = build_optimizer(entry, model, entry.card.defaults, decay_1d=True)
    loss_of(model).backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    optimizer.step()
    assert any(
        not torch.equal(b, p.grad)
        for b, p in zip(before, model.parameters(), strict=True)
        if p.grad is not None
    )


def test_schedule_free_weights_differ_between_training_and_evaluation() -> None:
    entry = ENTRIES["schedule-free-adamw"]
    model = build_model()
    optimizer = build_optimizer(entry, model, entry.card.defaults, decay_1d=True)
    last = train(model, optimizer, steps=5)[-1]
    optimizer.eval()  # pyright: ignore[reportAttributeAccessIssue]  # only schedule-free optimizers have it
    assert (torch.cat([p.detach().flatten() for p in model.parameters()]) - last).abs().max() > 1e-5
    optimizer.train()  # pyright: ignore[reportAttributeAccessIssue]  # only schedule-free optimizers have it
    torch.testing.assert_close(
        torch.cat([p.detach().flatten() for p in model.parameters()]), last, rtol=0.0, atol=1e-12
    )
