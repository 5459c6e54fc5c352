"""What a stack would not run as training alone does: it is found, named, and trained one by one instead."""

import math
import random
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, story
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from studies.space import Parameters
from workers.optimizers import OptimizerEntry
from workers.optimizers.registry import ParameterGroup
from workers.stacked.equivalence_check import why_not_stackable
from workers.stacked.width_tuning import WidthTuner
from workers.training import train_pack
from workers.workloads import Data, TensorWorkload

__all__: list[str] = []

pytestmark = pytest.mark.usefixtures("one_thread")

MLP = WORKLOADS["digits-mlp"]
DATA = shortened(data_of(MLP), 96, 48)


class Made(TensorWorkload):
    """The digits with a model that a function makes."""

    card = MLP.card

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        self.batches = 0

    def load_data(self, device: torch.device) -> Data:
        return DATA.to(device)

    def build_model(self) -> nn.Module:
        return self._make()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.loss(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.metric_sum(outputs, targets)


class Counting(Made):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.batches += 1
        return super().loss(outputs, targets)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def changed(change: Callable[[nn.Sequential], object]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = plain()
        change(model)
        return model

    return make


def weight_of(model: nn.Sequential) -> Tensor:
    weight = model[1].weight
    assert isinstance(weight, Tensor)
    return weight


def doubled(*arguments: Any) -> Any:
    """Double what a hook may change, the last argument; a hook of an optimizer changes its weights."""
    if isinstance(arguments[0], torch.optim.Optimizer):
        for group in arguments[0].param_groups:
            for weight in group["params"]:
                weight.data.mul_(0.9)
        return None
    return 2 * arguments[-1]


class Layer(nn.Linear):
    def __init__(self) -> None:
        super().__init__(10, 10)
        self.steps = 0
        self.noise = random.Random(0)
        self.offset = torch.rand(()).item()


class Training(Layer):
    def train(self, mode: bool = True) -> nn.Module:
        self.weight.data.mul_(0.5)
        return super().train(mode)


class Extra(Layer):
    def get_extra_state(self) -> dict[str, float]:
        return {"steps": 0.0}


class CountingForwards(Layer):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 # torch's name
        self.steps += 1
        return super().forward(input) * (1.0 if self.steps < 100 else 0.0)


class Drawing(Layer):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) + self.noise.random() * 1e-9


class DrawingRarely(Layer):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) * (0.0 if random.random() > 0.999999 else 1.0)


class Offset(Layer):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) + 1e-12 * self.offset


class Marked(nn.Parameter):
    pass


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "forward hook": (
        changed(lambda model: model[1].register_forward_hook(doubled)),
        "module '1' has a forward hook (doubled)",
    ),
    "forward pre-hook": (
        changed(lambda model: model.register_forward_pre_hook(lambda *_: None)),
        "the model has a forward pre-hook",
    ),
    "backward hook": (
        changed(lambda model: model[2].register_full_backward_hook(lambda *_: None)),
        "module '2' has a backward hook",
    ),
    "state_dict hook": (
        changed(lambda model: model.register_state_dict_post_hook(lambda *_: None)),
        "the model has a state_dict hook",
    ),
    "gradient hook": (
        changed(lambda model: weight_of(model).register_hook(doubled)),
        "parameter '1.weight' has a gradient hook (doubled)",
    ),
    "hook after accumulation": (
        changed(lambda model: weight_of(model).register_post_accumulate_grad_hook(lambda _: None)),
        "parameter '1.weight' has a gradient hook",
    ),
    "train": (changed(lambda model: model.append(Training())), "Training overrides train()"),
    "eval, replaced": (
        changed(lambda model: setattr(model, "eval", model.eval)),
        "Sequential overrides eval()",
    ),
    "extra state": (changed(lambda model: model.append(Extra())), "Extra overrides get_extra_state()"),
    "subclass of a parameter": (
        changed(lambda model: setattr(model[1], "bias", Marked(torch.zeros(16)))),
        "'1.bias' is a Marked",
    ),
    "counter": (changed(lambda model: model.append(CountingForwards())), "'4.steps' of the model changes"),
    "own generator": (changed(lambda model: model.append(Drawing())), "'4.noise' of the model changes"),
    "draws in evaluation": (
        changed(lambda model: model.append(DrawingRarely())),
        "draws random numbers in evaluation",
    ),
    "evaluation by batch": (
        changed(lambda model: model.append(nn.BatchNorm1d(10, track_running_stats=False))),
        "the result of an evaluation depends on its batches",
    ),
}


class Decaying(torch.optim.AdamW):
    def zero_grad(self, set_to_none: bool = True) -> None:
        doubled(self)
        super().zero_grad(set_to_none)


def hooked(register: str) -> Callable[..., torch.optim.Optimizer]:
    def make(groups: list[ParameterGroup], lr: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(groups, lr=lr)
        getattr(optimizer, register)(doubled)
        return optimizer

    return make


def scheduled(groups: list[ParameterGroup], lr: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(groups, lr=lr)
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    return optimizer


def uneven(groups: list[ParameterGroup], lr: float) -> torch.optim.Optimizer:
    weights = [weight for group in groups for weight in group["params"]]
    return torch.optim.AdamW([{"params": weights[:1], "lr": lr / 10}, {"params": weights[1:]}], lr=lr)


OPTIMIZERS_OF_USERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], str]] = {
    "step pre-hook": (hooked("register_step_pre_hook"), "the optimizer has a step pre-hook (doubled)"),
    "step hook": (hooked("register_step_post_hook"), "the optimizer has a step hook (doubled)"),
    "subclass": (lambda groups, lr: Decaying(groups, lr=lr), "the optimizer is a Decaying"),
    "scheduler": (scheduled, "step() of the optimizer has been replaced"),
    "rates": (uneven, "some parameter groups have a learning rate of their own"),
}


