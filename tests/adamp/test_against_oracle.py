"""Property tests against the NumPy oracle in float64, over shapes, memory layouts and hyperparameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from adamp_oracle import Array, adamp_weights, sgdp_weights, tangent
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import adamp

__all__: list[str] = []

STEPS = 4
Layout = tuple[tuple[int, ...], tuple[int, ...]]
Run = tuple[Array, list[str], int, Layout, Layout]

positive = st.floats(1e-4, 0.3)
shared = {
    "lr": positive,
    "eps": st.sampled_from([1e-8, 1e-6, 1e-3]),
    "weight_decay": st.one_of(st.just(0.0), positive),
    "delta": st.one_of(st.just(0.0), st.floats(0.05, 3.0)),
    "wd_ratio": st.floats(0.0, 1.0),
    "nesterov": st.booleans(),
}
betas = st.tuples(st.floats(0.0, 0.99), st.floats(0.5, 0.9999))
adamp_options = st.fixed_dictionaries({**shared, "betas": betas})
sgdp_options = st.fixed_dictionaries(
    {**shared, "momentum": st.floats(0.0, 0.9), "dampening": st.floats(0.0, 0.9)}
)


@st.composite
def layouts(draw: st.DrawFn, rank: int) -> Layout:
    """Return the order in which dimensions are stored, and how many elements each one skips."""
    return tuple(draw(st.permutations(range(rank)))), tuple(
        draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    )


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Return the initial weight, the kind of each gradient, a seed, and the weight and gradient layouts."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    kinds = draw(
        st.lists(
            st.sampled_from(["noise", "channel", "layer", "zero", "one row"]), min_size=STEPS, max_size=STEPS
        )
    )
    seed = draw(st.integers(0, 2**32 - 1))
    start = np.random.default_rng(seed).standard_normal(shape) * draw(st.sampled_from([1e-3, 1.0, 1e3]))
    return np.asarray(start), kinds, seed, draw(layouts(len(shape))), draw(layouts(len(shape)))


def gradient(kind: str, weight: Array, noise: np.random.Generator) -> Array:
    grad = np.asarray(noise.standard_normal(weight.shape))
    if weight.ndim < 2 or weight.size == 0 or kind == "noise":
        return grad
    if kind == "one row":
        grad[1:] = tangent(grad, weight, "channel")[1:]
        return grad
    return {
        "zero": np.zeros_like(grad),
        "channel": tangent(grad, weight, "channel"),
        "layer": tangent(grad, weight, "layer"),
    }[kind]


def laid_out(array: Array, layout: Layout) -> Tensor:
    order, skips = layout
    room = torch.full([array.shape[dim] * skips[dim] for dim in order], 9.0, dtype=torch.float64)
    view = (
        room[tuple(slice(None, None, skips[dim]) for dim in order)].permute(*np.argsort(order).tolist())
        if order
        else room
    )
    assert view.shape == array.shape
    return view.copy_(torch.from_numpy(array))


def check(
    build: Callable[..., Any], oracle: Callable[..., list[Array]], run: Run, options: dict[str, Any]
) -> None:
    start, kinds, seed, weight_layout, grad_layout = run
    noise = np.random.default_rng(seed + 1)
    weight = torch.nn.Parameter(laid_out(start, weight_layout))
    optimizer = build([weight], **options)
    grads: list[Array] = []
    for kind in kinds:
        grads.append(gradient(kind, weight.detach().numpy().copy(), noise))
        weight.grad = laid_out(grads[-1], grad_layout)
        optimizer.step()
    expected = oracle(start, grads, **options)[-1]
    np.testing.assert_allclose(
        weight.detach().numpy(),
        expected,
        rtol=1e-9,
        atol=1e-9 * max(1.0, float(np.abs(start).max(initial=0.0))),
    )


@settings(max_examples=60)
@given(run=runs(), options=adamp_options)
def test_adamp_matches_algorithm_2_on_any_shape_layout_and_value(run: Run, options: dict[str, Any]) -> None:
    check(adamp.AdamP, adamp_weights, run, options)


@settings(max_examples=60)
@given(run=runs(), options=sgdp_options)
def test_sgdp_matches_algorithm_1_on_any_shape_layout_and_value(run: Run, options: dict[str, Any]) -> None:
    check(adamp.SGDP, sgdp_weights, run, options)
