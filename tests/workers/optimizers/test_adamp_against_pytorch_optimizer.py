"""Where our AdamP and SGDP differ from pytorch_optimizer's, and why."""

import math
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn

import adamp

__all__: list[str] = []


def one_weight(gradient: Tensor) -> nn.Parameter:
    """Return a weight of ones with this gradient, in the gradient's shape and memory layout."""
    weight = nn.Parameter(torch.ones_like(gradient))
    weight.grad = gradient.clone()
    return weight


def test_pytorch_optimizer_adds_eps_before_the_bias_correction_and_ours_after_it_like_adamw() -> None:
    gradient = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)
    eps, beta2 = 1e-2, 0.999
    theirs, ours, rescaled, adamw = (one_weight(gradient) for _ in range(4))
    pytorch_optimizer.AdamP([theirs], delta=0.0, eps=eps).step()
    adamp.AdamP([ours], delta=0.0, eps=eps).step()
    adamp.AdamP([rescaled], delta=0.0, eps=eps / math.sqrt(1 - beta2)).step()
    torch.optim.AdamW([adamw], weight_decay=0.0, eps=eps).step()
    assert (theirs - ours).abs().max() > 1e-4
    torch.testing.assert_close(theirs, rescaled, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(ours, adamw, rtol=0.0, atol=1e-12)


def test_pytorch_optimizer_has_a_default_learning_rate_for_sgdp_and_ours_requires_one() -> None:
    assert pytorch_optimizer.SGDP([one_weight(torch.ones(2, 2))]).param_groups[0]["lr"] == 1e-3
    with pytest.raises(ValueError, match="lr"):
        adamp.SGDP([one_weight(torch.ones(2, 2))])


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_pytorch_optimizer_cannot_decay_projected_weights_in_full_and_ours_can(name: str) -> None:
    with pytest.raises(ValueError, match="wd_ratio must be in the range"):
        getattr(pytorch_optimizer, name)([one_weight(torch.ones(2, 2))], lr=0.1, wd_ratio=1.0)
    assert (
        getattr(adamp, name)([one_weight(torch.ones(2, 2))], lr=0.1, wd_ratio=1.0).param_groups[0]["wd_ratio"]
        == 1.0
    )


def test_pytorch_optimizer_accepts_a_decay_that_flips_weights_and_ours_rejects_it() -> None:
    settings: dict[str, Any] = {"lr": 1.0, "weight_decay": 0.5, "momentum": 0.9}
    weight = one_weight(torch.zeros(2, 2))
    pytorch_optimizer.SGDP([weight], delta=0.0, **settings).step()
    assert (weight < 0).all()
    with pytest.raises(ValueError, match=r"lr \* weight_decay"):
        adamp.SGDP([one_weight(torch.zeros(2, 2))], **settings)


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_pytorch_optimizer_fails_on_channels_last_gradients_and_ours_does_not(name: str) -> None:
    gradient = torch.arange(16.0).reshape(2, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view"):
        getattr(pytorch_optimizer, name)([one_weight(gradient)], lr=0.1).step()
    weight, plain = one_weight(gradient), one_weight(gradient.contiguous())
    for each in (weight, plain):
        getattr(adamp, name)([each], lr=0.1).step()
    torch.testing.assert_close(weight, plain)


def test_pytorch_optimizer_overwrites_the_gradient_when_maximizing_and_ours_does_not() -> None:
    gradient = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    theirs, ours = one_weight(gradient), one_weight(gradient)
    pytorch_optimizer.AdamP([theirs], maximize=True).step()
    adamp.AdamP([ours], maximize=True).step()
    assert theirs.grad is not None
    assert ours.grad is not None
    assert torch.equal(theirs.grad, -gradient)
    assert torch.equal(ours.grad, gradient)
