"""The compiled step gives the plain step's numbers, is used only if it is faster, and can be replaced."""

import logging
import sys
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, story, train
from torch import Tensor, nn

from workers.pack_protocol import Pack
from workers.stacked import compiled as compiling
from workers.stacked.compiled import CompiledStep, CompiledSteps
from workers.stacked.engine import StackedEngine
from workers.stacked.plan import StackPlan
from workers.stacked.stack import Stack
from workers.stacked.width_tuning import WidthTuner
from workers.workloads import TensorWorkload
from workers.workloads.float64 import Float64, in_float64

__all__: list[str] = []

# torch's compiler imports deprecated parts of torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")

MLP, CNN, TOY = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"], WORKLOADS["antipode-2d"]


def pack(
    workload: TensorWorkload, *, members: int = 3, steps_ahead: int = 10**9, width: int = 3, **settings: Any
) -> Pack:
    made = tuple(
        member("adamp", str(index), lr=0.05 / 2**index, weight_decay=0.1 * index, nesterov=index == 1)
        for index in range(members)
    )
    return pack_of(workload, "adamp", *made, width=width, steps_ahead=steps_ahead, **settings)


@pytest.fixture(autouse=True)
def quiet_torch(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the verbose messages of torch's compiler out of the captured log."""
    caplog.set_level(logging.WARNING, logger="torch")


def steps_of(tuner: WidthTuner) -> list[CompiledStep | None]:
    return list(tuner.compiled._steps.values())


def test_a_compiled_step_gives_the_plain_steps_numbers_and_is_compiled_once_per_width(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workload, data = in_float64(TOY, data_of(TOY))
    plain = train(pack(workload, epochs=3, schedule="cosine", steps_ahead=0), workload, data)
    tuner = WidthTuner()
    # A stack that is padded with members whose results are not reported, and the full width.
    for members, width in ((2, 3), (3, 3)):
        fast = train(
            pack(workload, members=members, width=width, epochs=3, schedule="cosine"),
            workload,
            data,
            tuner=tuner,
        )
        assert [len(report.members) for report in fast] == [members] * 3
        for index in range(members):
            for (mine, outcome), (theirs, outcome_) in zip(
                story(plain, str(index)), story(fast, str(index)), strict=True
            ):
                assert theirs.train_loss == pytest.approx(mine.train_loss, rel=1e-9)
                assert theirs.weight_norm == pytest.approx(mine.weight_norm, rel=1e-9)
                assert theirs.validation_metric == pytest.approx(mine.validation_metric, rel=1e-9)
                assert (outcome is None) == (outcome_ is None)
    assert len(steps_of(tuner)) == 1
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "optimizer", [name for name, entry in OPTIMIZERS.items() if entry.stacked is not None]
)
def test_the_graphs_own_code_gives_the_plain_steps_numbers_for_every_optimizer(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The code that would be compiled, run uncompiled: compiling it for each optimizer would take minutes.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(compiling.CompiledSteps, "record", record_as_fast)
    workload, data = in_float64(CNN, shortened(data_of(CNN), 320, 60))
    members = tuple(
        member(optimizer, str(index), seed=index // 2, lr=lr)
        for index, lr in enumerate((0.02, 0.005, 1e200, 0.01))
    )
    one = pack_of(CNN, optimizer, *members, epochs=3, width=4, schedule="cosine", decay_1d=False)
    tuner = WidthTuner()
    plain, fast = (
        train(one, workload, data),
        train(one.model_copy(update={"steps_ahead": 10**9}), workload, data, tuner=tuner),
    )
    assert [type(step) for step in steps_of(tuner)] == [CompiledStep]
    assert [len(report.members) for report in fast] == [len(report.members) for report in plain] == [4, 3, 3]
    for index in range(4):
        for (mine, outcome), (theirs, outcome_) in zip(
            story(plain, str(index)), story(fast, str(index)), strict=True
        ):
            assert (outcome and outcome.state, outcome and outcome.best_epoch) == (
                outcome_ and outcome_.state,
                outcome_ and outcome_.best_epoch,
            )
            if outcome is None or outcome.state == "completed":
                assert theirs.train_loss == pytest.approx(mine.train_loss, rel=1e-6)
                assert theirs.validation_loss == pytest.approx(mine.validation_loss, rel=1e-6)
                assert theirs.weight_norm == pytest.approx(mine.weight_norm, rel=1e-6)


def record_as_fast(
    self: CompiledSteps,
    plan: StackPlan,
    step: CompiledStep | None,
    *,
    width: int,
    is_paired: bool,
    member_step_s: float,
) -> CompiledStep | None:
    """Record like `CompiledSteps.record`, but accept every step: run uncompiled, it is slower."""
    self._plain_s[compiling._key(plan, width, is_paired)] = member_step_s
    return step


def test_a_step_is_not_compiled_for_a_few_steps() -> None:
    tuner = WidthTuner()
    train(pack(TOY, steps_ahead=5_000), tuner=tuner)
    assert steps_of(tuner) == []


class Untraceable(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        # A graph cannot contain output between its parts.
        sys.stderr.flush()
        return self.inner(inputs)


class Stubborn(Float64):
    def build_model(self) -> nn.Module:
        return Untraceable(super().build_model())


def test_a_step_that_cannot_be_compiled_runs_uncompiled_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workload, data = Stubborn(TOY), in_float64(TOY, data_of(TOY))[1]
    tuner = WidthTuner()
    reports = train(pack(workload), workload, data, tuner=tuner)
    assert steps_of(tuner) == [None]
    assert "could not compile the step of antipode-2d with adamp" in caplog.text
    assert story(reports, "0") == story(train(pack(workload, steps_ahead=0), workload, data), "0")


def test_a_compiled_step_that_is_not_faster_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pack(TOY)
    stacks = StackedEngine(
        one,
        workload=TOY,
        entry=OPTIMIZERS["adamp"],
        data=data_of(TOY),
        device=CPU,
        states=[None] * 3,
        width=3,
    )
    compiled, plan = CompiledSteps(), stacks._plan
    # Created but never called, so that torch does not compile it.
    monkeypatch.setattr(compiling, "_compile", lambda plan, **_: CompiledStep(plan, is_paired=True))
    assert compiled.get(plan, width=3, is_paired=True, example=tuple) is None
    assert compiled.record(plan, None, width=3, is_paired=True, member_step_s=1.0) is None
    step = compiled.get(plan, width=3, is_paired=True, example=tuple)
    assert step is not None
    assert compiled.record(plan, step, width=3, is_paired=True, member_step_s=0.5) is step
    assert compiled.get(plan, width=3, is_paired=True, example=tuple) is step
    assert compiled.record(plan, step, width=3, is_paired=True, member_step_s=1.5) is None
    assert compiled.get(plan, width=3, is_paired=True, example=tuple) is None


def test_speed_is_recorded_for_nearly_full_stacks_only_and_the_fastest_epoch_counts() -> None:
    tuner = WidthTuner()
    train(pack(TOY, members=2, width=3, steps_ahead=0), tuner=tuner)
    assert tuner.compiled._plain_s == {}
    train(pack(TOY, members=3, width=3, steps_ahead=0), tuner=tuner)
    [(key, seconds)] = tuner.compiled._plain_s.items()
    one = pack(TOY)
    plan = StackPlan(one, workload=TOY, entry=OPTIMIZERS["adamp"], data=data_of(TOY), device=CPU)
    tuner.compiled.record(plan, None, width=3, is_paired=True, member_step_s=100.0)
    assert tuner.compiled._plain_s == {key: seconds}


def test_a_worker_can_compile_more_than_eight_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Everything except generating machine code, which takes seconds each. torch itself stops after eight
    # versions of one function.
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: compiler(function, backend="eager", **options)
    )
    for width in range(2, 12):
        one = pack(TOY, members=width, width=width)
        plan = StackPlan(one, workload=TOY, entry=OPTIMIZERS["adamp"], data=data_of(TOY), device=CPU)
        stack = Stack.initial(plan)
        assert compiling._compile(plan, is_paired=True, example=stack.example()) is not None, width


class Features(nn.Module):
    """Unregistered random features, which differ between seeds."""

    def __init__(self) -> None:
        super().__init__()
        self._directions = [torch.randn(64, 8, dtype=torch.float64)]
        self.out = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(torch.cos(inputs.flatten(1) @ self._directions[0]))


class Featured(Float64):
    def build_model(self) -> nn.Module:
        return Features().double()


def test_a_compiled_step_is_not_used_for_a_model_with_other_constants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(compiling.CompiledSteps, "record", record_as_fast)
    workload, data = Featured(MLP), in_float64(MLP, shortened(data_of(MLP), 160, 32))[1]
    tuner = WidthTuner()
    for seed in (1, 2):
        members = tuple(member("adamp", str(index), seed=seed, lr=0.05 / 2**index) for index in range(2))
        one = pack_of(MLP, "adamp", *members, width=2, steps_ahead=10**9, epochs=3)
        fast, plain = (
            train(one, workload, data, tuner=tuner),
            train(one.model_copy(update={"steps_ahead": 0}), workload, data),
        )
        assert [type(step) for step in steps_of(tuner)] == [CompiledStep]
        for (mine, _), (theirs, _) in zip(story(plain, "0"), story(fast, "0"), strict=True):
            assert theirs.train_loss == pytest.approx(mine.train_loss, rel=1e-9)


def test_a_model_with_dropout_is_never_compiled() -> None:
    class Dropping(Float64):
        def build_model(self) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10)).double()

    workload, data = Dropping(MLP), in_float64(MLP, shortened(data_of(MLP), 96, 32))[1]
    tuner = WidthTuner()
    train(pack(workload, epochs=3), workload, data, tuner=tuner)
    assert steps_of(tuner) == []
