"""Invalid hyperparameters and gradients of AdamP and SGDP, and their error messages."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from adamp import SGDP, AdamP

__all__: list[str] = []

NAN, INF = float("nan"), float("inf")
SHARED: list[tuple[str, Any]] = [
    (name, value)
    for name in ("lr", "eps", "weight_decay", "delta", "wd_ratio")
    for value in (-0.25, NAN, INF, "0.1")
]
BAD_ADAMP: list[tuple[str, Any]] = [
    *SHARED,
    *(("betas", (beta, 0.999)) for beta in (-0.5, 1.0, NAN)),
    *(("betas", (0.9, beta)) for beta in (-0.5, 1.0, NAN, "0.5")),
    ("betas", 0.9),
    ("betas", (0.9,)),
    ("betas", (0.9, 0.99, 0.999)),
]
BAD_SGDP: list[tuple[str, Any]] = [
    *SHARED,
    *(("momentum", value) for value in (-0.1, 1.0, 1.5, NAN, INF)),
    *(("dampening", value) for value in (-0.1, 1.5, NAN, INF)),
]
BAD = [(AdamP, *pair) for pair in BAD_ADAMP] + [(SGDP, *pair) for pair in BAD_SGDP]


def parameter() -> Parameter:
    return Parameter(torch.ones(2, 3))


def printed(value: object) -> str:
    """Return a pattern that matches the invalid number, or all of them."""
    if isinstance(value, tuple) and len(value) == 2:
        value = next(beta for beta in value if beta not in (0.9, 0.999))
    return re.escape(repr(value))


@pytest.mark.parametrize(("optimizer", "name", "value"), BAD)
def test_an_invalid_value_raises_an_error_that_prints_it(
    optimizer: Callable[..., Any], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"expects {name[:4]}.*got {printed(value)}"):
        optimizer([parameter()], **{"lr": 0.1, name: value})


@pytest.mark.parametrize(("optimizer", "name", "value"), BAD)
def test_a_group_with_an_invalid_value_is_not_added(
    optimizer: Callable[..., Any], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=printed(value)):
        optimizer([{"params": [parameter()], name: value}], lr=0.1)
    built = optimizer([parameter()], lr=0.1)
    with pytest.raises(ValueError, match=printed(value)):
        built.add_param_group({"params": [parameter()], name: value})
    assert len(built.param_groups) == 1


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
@pytest.mark.parametrize("name", ["eps", "weight_decay", "delta"])
def test_a_tensor_hyperparameter_raises_an_error_with_advice(
    optimizer: Callable[..., Any], name: str
) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} to be a Python number.*tensor\(0\.1000\); pass its \.item\(\)"
    ):
        optimizer([parameter()], **{"lr": 0.1, name: torch.tensor(0.1)})


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_values_at_the_bounds_are_accepted(optimizer: Callable[..., Any]) -> None:
    optimizer([parameter()], lr=0, eps=0, weight_decay=0, delta=0, wd_ratio=0)
    optimizer([parameter()], lr=1, delta=1e9, wd_ratio=2)


def test_nesterov_without_momentum_is_accepted_as_in_the_reference() -> None:
    weight = parameter()
    weight.grad = torch.full((2, 3), 2.0)
    SGDP([weight], lr=0.25, nesterov=True).step()
    assert torch.equal(weight, torch.full((2, 3), 0.5))


def test_sgdp_needs_lr_unless_every_group_has_one() -> None:
    with pytest.raises(ValueError, match="lr"):
        SGDP([parameter()])
    optimizer = SGDP([{"params": [parameter()], "lr": 0.25}])
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [parameter()]})


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1, "weight_decay": 1.0, "momentum": 0.95},
        {"lr": 1.0, "weight_decay": 1.0},
        {"lr": 0.5, "weight_decay": 0.5, "momentum": 0.5, "wd_ratio": 2.0},
    ],
)
def test_a_decay_that_flips_the_weight_raises_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"SGDP expects lr \* weight_decay / \(1 - momentum\).*below 1.*got "
            rf".*lr={options['lr']}.*lower one"
        ),
    ):
        SGDP([parameter()], **options)
    optimizer = SGDP([parameter()], lr=1e-3)
    with pytest.raises(ValueError, match="below 1"):
        optimizer.add_param_group({"params": [parameter()], **options})


def test_a_decay_just_below_1_is_accepted() -> None:
    SGDP([parameter()], lr=0.1, weight_decay=0.99, momentum=0.9)


@pytest.mark.parametrize(("optimizer", "name"), [(AdamP, "AdamP"), (SGDP, "SGDP")])
def test_a_sparse_gradient_raises_an_error_with_advice(optimizer: Callable[..., Any], name: str) -> None:
    embedding = torch.nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{name} expects dense gradients.*sparse=False"):
        optimizer(embedding.parameters(), lr=0.1).step()


@pytest.mark.parametrize(("optimizer", "name"), [(AdamP, "AdamP"), (SGDP, "SGDP")])
def test_a_complex_gradient_raises_an_error_with_advice(optimizer: Callable[..., Any], name: str) -> None:
    weight = Parameter(torch.ones(2, 2, dtype=torch.complex64))
    weight.grad = torch.ones(2, 2, dtype=torch.complex64)
    built = optimizer([weight], lr=0.1)
    with pytest.raises(TypeError, match=f"{name} expects real gradients.*view_as_real"):
        built.step()
    assert not built.state[weight]
