"""Laws that every optimizer of `adamp` obeys. A new optimizer is one row of the table below."""

import copy
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adamp import SGDP, AdamP, decide

__all__: list[str] = []

DOUBLE = torch.float64
SHAPES = [(4, 3, 2, 2), (5, 4), (6,), ()]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One optimizer under test; `twin` builds the optimizer of torch that it equals at delta=0."""

    name: str
    build: Callable[..., Optimizer]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    twin: Callable[[Iterable[Parameter]], Optimizer]

    def over(self, params: Iterable[Any], **changes: Any) -> Optimizer:
        return self.build(params, **{**self.options, **changes})


def adamp_row(name: str, **options: Any) -> Row:
    options = {"lr": 0.05, **options}
    decay = options.get("weight_decay", 0.0)
    return Row(
        name=name,
        build=AdamP,
        options=options,
        twin=lambda params: torch.optim.AdamW(params, lr=0.05, weight_decay=decay),
    )


def sgdp_row(name: str, **options: Any) -> Row:
    options = {"lr": 0.05, **options}
    plain = {key: options[key] for key in ("momentum", "nesterov") if key in options}
    return Row(
        name=name, build=SGDP, options=options, twin=lambda params: torch.optim.SGD(params, lr=0.05, **plain)
    )


ROWS = [
    adamp_row("adamp"),
    adamp_row("adamp-decay", weight_decay=0.1),
    adamp_row("adamp-nesterov", weight_decay=0.1, nesterov=True),
    sgdp_row("sgdp"),
    sgdp_row("sgdp-heavy-ball", momentum=0.9),
    sgdp_row("sgdp-nesterov", momentum=0.9, nesterov=True),
    sgdp_row("sgdp-decay", momentum=0.9, nesterov=True, weight_decay=1e-2),
]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def weights(*, dtype: torch.dtype = DOUBLE, seed: int = 0) -> list[Parameter]:
    noise = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(shape, generator=noise, dtype=DOUBLE).to(dtype)) for shape in SHAPES]


def gradients(params: list[Parameter], step: int) -> list[Tensor]:
    """Return gradients that are orthogonal to every row in even steps, so that tests cover both branches."""
    noise = torch.Generator().manual_seed(1000 + step)
    grads = [torch.randn(p.shape, generator=noise, dtype=DOUBLE).to(p.dtype) for p in params]
    return [
        right_angled(g, p.detach()) if p.dim() > 1 and step % 2 == 0 else g
        for g, p in zip(grads, params, strict=True)
    ]


def right_angled(grad: Tensor, weight: Tensor) -> Tensor:
    g, w = grad.flatten(1), weight.flatten(1)
    return (g - w * ((g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True))).reshape(weight.shape)


def train(optimizer: Optimizer, params: list[Parameter], steps: Iterable[int], *, sign: float = 1.0) -> None:
    for step in steps:
        for param, grad in zip(params, gradients(params, step), strict=True):
            param.grad = sign * grad
        optimizer.step()


def assert_equal(left: Iterable[Tensor], right: Iterable[Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a, b)


@every_row
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 2, 2)])
def test_reaches_the_optimum_of_a_parabola(row: Row, shape: tuple[int, ...]) -> None:
    noise = torch.Generator().manual_seed(3)
    target = torch.randn(shape, generator=noise, dtype=DOUBLE)
    weight = Parameter(torch.randn(shape, generator=noise, dtype=DOUBLE))
    optimizer = row.over([weight], weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=600)
    for _ in range(600):
        optimizer.zero_grad()
        (0.5 * (weight - target).square().sum()).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(weight.detach(), target, rtol=0, atol=1e-3)


@every_row
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_dtype_shape_device_and_memory_format(row: Row, dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(5)
    weight = Parameter(
        torch.randn((4, 3, 2, 2), generator=noise).to(dtype).to(memory_format=torch.channels_last)
    )
    weight.grad = torch.randn((4, 3, 2, 2), generator=noise).to(dtype)
    # In float16, 1e-8 and small second moments round to 0.
    optimizer = row.over([weight], eps=1e-4)
    place = weight.data_ptr()
    optimizer.step()
    assert weight.data_ptr() == place
    for tensor in (
        weight,
        *(value for value in optimizer.state[weight].values() if isinstance(value, Tensor)),
    ):
        assert (tensor.dtype, tensor.shape, tensor.device) == (dtype, (4, 3, 2, 2), torch.device("cpu"))
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert bool(tensor.isfinite().all())


@every_row
def test_delta_0_equals_the_torch_optimizer(row: Row) -> None:
    # torch's SGD couples its weight decay, so SGDP has a twin without decay only.
    changes = {"delta": 0.0} if row.build is AdamP else {"delta": 0.0, "weight_decay": 0}
    ours, theirs = weights(), weights()
    train(row.over(ours, **changes, **({"nesterov": False} if row.build is AdamP else {})), ours, range(8))
    train(row.twin(theirs), theirs, range(8))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


@every_row
def test_zero_lr_does_not_change_the_weights(row: Row) -> None:
    params, before = weights(), weights()
    train(row.over(params, lr=0.0), params, range(4))
    assert_equal(params, before)


@every_row
def test_a_projected_step_is_orthogonal_to_the_weight(row: Row) -> None:
    params = weights()[:2]
    optimizer = row.over(params, weight_decay=0)
    train(optimizer, params, [1, 3])
    before = [param.detach().clone() for param in params]
    train(optimizer, params, [4])
    for param, old in zip(params, before, strict=True):
        step, radius = (param.detach() - old).flatten(1), old.flatten(1)
        # Not exactly orthogonal, because the projection divides by the norm plus eps.
        torch.testing.assert_close(
            (step * radius).sum(1), torch.zeros(len(old), dtype=DOUBLE), rtol=0, atol=1e-7
        )
        torch.testing.assert_close(
            (radius + step).square().sum(1), radius.square().sum(1) + step.square().sum(1), rtol=0, atol=1e-7
        )


@every_row
def test_the_decision_does_not_depend_on_the_length_of_the_weight(row: Row) -> None:
    """A scale-invariant loss has gradient g / c at c w, so the cosine and the decision stay the same."""
    for step in range(6):
        params = weights(seed=step)[:2]
        options = {"delta": row.over(params).param_groups[0]["delta"], "eps": 1e-8}
        for param, grad in zip(params, gradients(params, step), strict=True):
            short, long = decide(param, grad, **options), decide(param * 1024, grad / 1024, **options)
            assert_equal(short, long)
            assert bool(short.channel) or step % 2


@every_row
def test_a_state_dict_round_trip_continues_bitwise(row: Row) -> None:
    params = weights()
    optimizer = row.over(params)
    train(optimizer, params, range(3))
    copies = [Parameter(param.detach().clone()) for param in params]
    resumed = row.over(copies, lr=1.0, delta=0.7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, params, range(3, 7))
    train(resumed, copies, range(3, 7))
    assert_equal(params, copies)


@every_row
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"]
)
def test_a_copy_continues_bitwise(row: Row, duplicate: Callable[[Any], Any]) -> None:
    params = weights()
    optimizer = row.over(params)
    train(optimizer, params, range(3))
    copies, twin = duplicate((params, optimizer))
    assert repr(twin.param_groups[0].keys()) == repr(optimizer.param_groups[0].keys())
    train(optimizer, params, range(3, 6))
    train(twin, copies, range(3, 6))
    assert_equal(params, copies)


@every_row
def test_a_group_added_later_may_have_its_own_hyperparameters(row: Row) -> None:
    params = weights()
    optimizer = row.over(params[:2])
    train(optimizer, params[:2], range(2))
    optimizer.add_param_group({"params": params[2:], "lr": 0.0})
    before = [param.detach().clone() for param in params]
    train(optimizer, params, range(2, 4))
    assert_equal(params[2:], before[2:])
    assert not any(torch.equal(param, old) for param, old in zip(params[:2], before[:2], strict=True))
    assert optimizer.param_groups[1]["delta"] == optimizer.param_groups[0]["delta"]


@every_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_identical_runs_are_bitwise_identical(row: Row, dtype: torch.dtype) -> None:
    first, second = weights(dtype=dtype), weights(dtype=dtype)
    train(row.over(first), first, range(6))
    train(row.over(second), second, range(6))
    assert_equal(first, second)


@every_row
def test_maximize_equals_minimising_the_negative(row: Row) -> None:
    up, down = weights(), weights()
    train(row.over(up, maximize=True), up, range(6))
    train(row.over(down), down, range(6), sign=-1.0)
    assert_equal(up, down)


@every_row
def test_a_step_does_not_change_the_gradient(row: Row) -> None:
    params = weights()
    optimizer = row.over(params, maximize=True)
    train(optimizer, params, range(1))
    assert_equal([param.grad for param in params if param.grad is not None], gradients(weights(), 0))


@every_row
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 2)])
def test_a_step_skips_an_empty_tensor(row: Row, shape: tuple[int, ...]) -> None:
    weight = Parameter(torch.empty(shape))
    weight.grad = torch.empty(shape)
    row.over([weight], weight_decay=1e-2).step()
    assert weight.shape == shape


def strided(tensor: Tensor) -> Tensor:
    """Return an equal tensor with stride 2 between elements and its dimensions stored in reverse."""
    room = torch.full([2 * size for size in reversed(tensor.shape)], 7.0, dtype=tensor.dtype)
    view = room[tuple(slice(None, None, 2) for _ in room.shape)].permute(*reversed(range(tensor.dim())))
    return view.copy_(tensor)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda tensor: tensor.clone(memory_format=torch.contiguous_format),
    "channels_last": lambda tensor: tensor.clone(memory_format=torch.channels_last),
    "strided": strided,
}


@every_row
@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", LAYOUTS)
def test_the_memory_layout_does_not_change_the_result(row: Row, weight_layout: str, grad_layout: str) -> None:
    reference = weights()[:1]
    laid_out = [Parameter(LAYOUTS[weight_layout](reference[0].detach()))]
    ours, theirs = row.over(laid_out), row.over(reference)
    for step in range(4):
        (grad,) = gradients(reference, step)
        reference[0].grad, laid_out[0].grad = grad, LAYOUTS[grad_layout](grad)
        ours.step()
        theirs.step()
    torch.testing.assert_close(laid_out[0], reference[0], rtol=0, atol=1e-13)


@every_row
@pytest.mark.parametrize("shape", [(), (1,), (6,)])
def test_tensors_of_fewer_than_two_dimensions_are_never_projected(row: Row, shape: tuple[int, ...]) -> None:
    runs: list[Parameter] = []
    for delta in (0.0, 1e6):
        weight = Parameter(torch.ones(shape, dtype=DOUBLE))
        optimizer = row.over([weight], delta=delta)
        train(optimizer, [weight], range(4))
        runs.append(weight)
    assert_equal(runs[:1], runs[1:])


@every_row
def test_a_closure_is_called_once_with_gradients_and_its_loss_returned(row: Row) -> None:
    weight = Parameter(torch.ones(2, 2, dtype=DOUBLE))
    optimizer = row.over([weight])
    calls: list[bool] = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert calls == [True]
    assert not torch.equal(weight, torch.ones(2, 2, dtype=DOUBLE))
    assert optimizer.step() is None


@every_row
def test_a_parameter_without_a_gradient_does_not_change(row: Row) -> None:
    weight = Parameter(torch.ones(2, 2))
    optimizer = row.over([weight])
    optimizer.step()
    assert torch.equal(weight, torch.ones(2, 2))
    assert not optimizer.state[weight]


@every_row
def test_a_step_never_waits_for_the_device(row: Row) -> None:
    """A meta tensor has no values, so reading one (`.item()`, `if tensor`, `float(tensor)`) raises."""
    params = [Parameter(torch.empty(shape, device="meta")) for shape in (*SHAPES, (0, 3))]
    optimizer = row.over(params, weight_decay=1e-2)
    for _ in range(2):
        for param in params:
            param.grad = torch.empty_like(param)
        optimizer.step()
    with pytest.raises(RuntimeError, match="meta"):
        bool(params[0].sum() > 0)


class DevicesSeen(TorchDispatchMode):
    """Collect the device of every input and output tensor of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.devices |= {
            leaf.device.type for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)
        }
        return result


@every_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_creates_no_tensor_on_another_device(row: Row, dtype: torch.dtype) -> None:
    """Every operand is on the weight's device: a scalar tensor from the host would wait for its copy."""
    weight = Parameter(torch.empty((3, 4), device="meta", dtype=dtype))
    weight.grad = torch.empty_like(weight)
    with DevicesSeen() as seen:
        row.over([weight], weight_decay=1e-2).step()
    assert seen.devices == {"meta"}


@every_row
def test_lr_may_change_between_steps(row: Row) -> None:
    params = weights()
    optimizer = row.over(params)
    train(optimizer, params, range(2))
    before = [param.detach().clone() for param in params]
    optimizer.param_groups[0]["lr"] = 0.0
    train(optimizer, params, range(2, 4))
    assert_equal(params, before)


@every_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_gradient_is_never_hidden(row: Row, dtype: torch.dtype) -> None:
    weight = Parameter(torch.ones(2, 3, dtype=dtype))
    weight.grad = torch.zeros(2, 3, dtype=dtype)
    weight.grad[0, 1] = float("nan")
    row.over([weight]).step()
    nan = weight.isnan()
    assert bool(nan[0, 1])
    assert int(nan.sum()) == 1
