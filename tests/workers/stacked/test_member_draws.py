"""Each member of a stack draws, from its own seed, the very numbers that it draws alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap  # pyright: ignore[reportUnknownVariableType]
from torch.nn import functional

from workers.stacked.member_draws import MemberDraws

__all__: list[str] = []

SEEDS = (7, 3, 7, 2**52)
DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: functional.dropout(x, 0.3),
    "dropout of channels": lambda x: functional.dropout2d(x, 0.5),
    "alpha dropout": lambda x: functional.alpha_dropout(x, 0.3, training=True),
    "gumbel": functional.gumbel_softmax,
    "noise": lambda x: x + torch.randn_like(x),
    "noise without a member's axis": lambda x: x + torch.rand(6) + torch.randint(2, 9, (6,)),
    "in place": lambda x: x * x.new_empty(5, 1, 1, 1).bernoulli_(0.5),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.4),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_member_draws_the_numbers_that_it_draws_alone(draw: Callable[[Tensor], Tensor]) -> None:
    inputs = torch.linspace(-1, 1, 4 * 5 * 3 * 4 * 6).reshape(4, 5, 3, 4, 6)
    before = torch.get_rng_state()
    draws = MemberDraws(SEEDS)
    with draws:
        together = [vmap(draw, randomness="different")(inputs) for _ in range(3)]
    assert draws.has_drawn
    assert torch.equal(torch.get_rng_state(), before), "the global generator must not change"
    for member, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        for step in together:
            torch.testing.assert_close(step[member], draw(inputs[member]), rtol=1e-6, atol=1e-6)


def test_gradients_flow_through_each_members_own_mask() -> None:
    weights = torch.ones(4, 50, requires_grad=True)
    with MemberDraws(SEEDS):
        vmap(lambda w: functional.dropout(w, 0.5).sum(), randomness="different")(weights).sum().backward()
    assert weights.grad is not None
    for member, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        assert torch.equal(weights.grad[member], functional.dropout(torch.ones(50), 0.5))


def test_a_model_without_random_numbers_draws_none() -> None:
    draws = MemberDraws(SEEDS)
    with draws:
        vmap(nn.Identity(), randomness="different")(torch.ones(4, 2))
    assert not draws.has_drawn
