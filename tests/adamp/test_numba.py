"""The compiled CPU path: independence of guesses and thread counts, visible NaN, and its fallbacks."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp import SGDP, AdamP, _numba, _numba_plan, _plain, decide
from adamp._settings import AdamPSettings, SGDPSettings

__all__: list[str] = []

# Short rows, rows shorter than a tile, several items, a row in segments, and one dimension.
SHAPES = [(1, 2), (7, 9), (5, 3, 3, 3), (40, 4000), (2, 75_648), (6,)]
# "late": only the last row keeps the channel view from holding, when the rows before it have been written.
VIEWS = ("none", "late", "channel", "layer")
OPTIONS: dict[str, Any] = {
    "eps": 1e-8,
    "weight_decay": 0.02,
    "delta": 0.1,
    "wd_ratio": 0.3,
    "maximize": False,
}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradient(weight: Tensor, view: str, seed: int) -> Tensor:
    """Return a gradient for which the named view is projected, if the tensor has more than one row."""
    grad = noise(tuple(weight.shape), 1000 + seed).double()
    if weight.dim() > 1 and view != "none":
        g, w = grad.flatten(1), weight.double().flatten(1)
        squares = w.square().sum(1, keepdim=True).clamp_min(1e-30)
        g = g - w * ((g * w).sum(1, keepdim=True) / squares)
        if view == "layer" and len(w) > 1:
            # The last two rows lean equally far in opposite directions.
            lean = torch.zeros(len(w), dtype=torch.float64)
            lean[-1], lean[-2] = 1.0, -1.0
            g = g + lean[:, None] * w / squares * g.norm()
        if view == "late":
            g[-1] += w[-1] / squares[-1] * g.norm()
        grad = g.reshape(weight.shape)
    elif weight.dim() > 1:
        grad += weight
    return grad.to(weight.dtype)


def adamp_settings(*, nesterov: bool) -> AdamPSettings:
    return AdamPSettings(lr=0.05, beta1=0.9, beta2=0.99, nesterov=nesterov, **OPTIONS)


def sgdp_settings(*, nesterov: bool) -> SGDPSettings:
    return SGDPSettings(lr=0.05, momentum=0.9, dampening=0.1, nesterov=nesterov, **OPTIONS)


def run(
    kind: str,
    view: str,
    guess: int | None,
    *,
    nesterov: bool,
    dtype: torch.dtype = torch.float32,
    steps: int = 2,
) -> list[Tensor]:
    """Return weights and moments after steps on one view.

    Each step starts with the given guess, or without one with the view of the step before.
    """
    weights = [noise(shape, seed, dtype) for seed, shape in enumerate(SHAPES)]
    weights[1][3] = 0.0  # P = 0
    weights[2][1] *= 1e-6  # c far from 0: held
    states = [[torch.zeros_like(weight) for weight in weights] for _ in range(2 if kind == "adamp" else 1)]
    plans = _numba_plan.NumbaPlans()
    for step in range(1, steps + 1):
        plan = plans.plan(weights, projects=True)
        if guess is not None:
            plan.memory[0][:] = guess
        grads = [gradient(weight, view, step + 10 * index) for index, weight in enumerate(weights)]
        if kind == "adamp":
            _numba.adamp_step(
                weights,
                grads,
                states[0],
                states[1],
                [step] * len(weights),
                adamp_settings(nesterov=nesterov),
                plan=plan,
            )
        else:
            _numba.sgdp_step(weights, grads, states[0], sgdp_settings(nesterov=nesterov), plan=plan)
    return [*weights, *(tensor for state in states for tensor in state)]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["adamp", "sgdp"])
def test_a_wrong_guess_does_not_change_a_bit(kind: str, view: str, nesterov: bool) -> None:
    remembered = run(kind, view, None, nesterov=nesterov)
    for guess in range(3):
        for ours, theirs in zip(run(kind, view, guess, nesterov=nesterov), remembered, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("view", VIEWS)
def test_the_gradients_of_these_tests_project_the_views_they_name(view: str) -> None:
    for seed, shape in enumerate(SHAPES[:-1]):
        weight = noise(shape, seed)
        channel, layer = decide(weight, gradient(weight, view, 3), delta=0.1, eps=1e-8)
        # A single row is both a channel and the layer.
        assert (bool(channel), bool(layer)) == (
            (view == "channel" or (view == "layer" and shape[0] == 1)),
            view == "layer" and shape[0] > 1,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["adamp", "sgdp"])
def test_the_kernel_agrees_with_plain_pytorch(kind: str, view: str, dtype: torch.dtype) -> None:
    ours = run(kind, view, None, nesterov=False, dtype=dtype, steps=1)
    weights = [noise(shape, seed, dtype) for seed, shape in enumerate(SHAPES)]
    weights[1][3] = 0.0
    weights[2][1] *= 1e-6
    states = [[torch.zeros_like(weight) for weight in weights] for _ in range(2 if kind == "adamp" else 1)]
    grads = [gradient(weight, view, 1 + 10 * index) for index, weight in enumerate(weights)]
    if kind == "adamp":
        first, second = states
        _plain.adamp_step(weights, grads, first, second, [1] * len(weights), adamp_settings(nesterov=False))
    else:
        _plain.sgdp_step(weights, grads, states[0], sgdp_settings(nesterov=False))
    error = 1e-6 if dtype == torch.float32 else 1e-14
    for mine, plain in zip(ours, [*weights, *(tensor for state in states for tensor in state)], strict=True):
        torch.testing.assert_close(mine, plain, rtol=error, atol=error * float(plain.abs().max()))


@pytest.mark.parametrize("kind", ["adamp", "sgdp"])
def test_float32_errors_of_the_kernel_are_no_larger_than_those_of_plain_pytorch(kind: str) -> None:
    """Compare with float64 on a row of 75,648 elements, once for each decision."""
    weight = noise((3, 75_648), 0)
    grads = [gradient(weight, view, seed) for seed, view in enumerate((*VIEWS, *VIEWS))]
    build: Any = AdamP if kind == "adamp" else SGDP
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1} | (
        {} if kind == "adamp" else {"momentum": 0.9}
    )
    finals: list[Tensor] = []
    for fused, dtype in ((True, torch.float32), (False, torch.float32), (False, torch.float64)):
        parameter = Parameter(weight.to(dtype).clone())
        optimizer = build([parameter], fused=fused, **options)
        for grad in grads:
            parameter.grad = grad.to(dtype)
            optimizer.step()
        finals.append(parameter.detach().double())
    ours, plain, exact = finals
    assert float((ours - exact).norm()) < 1.2 * float((plain - exact).norm())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", ["adamp", "sgdp"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_bits_do_not_depend_on_the_number_of_threads(kind: str, view: str) -> None:
    torch.set_num_threads(1)
    alone = run(kind, view, None, nesterov=True)
    for count in (2, 5):
        torch.set_num_threads(count)
        for guess in (None, 1):
            for ours, theirs in zip(run(kind, view, guess, nesterov=True), alone, strict=True):
                assert torch.equal(ours, theirs)


def test_optimizers_may_step_concurrently_in_threads() -> None:
    def train(seed: int) -> Tensor:
        weight = Parameter(noise((64, 5000), seed))
        optimizer = AdamP([weight], lr=0.01, fused=True)
        for step in range(4):
            weight.grad = noise((64, 5000), 100 + step)
            optimizer.step()
        return weight.detach()

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(train, range(3)))
    for seed, weight in enumerate(together):
        assert torch.equal(weight, train(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("guess", VIEWS)
@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_nan_is_not_projected_stays_visible_and_does_not_reach_other_tensors(
    optimizer: Any, guess: str, dtype: torch.dtype
) -> None:
    def train(bad: float | None) -> list[Tensor]:
        weights = [
            Parameter(noise(shape, seed, dtype)) for seed, shape in enumerate([(6, 50), (4, 3, 2), (9,)])
        ]
        optimizer_, before = optimizer(weights, lr=0.1, weight_decay=0.1, fused=True), weights[0].detach()
        for step, view in enumerate((guess, "channel")):
            for index, weight in enumerate(weights):
                weight.grad = gradient(weight.detach(), view, index)
            if step == 1 and bad is not None and weights[0].grad is not None:
                weights[0].grad[2, 7] = bad
            before = weights[0].detach().clone()
            optimizer_.step()
        state = optimizer_.state[weights[0]]
        return [weight.detach() for weight in weights] + [
            before,
            *(state[name] for name in ("exp_avg", "momentum") if name in state),
        ]

    clean, dirty = train(None), train(float("nan"))
    assert bool(dirty[0][2, 7].isnan())
    assert int(dirty[0].isnan().sum()) == 1
    assert torch.equal(dirty[1], clean[1])
    assert torch.equal(dirty[2], clean[2])
    # Not projected, so the full decay applies and the step keeps its component along the weight.
    if optimizer is SGDP:
        expected = dirty[3] * (1 - 0.1 * 0.1) - 0.1 * dirty[4]
        torch.testing.assert_close(dirty[0], expected, equal_nan=True)


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e-12, 1e20, 1e37, float("inf")])
@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_extreme_gradients_are_decided_as_in_plain_pytorch(optimizer: Any, size: float) -> None:
    weights = [Parameter(torch.ones(2, 8)) for _ in range(2)]
    for weight, fused in zip(weights, (True, False), strict=True):
        weight.grad = torch.full((2, 8), size)
        optimizer([weight], lr=1e-3, weight_decay=0.5, wd_ratio=0.0, fused=fused).step()
    # If the whole step is along the weight, only rounding errors remain after the projection.
    rounding = 1e-6 * 1e-3 * size if optimizer is SGDP and 1 < size < float("inf") else 0
    torch.testing.assert_close(weights[0], weights[1], equal_nan=True, rtol=1e-6, atol=rounding)


def test_unsupported_tensors_take_the_plain_path() -> None:
    gaps = torch.zeros(4, 6)[:, ::2]
    scattered = noise((3, 4), 0).t()
    narrow = torch.ones(2, 3, dtype=torch.bfloat16)
    fits = noise((2, 3), 1)
    params = [Parameter(tensor) for tensor in (gaps, scattered, narrow, fits)]
    optimizer = AdamP(params, lr=0.1, fused=True)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert all(bool((optimizer.state[param]["exp_avg"] != 0).all()) for param in params)
    assert [_numba_plan.have_equal_strides(param) for param in params] == [False, False, False, True]


def test_a_weight_moved_to_other_memory_is_stepped_there() -> None:
    weight = Parameter(noise((4, 6), 0))
    optimizer = SGDP([weight], lr=0.5, delta=0.0, fused=True)
    for other in (noise((4, 6), 1), noise((6, 4), 2).t(), noise((4, 6), 3)):
        weight.data = other
        weight.grad = torch.ones(4, 6)
        expected = other - 0.5
        optimizer.step()
        assert torch.equal(weight, expected)


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_the_second_step_notices_changes_since_the_first(optimizer: Any) -> None:
    """The second step of the same tensors skips most checks; each of these changes must restore them."""

    def train(*, fused: bool) -> list[Tensor]:
        weights = [Parameter(noise(shape, seed)) for seed, shape in enumerate([(4, 6), (6, 6), (5,), (3, 2)])]
        stepping = optimizer(weights, lr=0.1, weight_decay=0.1, fused=fused)

        def step(seed: int, *, without: int | None = None) -> None:
            for index, weight in enumerate(weights):
                weight.grad = None if index == without else noise(tuple(weight.shape), seed + index)
            stepping.step()

        for seed in range(3):
            step(100 * seed)
        step(300, without=1)
        step(400)
        weights[1].data = weights[1].data.t()
        step(500)
        weights[3].data = weights[3].data.reshape(2, 3).clone()
        del stepping.state[weights[3]]
        step(600)
        for name, value in stepping.state[weights[0]].items():
            if isinstance(value, Tensor):
                stepping.state[weights[0]][name] = value.clone().t().contiguous().t()
        step(700)
        stepping.param_groups[0]["delta"] = 0.0
        step(800)
        return [weight.detach() for weight in weights]

    for ours, plain in zip(train(fused=True), train(fused=False), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stale", ["moments", "gradient"])
@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_a_weight_that_grew_raises_an_error_before_memory_past_its_old_end_is_touched(
    optimizer: Any, stale: str
) -> None:
    """Tensors with rows of equal length have equal strides, so strides do not show how many rows exist."""
    room = noise((6, 8), 0)
    weight = Parameter(noise((4, 8), 1))
    stepping = optimizer([weight], lr=0.1, fused=True)
    for _ in range(2):
        weight.grad = noise((4, 8), 2)
        stepping.step()
    names = [name for name, value in stepping.state[weight].items() if isinstance(value, Tensor)]
    if stale == "moments":
        for name in names:
            stepping.state[weight][name] = room[:4]
    else:
        weight.grad = room[:4]
    before = room.clone()
    weight.data = noise((6, 8), 3)
    if stale == "moments":
        weight.grad = noise((6, 8), 4)
    else:
        for name in names:
            stepping.state[weight][name] = torch.zeros(6, 8)
    with pytest.raises(RuntimeError, match=r"shape \(6, 8\).*got shape \(4, 8\)"):
        stepping.step()
    assert torch.equal(room[4:], before[4:])


@pytest.mark.parametrize("optimizer", [AdamP, SGDP])
def test_moments_left_on_another_device_raise_an_error(optimizer: Any) -> None:
    weight = Parameter(noise((4, 8), 0))
    weight.grad = noise((4, 8), 1)
    stepping = optimizer([weight], lr=0.1, fused=True)
    stepping.step()
    state = stepping.state[weight]
    state.update({name: value.to("meta") for name, value in state.items() if isinstance(value, Tensor)})
    with pytest.raises(RuntimeError, match="device"):
        stepping.step()


def test_a_backward_pass_through_a_stepped_weight_raises_an_error() -> None:
    weight = Parameter(torch.ones(2, 2))
    loss = weight.square().sum()
    weight.grad = torch.ones(2, 2)
    SGDP([weight], lr=0.1, fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def _step_there(weight: Parameter, optimizer: AdamP, queue: Any) -> None:
    optimizer.step()
    queue.put(weight.detach()[0, :50].tolist())


@pytest.mark.usefixtures("threads")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_steps_with_its_own_threads() -> None:
    torch.set_num_threads(2)
    weight = Parameter(noise((64, 5000), 0))
    weight.grad = noise((64, 5000), 1)
    optimizer = AdamP([weight], fused=True)
    optimizer.step()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_step_there, args=(weight, optimizer, queue))
    process.start()
    there = queue.get(timeout=60)
    process.join()
    optimizer.step()
    assert there == weight.detach()[0, :50].tolist()


def python(code: str, **environment: str) -> str:
    """Return the output of a separate Python process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_without_numba_steps_take_the_plain_path_and_fused_names_the_missing_package() -> None:
    code = """
import sys
sys.modules["numba"] = None
import torch
from adamp import AdamP
weight = torch.nn.Parameter(torch.ones(2, 3))
weight.grad = torch.ones(2, 3)
AdamP([weight]).step()
print(float(weight[0, 0]) < 1)
try:
    AdamP([weight], fused=True)
except RuntimeError as error:
    print(error)
"""
    stepped, refusal = python(code).splitlines()
    assert stepped == "True"
    assert refusal.startswith("AdamP expects numba to be installed with fused=True on cpu")
    assert "pip install numba" in refusal


