"""The claims about the Triton kernels, as tests for both interpreter and compiler.

`test_triton.py` runs them in Triton's interpreter on the CPU, `test_triton_gpu.py` on a CUDA device. pytest
does not collect this file by name, because Triton chooses interpreter or compiler once per process, when it
is imported.
"""

import copy
import math
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from adamp_oracle import Array, adamp_weights, sgdp_weights, tangent
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adamp import decide
from adamp._projection import project_and_decay
from adamp._settings import AdamPSettings, SGDPSettings
from adamp._triton import TritonPlans, adamp_step, have_equal_rows, sgdp_step

__all__: list[str] = []

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
# The interpreter computes in NumPy, which warns on operations that give inf or NaN on a GPU; some cases
# contain such rows on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SHAPES = [(4, 3, 2, 2), (5, 4), (6,), (), (0, 3), (3, 700)]
# Many short rows, rows longer than a tile, rows cut into parts, and lengths that are not multiples of 4.
MORE_SHAPES = [*SHAPES, (70, 20), (2, 9001), (1, 5), (4100,)]
OPTIONS: dict[str, Any] = {
    "lr": 0.05,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "delta": 0.1,
    "wd_ratio": 0.1,
    "nesterov": False,
}
ADAMP = {**OPTIONS, "beta1": 0.9, "beta2": 0.99}
SGDP = {**OPTIONS, "momentum": 0.9, "dampening": 0.3}
Kind = str


@dataclass(kw_only=True)
class Side:
    """Weights and one optimizer's state for them.

    `moments` is the dtype of the state; None means the weights' dtype.
    """

    weights: list[Tensor]
    options: dict[str, Any]
    moments: torch.dtype | None = None
    plans: TritonPlans = field(default_factory=TritonPlans)

    def __post_init__(self) -> None:
        self.options = {"maximize": False, **self.options}
        self.firsts = [torch.zeros_like(weight, dtype=self.moments) for weight in self.weights]
        self.seconds = [torch.zeros_like(first) for first in self.firsts]
        self.steps = [torch.zeros((), device=DEVICE) for _ in self.weights]

    @property
    def is_adam(self) -> bool:
        return "beta1" in self.options

    def step(self, grads: Sequence[Tensor], **changes: Any) -> None:
        options = {**self.options, **changes}
        amp = {name: options.pop(name) for name in ("grad_scale", "found_inf") if name in options}
        if self.is_adam:
            adamp_step(
                self.weights,
                grads,
                self.firsts,
                self.seconds,
                self.steps,
                AdamPSettings(**options),
                plans=self.plans,
                **amp,
            )
        else:
            sgdp_step(self.weights, grads, self.firsts, SGDPSettings(**options), plans=self.plans, **amp)

    def views(self) -> list[str]:
        """Return the view that the last step projected for each tensor, for tensors of one dtype."""
        (plan,) = self.plans._plans.values()
        return [("none", "channel", "layer")[view] for view in plan.views.tolist()]

    def everything(self) -> list[Tensor]:
        return [*self.weights, *self.firsts, *self.seconds, *self.steps]


both = pytest.mark.parametrize("options", [ADAMP, SGDP], ids=["adamp", "sgdp"])


def starts(shapes: Sequence[tuple[int, ...]] = SHAPES, *, seed: int = 0) -> list[Array]:
    noise = np.random.default_rng(seed)
    return [np.asarray(noise.standard_normal(shape)) for shape in shapes]


def gradient(kind: Kind, weight: Array, noise: np.random.Generator) -> Array:
    grad = np.asarray(noise.standard_normal(weight.shape))
    if kind in ("channel", "layer") and weight.ndim > 1 and weight.size:
        return tangent(grad, weight, "channel" if kind == "channel" else "layer")
    return grad + 0.3 * weight


def sent(arrays: Sequence[Array], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.tensor(array, dtype=dtype, device=DEVICE) for array in arrays]


def oracle(start: Array, grads: list[Array], options: dict[str, Any]) -> Array:
    if "beta1" in options:
        rest = {name: value for name, value in options.items() if name not in ("beta1", "beta2")}
        return adamp_weights(start, grads, betas=(options["beta1"], options["beta2"]), **rest)[-1]
    return sgdp_weights(start, grads, **options)[-1]


