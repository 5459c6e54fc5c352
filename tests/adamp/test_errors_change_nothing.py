"""After an error of a step or of a load, weights, state and groups of AdamP and SGDP are as before."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from adamp import SGDP, AdamP

__all__: list[str] = []

both = pytest.mark.parametrize("build", [AdamP, SGDP])
PATHS: dict[str, dict[str, Any]] = {"numba": {}, "plain": {"fused": False}, "foreach": {"foreach": True}}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def contents(optimizer: Optimizer) -> Any:
    """Return a copy of all that a step or a load may change."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    groups = [{name: group[name] for name in group if name != "params"} for group in optimizer.param_groups]
    state = [
        (index, copy.deepcopy(dict(optimizer.state[weight])))
        for index, weight in enumerate(weights)
        if weight in optimizer.state
    ]
    return copy.deepcopy(([weight.detach() for weight in weights], state, groups))


def are_equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.device.type == "meta" or torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return one == other


def last_weight(optimizer: Optimizer) -> Parameter:
    return optimizer.param_groups[-1]["params"][-1]


def sparse(optimizer: Optimizer) -> None:
    last_weight(optimizer).grad = noise(4, 3).to_sparse()


def complex_weight(optimizer: Optimizer) -> None:
    added = Parameter(torch.ones(2, 2, dtype=torch.complex64))
    added.grad = torch.ones_like(added)
    optimizer.add_param_group({"params": [added]})


def narrow_weight(optimizer: Optimizer) -> None:
    added = Parameter(torch.ones(2, 2).to(torch.float8_e4m3fn))
    added.grad = torch.ones(2, 2).to(torch.float8_e4m3fn)
    optimizer.add_param_group({"params": [added]})


def other_shape(optimizer: Optimizer) -> None:
    last_weight(optimizer).data = noise(5, 3)


def other_device(optimizer: Optimizer) -> None:
    state = optimizer.state[last_weight(optimizer)]
    state.update({name: value.to("meta") for name, value in state.items() if isinstance(value, Tensor)})


def lost_state(optimizer: Optimizer) -> None:
    optimizer.state[last_weight(optimizer)] = {"exp_inf": torch.zeros(4, 3)}


def text_for_lr(optimizer: Optimizer) -> None:
    optimizer.param_groups[-1]["lr"] = "0.1"


def no_memory(optimizer: Optimizer) -> None:
    optimizer.param_groups[-1].update({"betas": (1.0, 0.999), "momentum": 1.0})


WAYS: list[tuple[Callable[[Optimizer], None], type[Exception], str]] = [
    (sparse, RuntimeError, "expects dense gradients"),
    (complex_weight, TypeError, "expects real gradients"),
    (narrow_weight, TypeError, "float8_e4m3fn"),
    (other_shape, RuntimeError, r"shape \(5, 3\).*got shape \(4, 3\)"),
    (other_device, RuntimeError, "on meta"),
    (lost_state, ValueError, "got exp_inf"),
    (text_for_lr, ValueError, "expects lr to be a Python number .*got '0.1'"),
    (no_memory, ValueError, r"in \[0, 1\), got 1.0"),
]


@both
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("spoil", "error", "words"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_step_that_raises_changes_nothing(
    build: Any, path: str, spoil: Callable[[Optimizer], None], error: type[Exception], words: str
) -> None:
    """The groups before the faulty one could be stepped, and one of their weights has no state yet."""
    sound, fresh, faulty = (Parameter(noise(4, 3, seed=seed)) for seed in range(3))
    optimizer = build(
        [{"params": [sound, fresh]}, {"params": [faulty]}], lr=0.1, weight_decay=0.1, **PATHS[path]
    )
    for _ in range(2):
        sound.grad, faulty.grad = noise(4, 3, seed=3), noise(4, 3, seed=4)
        optimizer.step()
    fresh.grad = noise(4, 3, seed=5)
    spoil(optimizer)
    before = contents(optimizer)
    with pytest.raises(error, match=words):
        optimizer.step()
    assert are_equal(contents(optimizer), before)


@both
def test_a_closure_that_raises_changes_nothing(build: Any) -> None:
    weight = Parameter(noise(4, 3))
    weight.grad = noise(4, 3, seed=1)
    optimizer = build([weight], lr=0.1)
    before = contents(optimizer)

    def closure() -> float:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert are_equal(contents(optimizer), before)


@both
def test_a_learning_rate_of_nan_steps_to_nan_as_in_torch(build: Any) -> None:
    ours, theirs = Parameter(noise(4, 3)), Parameter(noise(4, 3))
    optimizers = (build([ours], lr=0.1), torch.optim.AdamW([theirs], lr=0.1))
    for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
        weight.grad = noise(4, 3, seed=1)
        optimizer.param_groups[0]["lr"] = float("nan")
        optimizer.step()
        assert weight.isnan().all()


def stepped(build: Callable[..., Optimizer], **options: Any) -> dict[str, Any]:
    """Return the state dictionary of an optimizer that has taken a step."""
    weight = Parameter(noise(4, 3))
    weight.grad = noise(4, 3, seed=1)
    optimizer = build([weight], lr=0.1, **options)
    optimizer.step()
    return optimizer.state_dict()


FOREIGN: dict[str, Any] = {
    "Adamax": stepped(torch.optim.Adamax),
    "NAdam": stepped(torch.optim.NAdam),
    "AdamW with amsgrad": stepped(torch.optim.AdamW, amsgrad=True),
    "RMSprop": stepped(torch.optim.RMSprop),
    "Adagrad": stepped(torch.optim.Adagrad),
    "a model": torch.nn.Linear(3, 4, bias=False).state_dict(),
}
REFUSED = [
    *((build, state) for build in (AdamP, SGDP) for state in FOREIGN.values()),
    (AdamP, stepped(torch.optim.SGD, momentum=0.9)),
    (AdamP, stepped(SGDP)),
    (SGDP, stepped(torch.optim.AdamW)),
    (SGDP, stepped(AdamP)),
]


@pytest.mark.parametrize(("build", "state"), REFUSED)
def test_the_state_of_another_optimizer_is_refused_and_changes_nothing(
    build: Any, state: dict[str, Any]
) -> None:
    weight = Parameter(noise(4, 3))
    weight.grad = noise(4, 3, seed=1)
    optimizer = build([weight], lr=0.1)
    optimizer.step()
    before = contents(optimizer)
    with pytest.raises(ValueError, match=f"{build.__name__} expects .* got "):
        optimizer.load_state_dict(state)
    assert are_equal(contents(optimizer), before)


@both
def test_the_state_of_a_model_of_another_shape_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 4\).*got \(4, 3\)"):
        build([Parameter(noise(3, 4))], lr=0.1).load_state_dict(stepped(build))


@pytest.mark.parametrize(
    ("build", "state"), [(AdamP, stepped(torch.optim.AdamW)), (SGDP, stepped(torch.optim.SGD, momentum=0.9))]
)
def test_the_state_of_the_optimizer_that_it_extends_is_loaded(build: Any, state: dict[str, Any]) -> None:
    weight = Parameter(noise(4, 3))
    weight.grad = noise(4, 3, seed=1)
    optimizer = build([weight], lr=1.0)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.1


@both
def test_entries_that_a_user_adds_to_the_state_survive_a_checkpoint(build: Any) -> None:
    weight = Parameter(noise(4, 3))
    weight.grad = noise(4, 3, seed=1)
    optimizer = build([weight], lr=0.1)
    optimizer.step()
    optimizer.state[weight]["average"] = noise(2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(optimizer.state[weight]["average"], noise(2))