def test_numba_is_not_imported_before_the_first_step() -> None:
    code = """
import sys, torch
from adamp import AdamP
weight = torch.nn.Parameter(torch.ones(2, 3))
optimizer = AdamP([weight])
before = "numba" in sys.modules
weight.grad = torch.ones(2, 3)
optimizer.step()
print(before, "numba" in sys.modules)
"""
    assert python(code) == "False True"


def test_compiled_code_is_cached_on_disk_for_the_next_process(tmp_path: Path) -> None:
    code = """
import torch
from adamp import SGDP, _numba_kernels
weight = torch.nn.Parameter(torch.ones(2, 3))
weight.grad = torch.ones(2, 3)
SGDP([weight], lr=0.1, fused=True).step()
print(sum(_numba_kernels.compiled_step().stats.cache_hits.values()))
"""
    assert [python(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)] == ["0", "1"]


@pytest.mark.slow
def test_a_full_disk_does_not_keep_the_first_step_from_being_taken(tmp_path: Path) -> None:
    code = """
import resource, torch
from adamp import AdamP
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
weight = torch.nn.Parameter(torch.ones(2, 3))
weight.grad = torch.ones(2, 3)
optimizer = AdamP([weight], fused=True)
optimizer.step()
print(optimizer.state[weight]["step"], float(weight[0, 0]) < 1)
"""
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == "1 True"