def assert_bitwise(left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@both
@pytest.mark.parametrize(
    ("nesterov", "dtype"), [(False, torch.float64), (True, torch.float64), (True, torch.float32)]
)
def test_steps_match_the_oracle_for_every_view(
    options: dict[str, Any], nesterov: bool, dtype: torch.dtype
) -> None:
    options = {**options, "nesterov": nesterov}
    begun = [np.asarray(start, dtype=np.float32).astype(np.float64) for start in starts(MORE_SHAPES)]
    side, noise, seen = (
        Side(weights=sent(begun, dtype), options=options),
        np.random.default_rng(1),
        set[str](),
    )
    history: list[list[Array]] = [[] for _ in begun]
    for kind in ("channel", "noise", "layer", "noise", "channel"):
        grads = sent(
            [gradient(kind, weight.cpu().double().numpy().copy(), noise) for weight in side.weights], dtype
        )
        for past, grad in zip(history, grads, strict=True):
            past.append(grad.cpu().double().numpy())
        side.step(grads)
        seen |= set(side.views())
    assert seen == {"none", "channel", "layer"}
    bound = {torch.float64: 1e-13, torch.float32: 3e-6}[dtype]
    for weight, start, grads in zip(side.weights, begun, history, strict=True):
        np.testing.assert_allclose(
            weight.cpu().double().numpy(),
            oracle(start, grads, options),
            rtol=0,
            atol=bound * max(1, np.abs(start).max(initial=0)),
        )


@both
def test_the_views_match_decide_while_decisions_change(options: dict[str, Any]) -> None:
    shapes, noise, seen = [(3, 4), (2, 9000), (20, 70), (6, 2)], np.random.default_rng(4), list[str]()
    side = Side(weights=sent(starts(shapes), torch.float32), options={**options, "delta": 1.0})
    for _ in range(8):
        grads = sent([noise.standard_normal(shape) for shape in shapes], torch.float32)
        answers = [
            decide(weight, grad, delta=1.0, eps=1e-8)
            for weight, grad in zip(side.weights, grads, strict=True)
        ]
        side.step(grads)
        assert side.views() == [
            "channel" if answer.channel else "layer" if answer.layer else "none" for answer in answers
        ]
        seen += side.views()
    assert min(seen.count(view) for view in ("none", "channel", "layer")) > 2


@both
def test_a_row_of_75648_elements_is_shared_by_several_programs(options: dict[str, Any]) -> None:
    (start,) = starts([(1, 75648)])
    side, noise, history = (
        Side(weights=sent([start], torch.float32), options=options),
        np.random.default_rng(5),
        list[Array](),
    )
    for kind in ("channel", "noise"):
        history.append(
            gradient(kind, side.weights[0].cpu().double().numpy().copy(), noise)
            .astype(np.float32)
            .astype(np.float64)
        )
        side.step(sent([history[-1]], torch.float32))
    expected = oracle(start.astype(np.float32).astype(np.float64), history, options)
    np.testing.assert_allclose(side.weights[0].cpu().double().numpy(), expected, rtol=0, atol=3e-6)


@both
@pytest.mark.parametrize(
    ("dtype", "moments"),
    [(torch.bfloat16, None), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
)
def test_a_16_bit_weight_equals_the_oracle_rounded_once(
    options: dict[str, Any], dtype: torch.dtype, moments: torch.dtype | None
) -> None:
    options = {**options, "delta": 1.0}
    weights, noise = sent(starts(), dtype), np.random.default_rng(2)
    before = [weight.cpu().double().numpy() for weight in weights]
    grads = sent([gradient("channel", start, noise) for start in before], dtype)
    side = Side(weights=weights, options=options, moments=moments)
    side.step(grads)
    assert set(side.views()) == {"none", "channel"}
    assert {first.dtype for first in side.firsts} == {moments or dtype}
    spacing = torch.finfo(dtype).eps
    # Triton's interpreter truncates to bfloat16, while a GPU rounds to nearest.
    share = 1.01 if DEVICE == "cpu" and dtype is torch.bfloat16 else 0.51
    for weight, start, grad in zip(side.weights, before, grads, strict=True):
        expected = oracle(start, [grad.cpu().double().numpy()], options)
        bound = share * spacing * np.abs(expected) + (
            8 * spacing * options["lr"] if moments is None else 1e-5
        )
        assert (np.abs(weight.cpu().double().numpy() - expected) <= bound).all()


def plain_step(weight: Tensor, grad: Tensor, options: dict[str, Any]) -> Tensor:
    """Return the weight after a first AdamP step on the plain path."""
    beta1, beta2, lr, eps = options["beta1"], options["beta2"], options["lr"], options["eps"]
    first, second, stepped = (1 - beta1) * grad, (1 - beta2) * grad * grad, weight.clone()
    update = first / (second.sqrt() / math.sqrt(1 - beta2) + eps)
    projection = {name: options[name] for name in ("delta", "wd_ratio", "eps")}
    project_and_decay(update, stepped, grad, decay=lr * options["weight_decay"], **projection)
    return stepped.add_(update, alpha=-lr / (1 - beta1))


def special_rows() -> dict[str, tuple[Tensor, Tensor]]:
    """Return a weight and gradient [3, 12] for each kind of row that may break a norm or a comparison."""
    noise = torch.Generator().manual_seed(3)
    weight, along = torch.randn((3, 12), generator=noise), torch.randn((3, 12), generator=noise)
    across = torch.from_numpy(tangent(along.double().numpy(), weight.double().numpy(), "channel")).float()
    cases: dict[str, tuple[Tensor, Tensor]] = {}
    for size in (0.0, 1e-42, 1e-30, 1e-12, 1e15):
        cases[f"gradients of {size}"] = (weight, weight * size)
    # Above 2e19 the square of a float32 is inf, so the norm is inf, the cosine 0, and Adam's second moment
    # inf.
    cases |= {f"weights of {size}": (weight * size, along) for size in (0.0, 1e-30, 1e-9, 1e15, 1e20)}
    for bad in (math.nan, math.inf):
        grad = across.clone()
        grad[1, 3] = bad
        cases[f"a gradient of {bad}"] = (weight, grad)
        spoilt = weight.clone()
        spoilt[2, 0] = bad
        cases[f"a weight of {bad}"] = (spoilt, across)
    short = weight.clone()
    short[0] *= 1e-10
    return cases | {"a row below eps": (short, along), "the row below eps alone": (short[:1], along[:1])}


@pytest.mark.parametrize("case", special_rows())
def test_a_special_row_gives_the_same_step_as_the_plain_path(case: str) -> None:
    weight, grad = (tensor.to(DEVICE) for tensor in special_rows()[case])
    options = {**ADAMP, "weight_decay": 0.1, "eps": 1e-8}
    expected = plain_step(weight, grad, options)
    answer = decide(weight, grad, delta=0.1, eps=1e-8)
    side = Side(weights=[weight.clone()], options=options)
    side.step([grad])
    assert side.views() == ["channel" if answer.channel else "layer" if answer.layer else "none"]
    torch.testing.assert_close(side.weights[0], expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("size", [1e20, 1e37])
@pytest.mark.parametrize(
    "options", [{**SGDP, "momentum": 0.0, "dampening": 0.0}, ADAMP], ids=["sgdp", "adamp"]
)
def test_a_gradient_whose_norm_overflows_is_projected(options: dict[str, Any], size: float) -> None:
    side = Side(weights=[torch.ones(2, 8, device=DEVICE)], options=options)
    side.step([torch.full((2, 8), size, device=DEVICE)])
    assert side.views() == ["channel"]


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_gradient_is_not_projected_and_stays_visible(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    side = Side(weights=[torch.ones(2, 3, dtype=dtype, device=DEVICE)], options=options)
    grad = torch.zeros(2, 3, dtype=dtype, device=DEVICE)
    grad[0, 1] = math.nan
    side.step([grad])
    assert side.views() == ["none"]
    nan = side.weights[0].isnan()
    assert bool(nan[0, 1])
    assert int(nan.sum()) == 1


@both
def test_an_eps_of_0_causes_no_nan(options: dict[str, Any]) -> None:
    start, grad = (
        torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0]]).expand(3, 5),
    )
    side = Side(weights=[start.to(DEVICE)], options={**options, "eps": 0.0, "delta": 9.0})
    side.step([grad.contiguous().to(DEVICE)])
    assert side.views() == ["channel"]
    assert bool(side.weights[0].isfinite().all())


@both
def test_nothing_changes_when_the_scaler_found_an_inf(options: dict[str, Any]) -> None:
    side = Side(weights=sent(starts(), torch.float32), options=options)
    grads = sent(starts(seed=1), torch.float32)
    side.step(grads)
    before = [tensor.clone() for tensor in side.everything()]
    side.step(grads, found_inf=torch.ones(1, device=DEVICE))
    assert_bitwise(side.everything(), before)
    side.step(grads, found_inf=torch.zeros(1, device=DEVICE))
    assert not torch.equal(side.weights[0], before[0])


@both
def test_gradients_are_divided_by_grad_scale(options: dict[str, Any]) -> None:
    sides = [Side(weights=sent(starts(), torch.float32), options=options) for _ in range(2)]
    for kind in ("channel", "noise"):
        noise = np.random.default_rng(6)
        grads = sent(
            [gradient(kind, weight.cpu().double().numpy().copy(), noise) for weight in sides[0].weights],
            torch.float32,
        )
        sides[0].step(grads)
        scaled = [1024 * grad for grad in grads]
        kept = [grad.clone() for grad in scaled]
        sides[1].step(
            scaled, grad_scale=torch.tensor([1024.0], device=DEVICE), found_inf=torch.zeros((), device=DEVICE)
        )
        assert_bitwise(scaled, kept)
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lr_may_be_a_tensor_on_the_device(options: dict[str, Any], dtype: torch.dtype) -> None:
    sides = [Side(weights=sent(starts()), options=options) for _ in range(2)]
    rate = torch.zeros((), dtype=dtype, device=DEVICE)
    for lr in (0.5, 0.0625):
        grads = sent(starts(seed=7))
        rate.fill_(lr)
        sides[0].step(grads, lr=lr)
        sides[1].step(grads, lr=rate)
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
@pytest.mark.parametrize("nesterov", [False, True])
def test_maximize_descends_on_the_negative_gradient(options: dict[str, Any], nesterov: bool) -> None:
    sides = [
        Side(weights=sent(starts(), torch.float32), options={**options, "nesterov": nesterov, "delta": 1.0})
        for _ in range(2)
    ]
    for seed in (8, 9):
        grads = sent(starts(seed=seed), torch.float32)
        sides[0].step(grads, maximize=True)
        sides[1].step([-grad for grad in grads])
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
def test_delta_0_equals_the_torch_optimizer(options: dict[str, Any]) -> None:
    decay = options["weight_decay"] if "beta1" in options else 0.0
    side = Side(
        weights=sent(starts()),
        options={
            **options,
            "delta": 0.0,
            "weight_decay": decay,
            **({} if "beta1" in options else {"dampening": 0.0}),
        },
    )
    twins = [torch.nn.Parameter(weight.clone()) for weight in side.weights]
    twin = (
        torch.optim.AdamW(twins, lr=0.05, betas=(0.9, 0.99), weight_decay=decay)
        if side.is_adam
        else torch.optim.SGD(twins, lr=0.05, momentum=0.9)
    )
    for seed in range(3):
        grads = sent(starts(seed=10 + seed))
        for param, grad in zip(twins, grads, strict=True):
            param.grad = grad
        side.step(grads)
        twin.step()
    for ours, theirs in zip(side.weights, twins, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-14)


@both
def test_two_identical_runs_are_bitwise_identical(options: dict[str, Any]) -> None:
    sides = [Side(weights=sent(starts(), torch.float32), options={**options, "delta": 1.0}) for _ in range(2)]
    for side in sides:
        for seed in (11, 12):
            side.step(sent(starts(seed=seed), torch.float32))
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
def test_a_new_plan_between_steps_does_not_change_the_result(options: dict[str, Any]) -> None:
    """No decision outlives its step, so a run resumed from a checkpoint continues bitwise."""
    sides = [Side(weights=sent(starts(), torch.float32), options={**options, "delta": 1.0}) for _ in range(2)]
    for seed in (11, 12, 13):
        for side in sides:
            side.step(sent(starts(seed=seed), torch.float32))
        sides[1].plans = copy.deepcopy(sides[1].plans)
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
def test_gradients_may_stay_or_move_in_memory(options: dict[str, Any]) -> None:
    sides = [Side(weights=sent(starts(), torch.float32), options=options) for _ in range(2)]
    kept = sent(starts(), torch.float32)
    moved: list[list[Tensor]] = []
    for seed in (14, 15, 16):
        moved.append(sent(starts(seed=seed), torch.float32))
        for grad, new in zip(kept, moved[-1], strict=True):
            grad.copy_(new)
        sides[0].step(kept)
        sides[1].step(moved[-1])
    assert_bitwise(sides[0].everything(), sides[1].everything())


def test_a_plan_is_built_once_and_its_tables_are_sent_only_after_a_change() -> None:
    side = Side(weights=sent(starts()), options=ADAMP)
    grads = sent(starts(seed=1))
    side.step(grads)
    (plan,) = side.plans._plans.values()
    tables = [plan._sent]
    side.step(grads)
    tables.append(plan._sent)
    side.step(grads, lr=0.01)
    tables.append(plan._sent)
    side.step(sent(starts(seed=2)))
    tables.append(plan._sent)
    assert list(side.plans._plans.values()) == [plan]
    assert tables[0] is tables[1]
    assert len({id(table) for table in tables}) == 3


def test_tensors_that_moved_get_a_new_plan() -> None:
    side = Side(weights=sent(starts()), options=ADAMP)
    twin = Side(weights=sent(starts()), options=ADAMP)
    for seed in (1, 2):
        for one in (side, twin):
            one.step(sent(starts(seed=seed)))
        old = (side.weights, side.firsts)  # kept alive, so that the new ones get other addresses
        side.weights, side.firsts = ([tensor.clone() for tensor in tensors] for tensors in old)
    assert_bitwise(side.everything(), twin.everything())


def test_the_oldest_plans_are_dropped_except_those_of_graphs() -> None:
    plans = TritonPlans()
    kept = [[torch.ones(2, 2, device=DEVICE)] for _ in range(40)]
    built = [plans.plan(weights, weights, weights, weights, ()) for weights in kept[:1]]
    built[0].captured.append((kept[0][0], kept[0][0]))
    built += [plans.plan(weights, weights, weights, weights, ()) for weights in kept[1:]]
    assert list(plans._plans.values()) == [built[0], *built[-32:]]
    assert plans.plan(kept[-1], kept[-1], kept[-1], kept[-1], ()) is built[-1]


@both
def test_autograd_notices_that_the_weights_changed(options: dict[str, Any]) -> None:
    weight = torch.ones(2, 2, device=DEVICE, requires_grad=True)
    loss = (weight * weight).sum()
    with torch.no_grad():
        Side(weights=[weight], options=options).step([torch.ones(2, 2, device=DEVICE)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda plans: pickle.loads(pickle.dumps(plans))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_the_plans_is_empty(duplicate: Callable[[TritonPlans], TritonPlans]) -> None:
    side = Side(weights=sent(starts()), options=ADAMP)
    side.step(sent(starts(seed=1)))
    assert len(side.plans._plans) == 1
    assert not duplicate(side.plans)._plans


@both
def test_dtypes_may_be_mixed(options: dict[str, Any]) -> None:
    dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float32]
    shapes = [(5, 4), (3, 7), (4, 8), (6,)]
    begun, grads = starts(shapes), starts(shapes, seed=1)
    mixed = Side(
        weights=[sent([start], dtype)[0] for start, dtype in zip(begun, dtypes, strict=True)], options=options
    )
    alone = [
        Side(weights=sent([start], dtype), options=options)
        for start, dtype in zip(begun, dtypes, strict=True)
    ]
    mixed.step([sent([grad], dtype)[0] for grad, dtype in zip(grads, dtypes, strict=True)])
    for side, grad, dtype in zip(alone, grads, dtypes, strict=True):
        side.step(sent([grad], dtype))
    assert_bitwise(mixed.weights, [side.weights[0] for side in alone])
    assert [int(step) for step in mixed.steps] == ([1] * 4 if mixed.is_adam else [0] * 4)


@both
def test_a_gradient_may_have_its_own_dtype(options: dict[str, Any]) -> None:
    sides = [Side(weights=sent(starts(), torch.float32), options=options) for _ in range(2)]
    narrow = sent(starts(seed=1), torch.bfloat16)
    sides[0].step(narrow)
    sides[1].step([grad.float() for grad in narrow])
    assert_bitwise(sides[0].everything(), sides[1].everything())


@both
@pytest.mark.parametrize("places", ["weights", "gradients"])
def test_tensors_not_aligned_to_16_bytes_give_the_same_step(options: dict[str, Any], places: str) -> None:
    shapes = [(4, 16), (3, 700), (1, 4100), (8,)]

    def shifted(arrays: list[Array]) -> list[Tensor]:
        rooms = [torch.zeros(array.size + 1, device=DEVICE) for array in arrays]
        return [
            room[1:].view(array.shape).copy_(torch.tensor(array))
            for room, array in zip(rooms, arrays, strict=True)
        ]

    straight = Side(weights=sent(starts(shapes), torch.float32), options={**options, "delta": 1.0})
    skew = Side(
        weights=shifted(starts(shapes)) if places == "weights" else sent(starts(shapes), torch.float32),
        options={**options, "delta": 1.0},
    )
    for seed in (1, 2):
        grads = starts(shapes, seed=seed)
        straight.step(sent(grads, torch.float32))
        skew.step(shifted(grads) if places == "gradients" else sent(grads, torch.float32))
    for a, b in zip(straight.weights, skew.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@both
def test_channels_last_changes_only_the_order_of_sums(options: dict[str, Any]) -> None:
    (start,), (grad,) = (sent(starts([(4, 3, 2, 2)], seed=seed)) for seed in (0, 1))
    plain, last = (
        Side(weights=[start.clone(memory_format=layout)], options=options)
        for layout in (torch.contiguous_format, torch.channels_last)
    )
    plain.step([grad])
    last.step([grad.clone(memory_format=torch.channels_last)])
    torch.testing.assert_close(last.weights[0], plain.weights[0], rtol=0, atol=1e-14)
    assert last.weights[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shapes", [[], [(0,), (0, 3), (3, 0)]])
def test_a_list_without_elements_is_skipped(shapes: list[tuple[int, ...]]) -> None:
    side = Side(weights=sent(starts(shapes), torch.float32), options=ADAMP)
    side.step(sent(starts(shapes), torch.float32))
    assert [int(step) for step in side.steps] == [1] * len(shapes)


@both
def test_one_dimension_is_never_projected(options: dict[str, Any]) -> None:
    sides = [
        Side(weights=sent(starts([(), (1,), (6,), (9000,)])), options={**options, "delta": delta})
        for delta in (0.0, 1e6)
    ]
    for side in sides:
        side.step(sent(starts([(), (1,), (6,), (9000,)], seed=1)))
        assert set(side.views()) == {"none"}
    assert_bitwise(sides[0].everything(), sides[1].everything())


class Watch(TorchDispatchMode):
    """Raise an error if the host reads a tensor's value.

    That is `.item()`, `bool(tensor)`, a boolean mask, or a copy to the host.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), (
            "the host read a tensor"
        )
        return func(*args, **(kwargs or {}))


@both
def test_no_value_is_read_by_the_host(options: dict[str, Any]) -> None:
    side = Side(weights=sent(starts(), torch.float32), options=options)
    extras = {
        "lr": torch.tensor(0.1, device=DEVICE),
        "grad_scale": torch.ones(1, device=DEVICE),
        "found_inf": torch.zeros(1, device=DEVICE),
    }
    with Watch():
        for seed in (1, 2):
            side.step(sent(starts(seed=seed), torch.float32), **extras)
        with pytest.raises(AssertionError, match="read a tensor"):
            bool(side.weights[0].sum() > 0)


@pytest.mark.parametrize(
    ("shape", "strides", "is_fit"),
    [
        ((3, 4), (4, 1), True),
        ((2, 3, 2, 2), (12, 1, 6, 3), True),
        ((3, 1, 2), (2, 77, 1), True),
        ((1, 4), (99, 1), True),
        ((), (), True),
        ((5,), (1,), True),
        ((0, 3), (3, 1), True),
        ((3, 4), (1, 3), False),
        ((3, 4), (8, 1), False),
        ((3, 4), (8, 2), False),
        ((3, 4), (0, 1), False),
        ((5,), (2,), False),
        ((2, 2, 2), (2, 4, 1), False),
    ],
)
def test_have_equal_rows_accepts_only_consecutive_rows(
    shape: tuple[int, ...], strides: tuple[int, ...], is_fit: bool
) -> None:
    assert have_equal_rows(torch.zeros(200).as_strided(shape, strides)) == is_fit


def test_have_equal_rows_needs_the_same_layout() -> None:
    weight = torch.zeros(2, 3, 2, 2)
    last = weight.clone(memory_format=torch.channels_last)
    assert have_equal_rows(weight, weight.clone())
    assert have_equal_rows(last, last.clone())
    assert not have_equal_rows(weight, last)
    assert not have_equal_rows(weight, weight, last)
    assert not have_equal_rows(weight, weight.flatten())