def entry_of(make: Callable[..., torch.optim.Optimizer] | None = None) -> OptimizerEntry:
    """Return AdamW, built by a user's function."""
    entry = OPTIMIZERS["adamw"]
    if make is None:
        return entry

    def build(groups: list[ParameterGroup], parameters: Parameters) -> torch.optim.Optimizer:
        return make(groups, lr=float(parameters["lr"]))

    return replace(entry, build=build)


@contextmanager
def global_hook(register: Callable[[Any], Any]) -> Generator[None]:
    handle = register(doubled)
    try:
        yield
    finally:
        handle.remove()


CASES: list[tuple[TensorWorkload, OptimizerEntry, AbstractContextManager[None], str]] = [
    *((Made(make), entry_of(), nullcontext(), reason) for make, reason in MODELS.values()),
    *((Made(plain), entry_of(make), nullcontext(), reason) for make, reason in OPTIMIZERS_OF_USERS.values()),
    (Counting(plain), entry_of(), nullcontext(), "the workload changes its attribute 'batches'"),
    (
        Made(plain),
        entry_of(),
        global_hook(register_optimizer_step_post_hook),
        "a global optimizer step hook (doubled)",
    ),
    (
        Made(plain),
        entry_of(),
        global_hook(nn.modules.module.register_module_forward_hook),
        "a global module forward hook (doubled)",
    ),
]
IDS = [*MODELS, *OPTIMIZERS_OF_USERS, "workload", "global optimizer hook", "global module hook"]


@pytest.mark.parametrize(("workload", "entry", "context", "reason"), CASES, ids=IDS)
def test_what_a_stack_cannot_honour_is_trained_one_by_one_with_the_reason_and_the_same_result(
    workload: TensorWorkload, entry: OptimizerEntry, context: AbstractContextManager[None], reason: str
) -> None:
    def reports(width: int) -> list[Any]:
        members = (member("adamw", "a", lr=0.01), member("adamw", "b", lr=0.002))
        pack = pack_of(workload, "adamw", *members, width=width)
        return list(train_pack(pack, workload=workload, entry=entry, data=DATA, device=CPU))

    with context:
        alone, together = reports(1), reports(2)
    width = together[0].stack_width
    assert width is not None
    assert width.width == 1
    assert reason in width.reason
    for name in "ab":
        assert story(together, name) == story(alone, name)


def test_a_plain_attribute_that_depends_on_the_seed_keeps_members_of_several_seeds_apart() -> None:
    workload = Made(changed(lambda model: model.append(Offset())))
    tuner = WidthTuner()
    widths: list[tuple[int, str | None]] = []
    for seeds in ((1, 1), (1, 2)):
        pack = pack_of(
            workload,
            "adamw",
            *(member("adamw", f"{seed}{i}", seed=seed) for i, seed in enumerate(seeds)),
            width=2,
        )
        chosen = tuner.choose(pack, workload=workload, entry=entry_of(), data=DATA, device=CPU)
        widths.append((chosen.width, chosen.reason))
    assert widths[0] == (2, None)
    assert widths[1][0] == 1
    assert "'4.offset' of the model depends on the seed" in (widths[1][1] or "")


def test_an_obstacle_that_appears_after_the_check_is_reported_too() -> None:
    workload, tuner = Made(plain), WidthTuner()
    pack = pack_of(workload, "adamw", member("adamw", "a"), member("adamw", "b", lr=0.01), width=2, epochs=1)
    settings: dict[str, Any] = {"workload": workload, "data": DATA, "device": CPU, "tuner": tuner}
    [first] = train_pack(pack, entry=entry_of(), **settings)
    [second] = train_pack(pack, entry=entry_of(hooked("register_step_pre_hook")), **settings)
    assert first.stack_width is None
    assert second.stack_width is not None
    assert second.stack_width.width == 1
    assert "has a step pre-hook" in (second.stack_width.reason or "")


def test_the_check_calls_no_hook_and_changes_no_attribute_of_the_workload() -> None:
    calls: list[str] = []
    makers = [
        Made(changed(lambda model: model.register_forward_hook(lambda *_: calls.append("forward")))),
        Made(changed(lambda model: weight_of(model).register_hook(lambda _: calls.append("gradient")))),
        Counting(plain),
    ]
    for workload in makers:
        pack = pack_of(workload, "adamw", member("adamw", "a"), member("adamw", "b"))
        why = why_not_stackable(pack, workload=workload, entry=entry_of(), data=DATA, device=CPU)
        assert why is not None
        assert workload.batches == 0
    assert calls == []


@pytest.mark.parametrize(
    "wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal]
)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_parametrizations_of_torch_do_not_prevent_stacking(wrap: Any) -> None:
    workload = Made(changed(lambda model: wrap(model[1])))
    pack = pack_of(workload, "adamw", member("adamw", "a"), member("adamw", "b"))
    assert why_not_stackable(pack, workload=workload, entry=entry_of(), data=DATA, device=CPU) is None


def test_data_and_caches_that_do_not_change_do_not_prevent_stacking() -> None:
    class Holding(Made):
        def __init__(self) -> None:
            super().__init__(plain)
            self.held = [
                torch.zeros(3),
                np.zeros((4, 3)),
                {"a": {1, 2}},
                [0] * 20_000,
                random.Random(0),
                DATA,
            ]

    workload = Holding()
    pack = pack_of(workload, "adamw", member("adamw", "a"), member("adamw", "b"))
    assert why_not_stackable(pack, workload=workload, entry=entry_of(), data=DATA, device=CPU) is None
    workload.held.append(math.nan)
    assert why_not_stackable(pack, workload=workload, entry=entry_of(), data=DATA, device=CPU) is None
