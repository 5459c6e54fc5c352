"""A stack gives its members the numbers of training alone, to rounding, however the pack is trained."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import (
    CPU,
    OPTIMIZERS,
    WORKLOADS,
    data_of,
    member,
    outcome_of,
    pack_of,
    rungs,
    shortened,
    story,
    train,
)
from torch import Tensor, nn
from torch.nn import functional

from studies.layers import LayerMeasurement, MeasuredLayers
from studies.space import Parameters
from studies.trials import Measurement
from workers.checkpoints import load
from workers.memory import is_out_of_memory
from workers.optimizers.batched.layout import Layout
from workers.pack_protocol import EpochReport, Member, Pack
from workers.solo import Solo
from workers.stacked.engine import StackedEngine
from workers.stacked.rows import Rows
from workers.stacked.stack import Stack
from workers.training import OneByOneEngine, train_pack
from workers.workloads import Data, TensorWorkload
from workers.workloads.float64 import in_float64

__all__: list[str] = []

MLP, CNN, LM = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"], WORKLOADS["pydoc-lm"]
STACKED = [name for name, entry in OPTIMIZERS.items() if entry.stacked is not None]
SMALL = {MLP: (160, 60), CNN: (160, 60), LM: (32, 8)}
LIVELY: Parameters = {"weight_decay": 0.02, "momentum": 0.9, "nesterov": True, "nu1": 0.7, "nu2": 0.9}


def three(optimizer: str, *, seeds: tuple[int, int, int] = (1, 1, 1)) -> tuple[Member, ...]:
    """Return members with different learning rates; the second has other non-default values too.

    All but the last measure their layers.
    """
    defaults = OPTIMIZERS[optimizer].card.defaults
    lively = {name: value for name, value in LIVELY.items() if name in defaults}
    lr = 0.02
    made = [
        member(optimizer, name, seed=seed, lr=lr / 4**index)
        for index, (name, seed) in enumerate(zip("abc", seeds, strict=True))
    ]
    measuring = {"measures_layers": True}
    return (
        made[0].model_copy(update=measuring),
        made[1].model_copy(update={"parameters": {**made[1].parameters, **lively}, **measuring}),
        made[2],
    )


def both(
    workload: TensorWorkload, pack: Pack, *, wide: bool = True
) -> tuple[list[EpochReport], list[EpochReport]]:
    """Return the reports of a pack trained one by one, and in stacks of its width."""
    small = shortened(data_of(workload), *SMALL[workload])
    used, data = in_float64(workload, small) if wide else (workload, small)
    assert pack.width != 1
    return train(pack.model_copy(update={"width": 1}), used, data), train(pack, used, data)


def assert_same(alone: list[EpochReport], together: list[EpochReport], *, rel: float) -> None:
    assert len(alone) == len(together)
    for one, other in zip(alone, together, strict=True):
        assert [part.trial_id for part in one.members] == [part.trial_id for part in other.members]
        for mine, theirs in zip(one.members, other.members, strict=True):
            for name in Measurement.model_fields:
                if name != "elapsed_s":
                    assert_close(getattr(mine.measurement, name), getattr(theirs.measurement, name), rel=rel)
            assert (mine.layers is None) == (theirs.layers is None)
            if mine.layers is not None and theirs.layers is not None:
                assert_same_layers(mine.layers, theirs.layers, rel=max(rel, 2e-5))
            assert (mine.outcome is None) == (theirs.outcome is None)
            if mine.outcome is not None and theirs.outcome is not None:
                assert theirs.outcome.model_dump(exclude={"value", "test_value"}) == mine.outcome.model_dump(
                    exclude={"value", "test_value"}
                )
                assert_close(mine.outcome.value, theirs.outcome.value, rel=rel)
                assert_close(mine.outcome.test_value, theirs.outcome.test_value, rel=rel)


def assert_same_layers(mine: MeasuredLayers, theirs: MeasuredLayers, *, rel: float) -> None:
    assert mine.names == theirs.names
    columns = [name for name in LayerMeasurement.model_fields if name != "epoch"]
    pairs = [(getattr(mine.measurement, name), getattr(theirs.measurement, name)) for name in columns]
    for ours, others in [(mine.initial_norms, theirs.initial_norms), *pairs]:
        assert len(ours) == len(others)
        for one, other in zip(ours, others, strict=True):
            assert_close(one, other, rel=rel)


def assert_close(mine: float | None, theirs: float | None, *, rel: float) -> None:
    if mine is None or theirs is None:
        assert mine is theirs
    else:
        assert theirs == pytest.approx(mine, rel=rel, abs=1e-12)


@pytest.mark.parametrize(
    ("workload", "optimizer"),
    [
        *((workload, optimizer) for workload in (MLP, CNN) for optimizer in STACKED),
        (LM, "adamp"),
        (LM, "sgd-nesterov"),
    ],
    ids=lambda given: given if isinstance(given, str) else given.card.name,
)
def test_a_stacked_member_matches_training_alone_in_float64(workload: TensorWorkload, optimizer: str) -> None:
    pack = pack_of(workload, optimizer, *three(optimizer), epochs=2, schedule="cosine", width=3)
    assert_same(*both(workload, pack), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamp", "sgd"])
@pytest.mark.parametrize(
    "settings",
    [{"decay_1d": False}, {"objective_at": "best"}, {"schedule": "warmup-cosine", "warmup_fraction": 0.5}],
)
def test_members_with_different_seeds_and_settings_match_training_alone(
    optimizer: str, settings: dict[str, Any]
) -> None:
    members = three(optimizer, seeds=(1, 2, 2))
    assert_same(*both(CNN, pack_of(CNN, optimizer, *members, epochs=3, width=2, **settings)), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamp", "sgdp"])
@pytest.mark.parametrize("workload", [MLP, CNN, LM], ids=lambda workload: workload.card.name)
def test_the_best_and_the_defaults_on_several_fresh_seeds_are_one_exact_stack(
    workload: TensorWorkload, optimizer: str
) -> None:
    best = three(optimizer)[1].parameters
    members = [
        member(optimizer, f"{name}{seed}", seed=seed, given=given)
        for seed in (3, 4)
        for name, given in (("best", best), ("defaults", None))
    ]
    assert_same(
        *both(workload, pack_of(workload, optimizer, *members, epochs=2, schedule="cosine", width=4)),
        rel=1e-6,
    )


def test_a_stacked_member_matches_training_alone_in_float32_to_rounding() -> None:
    assert_same(*both(MLP, pack_of(MLP, "adamp", *three("adamp"), width=3), wide=False), rel=1e-3)


def test_the_same_pack_twice_is_bitwise_equal() -> None:
    pack = pack_of(CNN, "adamp", *three("adamp"), width=3)
    stories = [[story(train(pack), name) for name in "abc"] for _ in range(2)]
    assert stories[0] == stories[1]


def test_torchs_generator_is_unchanged() -> None:
    before = torch.get_rng_state()
    train(pack_of(MLP, "adamp", *three("adamp", seeds=(1, 2, 3)), width=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_diverged_member_frees_its_row_and_does_not_change_the_others() -> None:
    calm, wild, tame = (
        member("sgd", "calm", lr=0.05),
        member("sgd", "wild", lr=1e8),
        member("sgd", "tame", lr=0.01),
    )
    gentle = wild.model_copy(update={"parameters": {**wild.parameters, "lr": 0.02}})
    lost = train(pack_of(CNN, "sgd", calm, wild, tame, epochs=3, width=3))
    usual = train(pack_of(CNN, "sgd", calm, gentle, tame, epochs=1, width=3))
    for name in ("calm", "tame"):
        assert story(lost, name)[0][0] == story(usual, name)[0][0]
    assert [len(report.members) for report in lost] == [3, 2, 2]
    assert outcome_of(lost, "wild") == outcome_of(train(pack_of(CNN, "sgd", wild)), "wild")
    assert outcome_of(lost, "calm").state == "completed"


def test_a_pack_ends_when_all_members_have_diverged() -> None:
    [report] = train(pack_of(MLP, "sgd", *(member("sgd", name, lr=1e8) for name in "ab"), epochs=4, width=2))
    assert [part.outcome.state for part in report.members if part.outcome] == ["diverged", "diverged"]


@pytest.mark.parametrize("optimizer", STACKED)
def test_a_stack_that_stops_at_rungs_equals_one_that_never_stopped_bitwise(
    optimizer: str, tmp_path: Path
) -> None:
    pack = pack_of(
        CNN,
        optimizer,
        *three(optimizer),
        epochs=3,
        schedule="cosine",
        decay_1d=False,
        objective_at="best",
        width=3,
    )
    data = shortened(data_of(CNN), 160, 60)
    whole, stopped = train(pack, data=data), rungs(pack, tmp_path, 1, 2, data=data)
    for name in "abc":
        assert story(stopped, name) == story(whole, name)


@pytest.mark.parametrize("optimizer", STACKED)
@pytest.mark.parametrize("widths", [(1, 3), (3, 1)])
def test_a_member_can_resume_in_the_other_engine(
    optimizer: str, widths: tuple[int, int], tmp_path: Path
) -> None:
    workload, data = in_float64(CNN, shortened(data_of(CNN), 160, 60))
    pack = pack_of(CNN, optimizer, *three(optimizer), epochs=2, schedule="cosine", decay_1d=False, width=1)
    whole = train(pack, workload, data)
    begun = train(
        pack.model_copy(update={"to_epoch": 1, "checkpoints": str(tmp_path), "width": widths[0]}),
        workload,
        data,
    )
    urls = {part.trial_id: part.checkpoint for part in begun[-1].members}
    members = tuple(one.model_copy(update={"checkpoint": urls[one.trial_id]}) for one in pack.members)
    ended = train(
        pack.model_copy(update={"members": members, "from_epoch": 1, "width": widths[1]}), workload, data
    )
    for name in "abc":
        mine, theirs = story(whole, name)[-1][0], story(ended, name)[-1][0]
        assert_close(mine.train_loss, theirs.train_loss, rel=1e-6)
        assert_close(mine.weight_norm, theirs.weight_norm, rel=1e-6)
        assert_close(mine.validation_loss, theirs.validation_loss, rel=1e-6)


def engine(pack: Pack, *, width: int, data: Data | None = None) -> StackedEngine:
    used = data or data_of(CNN)
    entry = OPTIMIZERS[pack.optimizer]
    return StackedEngine(
        pack, workload=CNN, entry=entry, data=used, device=CPU, states=[None] * len(pack.members), width=width
    )


def test_checkpoints_of_both_engines_have_the_same_form() -> None:
    for optimizer in STACKED:
        pack = pack_of(CNN, optimizer, *three(optimizer), epochs=2, decay_1d=False, schedule="cosine")
        data = shortened(data_of(CNN), 160, 60)
        stacks = engine(pack, width=3, data=data)
        stacks.train_epoch(1, alive=[0, 1, 2])
        for index, one in enumerate(pack.members):
            solo = Solo(one, pack=pack, workload=CNN, entry=OPTIMIZERS[optimizer], data=data, device=CPU)
            solo.train_epoch(1)
            assert form(stacks.checkpoint(index)) == form(solo.checkpoint())


def form(state: Any) -> Any:
    """Return a state with tensors as their dtypes and shapes, and every other number as its type."""
    if isinstance(state, Tensor):
        return state.dtype, state.shape
    if isinstance(state, dict):
        return {key: form(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [form(item) for item in state]
    return type(state)


def test_a_pack_wider_than_the_width_is_split_evenly_with_equal_results() -> None:
    members = tuple(member("adamw", str(index), lr=0.001 * (1 + index)) for index in range(7))
    wide, narrow = (train(pack_of(MLP, "adamw", *members, epochs=1, width=width)) for width in (7, 3))
    for index in range(7):
        [(mine, _)], [(theirs, _)] = story(wide, str(index)), story(narrow, str(index))
        assert_close(mine.train_loss, theirs.train_loss, rel=1e-5)
    stacks = engine(pack_of(CNN, "adamw", *members), width=3)
    assert [members for members, _ in stacks._groups] == [[0, 1], [2, 3], [4, 5, 6]]


def test_stacks_are_joined_when_fewer_are_enough() -> None:
    members = tuple(member("adamw", str(index)) for index in range(6))
    stacks = engine(pack_of(CNN, "adamw", *members, epochs=2), width=3, data=shortened(data_of(CNN), 64, 32))
    stacks.train_epoch(1, alive=range(6))
    results = stacks.train_epoch(2, alive=[5, 0, 4])
    assert [members for members, _ in stacks._groups] == [[0, 4, 5]]
    assert [result.divergence for result in results] == [None] * 3
    assert len(stacks.test([4, 0])) == 2


def test_out_of_memory_halves_the_width_and_repeats_the_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = tuple(member("adamp", str(index), lr=0.001 * (1 + index)) for index in range(6))
    pack = pack_of(CNN, "adamp", *members, epochs=3, width=6)
    usual = train(pack)
    move, steps = Stack._step, [0]

    def short_of_memory(self: Stack, *given: Any, **named: Any) -> None:
        steps[0] += 1
        # In the middle of the second epoch, after part of a step.
        if len(self.members) > 2 and steps[0] > 40:
            move(self, *given, **named)
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 1 bytes."
            )
        move(self, *given, **named)

    monkeypatch.setattr(Stack, "_step", short_of_memory)
    reports = train(pack)
    assert [report.stack_width and report.stack_width.width for report in reports] == [None, 1, None]
    assert reports[1].stack_width is not None
    assert "A stack of 3 trials ran out of memory" in (reports[1].stack_width.reason or "")
    for index in range(6):
        for (mine, _), (theirs, _) in zip(story(usual, str(index)), story(reports, str(index)), strict=True):
            assert_close(mine.train_loss, theirs.train_loss, rel=0.02)


def test_out_of_memory_before_the_first_step_of_an_epoch_halves_the_width_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = tuple(member("adamp", str(index), lr=0.001 * (1 + index)) for index in range(6))
    pack = pack_of(CNN, "adamp", *members, epochs=2, width=6)
    data = shortened(data_of(CNN), 64, 32)
    usual, stacks = engine(pack, width=6, data=data), engine(pack, width=6, data=data)
    select = Rows.select

    def short_of_memory(self: Rows, rows: Any) -> Rows:
        if len(rows) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return select(self, rows)

    monkeypatch.setattr(Rows, "select", short_of_memory)
    results = stacks.train_epoch(1, alive=range(6))
    monkeypatch.undo()
    assert (stacks.width, stacks.ran_out_with) == (3, 6)
    assert [members for members, _ in stacks._groups] == [[0, 1, 2], [3, 4, 5]]
    for mine, theirs in zip(usual.train_epoch(1, alive=range(6)), results, strict=True):
        assert_close(mine.train_loss, theirs.train_loss, rel=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_out_of_memory_while_resuming_does_not_make_the_checkpoint_unusable(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Layout, "row" if width > 1 else "pieces", short_of_memory)
    monkeypatch.setattr(nn.Module, "load_state_dict", short_of_memory)
    pack = pack_of(MLP, "adamw", member("adamw", "a"), member("adamw", "b"), epochs=2, width=1)
    begun = train(pack.model_copy(update={"to_epoch": 1, "checkpoints": str(tmp_path)}))
    members = tuple(
        one.model_copy(update={"checkpoint": part.checkpoint})
        for one, part in zip(pack.members, begun[0].members, strict=True)
    )
    resumed = pack.model_copy(update={"members": members, "from_epoch": 1})
    states = [load(str(one.checkpoint)) for one in members]
    one: Callable[..., object] = (
        OneByOneEngine if width == 1 else functools.partial(StackedEngine, width=width)
    )
    with pytest.raises(torch.OutOfMemoryError):
        one(resumed, workload=MLP, entry=OPTIMIZERS["adamw"], data=data_of(MLP), device=CPU, states=states)


def test_out_of_memory_errors_are_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_a_members_clock_is_its_share_of_the_stack_and_continues_after_a_rung(tmp_path: Path) -> None:
    pack = pack_of(CNN, "adamw", *(member("adamw", name) for name in "ab"), epochs=3, width=2)
    reports = rungs(pack, tmp_path, 1)
    for name in "ab":
        seconds = [
            part.measurement.elapsed_s
            for report in reports
            for part in report.members
            if part.trial_id == name
        ]
        assert 0.0 < seconds[0] < seconds[1] < seconds[2]


class Tied(TensorWorkload):
    """The digits with tied weights, a frozen parameter, a non-persistent buffer and a scalar parameter."""

    card = MLP.card

    def load_data(self, device: torch.device) -> Data:
        return data_of(MLP).to(device)

    def build_model(self) -> nn.Module:
        return _Odd()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=-1) == targets).to(outputs.dtype).sum()


class _Odd(nn.Module):
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.one, self.two, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.two.weight = self.one.weight
        self.out.weight.requires_grad_(False)
        self.register_buffer("noise", torch.randn(64), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.one(inputs.flatten(1) + 0.1 * self.noise).relu()
        return self.out(self.scale * self.two(states).relu())


@pytest.mark.parametrize("seeds", [(1, 1, 1), (1, 2, 3)])
def test_tied_and_frozen_weights_and_buffers_outside_the_state_are_stacked(
    seeds: tuple[int, int, int], tmp_path: Path
) -> None:
    workload, data = in_float64(Tied(), shortened(data_of(MLP), 160, 60))
    pack = pack_of(MLP, "adamp", *three("adamp", seeds=seeds), epochs=2, width=3, decay_1d=False)
    alone = train(pack.model_copy(update={"width": 1}), workload, data)
    assert_same(alone, train(pack, workload, data), rel=1e-6)
    together = rungs(pack, tmp_path, 1, workload=workload, data=data)
    for name in "abc":
        assert_close(story(alone, name)[-1][0].train_loss, story(together, name)[-1][0].train_loss, rel=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [3, 2, None])
def test_a_stacked_member_matches_training_alone_on_a_gpu(width: int | None, tmp_path: Path) -> None:
    device = torch.device("cuda")
    workload, data = in_float64(CNN, shortened(data_of(CNN), 160, 60))
    data = data.to(device)
    settings: dict[str, Any] = {
        "epochs": 3,
        "schedule": "cosine",
        "to_epoch": 2,
        "checkpoints": str(tmp_path),
    }
    pack = pack_of(CNN, "adamp", *three("adamp", seeds=(1, 2, 2)), width=width, **settings)
    alone, together = (
        list(train_pack(each, workload=workload, entry=OPTIMIZERS["adamp"], data=data, device=device))
        for each in (pack.model_copy(update={"width": 1}), pack)
    )
    assert_same(alone, together, rel=1e-6)
    assert all(part.checkpoint for part in together[-1].members)
    assert (together[0].stack_width is None) == (width is not None)
