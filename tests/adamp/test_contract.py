"""The contract of a torch optimizer: flags, tensor lr, checkpoints, hooks, GradScaler, torch.compile."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer

from adamp import SGDP, AdamP

__all__: list[str] = []

Build = Callable[..., Optimizer]
PATHS: dict[str, dict[str, Any]] = {
    "plain": {"fused": False},
    "foreach": {"foreach": True},
    "numba": {"fused": True},
    "chosen": {},
}
SHAPES = [(4, 3, 2, 2), (5, 4), (6,), (), (0, 3)]
both = pytest.mark.parametrize("build", [AdamP, SGDP])


def noise(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameters(dtype: torch.dtype = torch.float64) -> list[Parameter]:
    return [Parameter(noise(shape, seed, dtype)) for seed, shape in enumerate(SHAPES)]


def gradient(param: Parameter, step: int, index: int) -> Tensor:
    """Return a gradient that is orthogonal to every row of the parameter in odd steps."""
    grad = noise(tuple(param.shape), 100 * step + index + 50, param.dtype)
    if step % 2 and param.dim() > 1 and param.numel():
        g, w = grad.flatten(1), param.detach().flatten(1)
        grad = (g - w * ((g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True))).reshape(param.shape)
    return grad


def train(optimizer: Optimizer, params: list[Parameter], steps: range) -> None:
    for step in steps:
        for index, param in enumerate(params):
            param.grad = gradient(param, step, index)
        optimizer.step()


def assert_close(left: list[Parameter], right: list[Parameter], error: float = 1e-13) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=error, atol=error)


@both
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "nesterov": True, "maximize": True},
        {"delta": 0.0, "weight_decay": 0.1},
        {"delta": 100.0},
    ],
    ids=str,
)
def test_all_paths_agree(build: Build, path: str, options: dict[str, Any]) -> None:
    options = {"lr": 0.05, **options, **({"momentum": 0.9, "dampening": 0.1} if build is SGDP else {})}
    ours, plain = parameters(), parameters()
    train(build(ours, **options, **PATHS[path]), ours, range(6))
    train(build(plain, **options, **PATHS["plain"]), plain, range(6))
    assert_close(ours, plain)


@both
@settings(max_examples=40)
@given(data=st.data())
def test_all_paths_agree_on_any_shape_and_layout(build: Build, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    order = data.draw(st.permutations(range(len(shape))))
    skip = data.draw(st.integers(1, 2))
    options = {
        "lr": 0.01,
        "weight_decay": data.draw(st.sampled_from([0.0, 0.1])),
        "delta": data.draw(st.floats(0.0, 3.0)),
    }
    finals: list[Tensor] = []
    for flags in PATHS.values():
        room = torch.zeros([skip * shape[dim] for dim in order], dtype=dtype)
        inverse = sorted(range(len(order)), key=lambda index: order[index])
        weight = Parameter(
            room[tuple(slice(None, None, skip) for _ in shape)].permute(*inverse) if shape else room
        )
        with torch.no_grad():
            weight.copy_(noise(shape, 1, dtype))
        optimizer = build([weight], **options, **flags)
        for step in range(3):
            weight.grad = noise(shape, 10 + step, dtype)
            optimizer.step()
        finals.append(weight.detach().clone())
    for final in finals[1:]:
        torch.testing.assert_close(final, finals[0], rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@both
@pytest.mark.parametrize("before", PATHS)
@pytest.mark.parametrize("after", PATHS)
def test_a_checkpoint_from_one_path_resumes_on_another(build: Build, before: str, after: str) -> None:
    whole, params = parameters(), parameters()
    train(build(whole, lr=0.05, fused=False), whole, range(6))
    optimizer = build(params, lr=0.05, **PATHS[before])
    train(optimizer, params, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = build(params, lr=0.05)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    resumed.param_groups[0].update({"fused": None, "foreach": None, **PATHS[after]})
    train(resumed, params, range(3, 6))
    assert_close(params, whole)


@pytest.mark.parametrize("capturable", [True, False])
def test_step_is_a_tensor_if_capturable_and_an_int_otherwise(capturable: bool) -> None:
    params = parameters()
    optimizer = AdamP(params, capturable=capturable)
    train(optimizer, params, range(2))
    other = AdamP(params, capturable=not capturable)
    for built, is_tensor in ((optimizer, capturable), (other, not capturable)):
        state = copy.deepcopy(optimizer.state_dict())
        state["param_groups"][0]["capturable"] = is_tensor
        built.load_state_dict(state)
        steps = [state["step"] for state in built.state.values()]
        assert [float(step) for step in steps] == [2.0] * len(SHAPES)
        assert all(
            (isinstance(step, Tensor) and step.dtype == torch.float32) if is_tensor else type(step) is int
            for step in steps
        )


def test_an_empty_tensor_counts_its_steps() -> None:
    params = parameters()
    optimizer = AdamP(params)
    train(optimizer, params, range(3))
    assert [optimizer.state[param]["step"] for param in params] == [3] * len(SHAPES)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_kept_in_float32_are_loaded_in_float32(build: Build, dtype: torch.dtype) -> None:
    params = [Parameter(noise((4, 6), 0, dtype))]
    optimizer = build(
        params, lr=1e-2, moments_dtype=torch.float32, **({"momentum": 0.9} if build is SGDP else {})
    )
    train(optimizer, params, range(3))
    name = "exp_avg" if build is AdamP else "momentum"
    saved = copy.deepcopy(optimizer.state_dict())
    twin = build([Parameter(params[0].detach().clone())], lr=1.0)
    twin.load_state_dict(saved)
    loaded = next(iter(twin.state.values()))[name]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, optimizer.state[params[0]][name])
    assert loaded is not saved["state"][0][name]
    assert not torch.equal(loaded, loaded.to(dtype).float())
    narrow = build([Parameter(params[0].detach().clone())], lr=1e-2)
    saved["param_groups"][0]["moments_dtype"] = None
    narrow.load_state_dict(saved)
    assert next(iter(narrow.state.values()))[name].dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_moments_are_more_accurate_than_16_bit_moments(dtype: torch.dtype) -> None:
    errors: list[float] = []
    exact = Parameter(noise((8, 32), 0, dtype).double())
    optimizer = AdamP([exact], lr=1e-2, betas=(0.9, 0.9))
    train(optimizer, [exact], range(8))
    for moments in (torch.float32, None):
        params = [Parameter(noise((8, 32), 0, dtype))]
        narrow = AdamP(params, lr=1e-2, betas=(0.9, 0.9), moments_dtype=moments)
        for step in range(8):
            params[0].grad = noise((8, 32), 100 * step + 50, dtype)
            narrow.step()
        errors.append(float((narrow.state[params[0]]["exp_avg"].double() - _moment(dtype)).norm()))
    assert errors[0] < errors[1] / 10


def _moment(dtype: torch.dtype) -> Tensor:
    moment = torch.zeros(8, 32, dtype=torch.float64)
    for step in range(8):
        moment = 0.9 * moment + (1 - 0.9) * noise((8, 32), 100 * step + 50, dtype).double()
    return moment


@both
def test_a_tensor_lr_acts_like_its_number(build: Build) -> None:
    for flags in (*PATHS.values(), {"capturable": True} if build is AdamP else {}):
        ours, theirs = parameters(), parameters()
        lr = torch.tensor(0.05, dtype=torch.float64)
        if flags.get("foreach") and build is AdamP:
            flags = {**flags, "capturable": True}
        optimizer, twin = (
            build(ours, lr=lr, weight_decay=0.1, **flags),
            build(theirs, lr=0.05, weight_decay=0.1),
        )
        train(optimizer, ours, range(2))
        train(twin, theirs, range(2))
        lr.fill_(0.01)
        twin.param_groups[0]["lr"] = 0.01
        train(optimizer, ours, range(2, 4))
        train(twin, theirs, range(2, 4))
        assert_close(ours, theirs)


@both
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"differentiable": True}, RuntimeError, "expects differentiable=False, got True"),
        ({"foreach": True, "fused": True}, RuntimeError, "at most one of `fused` and `foreach`.*got both"),
        ({"fused": "yes"}, ValueError, "fused to be True, False or None, got 'yes'"),
        ({"lr": torch.ones(2)}, ValueError, "tensor lr to have no dimension"),
        ({"lr": torch.tensor(-1.0)}, ValueError, "lr to be a finite number"),
        ({"moments_dtype": torch.int8}, ValueError, r"moments_dtype to be None .* got torch\.int8"),
    ],
    ids=str,
)
def test_invalid_options_raise_an_error_with_the_reason(
    build: Build, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        build(parameters(), **{"lr": 0.1, **options})


def test_foreach_accepts_a_tensor_lr_only_if_capturable() -> None:
    with pytest.raises(
        ValueError, match=r"with foreach=True and capturable=False.*pass its \.item\(\) or capturable=True"
    ):
        AdamP(parameters(), lr=torch.tensor(0.1), foreach=True)
    AdamP(parameters(), lr=torch.tensor(0.1), foreach=True, capturable=True)


@both
def test_fused_raises_an_error_on_a_device_without_a_kernel(build: Build) -> None:
    meta = Parameter(torch.empty(2, 2, device="meta"))
    with pytest.raises(RuntimeError, match="parameters on cpu or cuda with fused=True, got meta"):
        build([meta], lr=0.1, fused=True)
    optimizer = build(iter(parameters()), lr=0.1, fused=True)
    with pytest.raises(RuntimeError, match="got meta"):
        optimizer.add_param_group({"params": meta})
    assert len(optimizer.param_groups) == 1


@both
@pytest.mark.parametrize("path", ["plain", "numba"])
def test_hooks_are_called_and_copies_contain_only_the_state(build: Build, path: str) -> None:
    params = parameters()
    optimizer = build(params, lr=0.05, **PATHS[path])
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("loading"))
    train(optimizer, params, range(2))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before", "after"] * 2 + ["saved", "loading"]
    assert set(optimizer.state_dict()) == {"state", "param_groups"}
    twin_params, twin = pickle.loads(pickle.dumps((params, build(params, lr=0.05, **PATHS[path]))))
    assert set(vars(twin)) & {"_plans"} == set()
    train(twin, twin_params, range(1))


@both
@pytest.mark.parametrize("path", ["plain", "numba", "foreach"])
def test_grad_scaler_scales_and_skips(build: Build, path: str) -> None:
    ours, theirs = parameters(torch.float32), parameters(torch.float32)
    optimizer, twin = build(ours, lr=0.05, **PATHS[path]), build(theirs, lr=0.05, fused=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    assert getattr(optimizer, "_step_supports_amp_scaling", False) == (path == "numba")
    for step in range(4):
        overflows = step == 2
        scaler.scale(torch.zeros((), requires_grad=True))
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            grad = noise(tuple(a.shape), 100 * step + index, torch.float32)
            a.grad, b.grad = grad * scaler.get_scale(), grad
        if overflows and ours[1].grad is not None:
            ours[1].grad[0, 0] = float("inf")
        before = [param.detach().clone() for param in ours]
        scaler.step(optimizer)
        scaler.update()
        if overflows:
            assert all(torch.equal(a, b) for a, b in zip(before, ours, strict=True))
        else:
            twin.step()
    assert_close(ours, theirs, 1e-6)
    if build is AdamP:
        assert optimizer.state[ours[0]]["step"] == 3


@both
def test_a_float16_gradient_is_unscaled_in_the_precision_of_its_moments(build: Build) -> None:
    param = Parameter(torch.ones(2, 2, dtype=torch.float16))
    optimizer = build([param], lr=0.1, fused=True, moments_dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    scaler.scale(torch.zeros((), requires_grad=True))
    param.grad = torch.full((2, 2), 2.0**-7, dtype=torch.float16)
    scaler.step(optimizer)
    moment = optimizer.state[param]["exp_avg" if build is AdamP else "momentum"]
    torch.testing.assert_close(
        moment, torch.full((2, 2), 2.0**-27 * (0.1 if build is AdamP else 1.0)), rtol=1e-5, atol=0.0
    )


@both
def test_moments_narrower_than_the_weight_do_not_round_the_weight(build: Build) -> None:
    ours, theirs = ([Parameter(noise((8, 32), 0, torch.float32))] for _ in range(2))
    narrow, wide = build(ours, lr=1e-4, moments_dtype=torch.bfloat16), build(theirs, lr=1e-4)
    train(narrow, ours, range(3))
    train(wide, theirs, range(3))
    assert all(
        value.dtype == torch.bfloat16 for name, value in narrow.state[ours[0]].items() if name != "step"
    )
    assert_close(ours, theirs, 1e-5)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("build", "options"),
    [
        (AdamP, {"capturable": True}),
        (AdamP, {}),
        (SGDP, {"momentum": 0.9}),
        (AdamP, {"capturable": True, "lr": torch.tensor(0.05, dtype=torch.float64)}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_step_is_one_graph_and_is_not_recompiled_at_each_step(
    build: Build, options: dict[str, Any], backend: str
) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    options = {"lr": 0.05, "weight_decay": 0.1, **options}
    ours, theirs = parameters()[:3], parameters()[:3]
    optimizer, twin = build(ours, **options), build(theirs, **{**options, "lr": 0.05})
    # The first step fills the state, so that the compiled step is the one that repeats.
    train(optimizer, ours, range(1))
    train(twin, theirs, range(6))
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(optimizer.step, backend=counter, fullgraph=True)
    for step in range(1, 6):
        for index, param in enumerate(ours):
            # In place, because a new gradient tensor at each step would add a guard for the compiler to
            # check.
            assert param.grad is not None
            param.grad.copy_(gradient(param, step, index))
        compiled()
    # A second graph is allowed: the first may turn the int step count into a tensor, or a guard on a gradient
    # may fail once.
    assert counter.frame_count <= 2
    assert_close(ours, theirs)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_checkpoint_of_torch_sgd_resumes_in_sgdp(nesterov: bool) -> None:
    theirs, ours = parameters(), parameters()
    sgd = torch.optim.SGD(theirs, lr=0.05, momentum=0.9, nesterov=nesterov)
    sgdp = SGDP(ours, lr=1.0, delta=0.0)
    for step in range(6):
        for index, param in enumerate(theirs):
            param.grad = gradient(param, step, index)
        if step == 3:
            sgdp.load_state_dict(copy.deepcopy(sgd.state_dict()))
            for mine, its in zip(ours, theirs, strict=True):
                mine.data.copy_(its.data)
        if step >= 3:
            for mine, its in zip(ours, theirs, strict=True):
                assert its.grad is not None
                mine.grad = its.grad.clone()
            sgdp.step()
        sgd.step()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=0.0, atol=1e-13)


def test_a_checkpoint_of_torch_sgd_without_momentum_starts_a_new_buffer() -> None:
    weight, other = parameters()[0], parameters()[0]
    weight.grad, other.grad = gradient(weight, 1, 0), gradient(other, 1, 0)
    sgd = torch.optim.SGD([weight], lr=0.05)
    sgd.step()
    sgdp = SGDP([other], lr=0.05)
    sgdp.load_state_dict(sgd.state_dict())
    sgdp.step()
    assert set(sgdp.state[other]) == {"momentum"}
