"""The stack width is measured once, kept by the worker, reported first, and bounded by memory."""

import time
from pathlib import Path

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, train

from workers import memory
from workers.memory import spare_bytes
from workers.memory_meters import MemoryMeter
from workers.pack_protocol import Pack, StackWidth
from workers.stacked import width_tuning
from workers.stacked.width_tuning import MAX_WIDTH, WidthTuner, _TrialRun

__all__: list[str] = []

MLP, CNN = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"]


def pack(optimizer: str = "adamw", *, members: int = 2, width: int | None = None) -> Pack:
    made = (member(optimizer, str(index), lr=0.01 / (1 + index)) for index in range(members))
    return pack_of(MLP, optimizer, *made, epochs=2, width=width)


def choose(one: Pack, tuner: WidthTuner) -> StackWidth:
    return tuner.choose(one, workload=MLP, entry=OPTIMIZERS[one.optimizer], data=data_of(MLP), device=CPU)


def test_small_models_are_stacked_and_the_figures_are_reported() -> None:
    chosen = choose(pack(), WidthTuner())
    assert (chosen.workload, chosen.optimizer, chosen.batch_size, chosen.device) == (
        "digits-mlp",
        "adamw",
        32,
        "cpu",
    )
    assert chosen.width in chosen.trial_steps_per_s
    assert chosen.trial_steps_per_s[chosen.width] >= 0.97 * max(chosen.trial_steps_per_s.values())
    assert 1 < chosen.width <= MAX_WIDTH["cpu"]
    assert chosen.reason is None
    # At least weights, two moments and a gradient of 3,466 floats each.
    assert (chosen.bytes_per_member or 0) > 4 * 4 * 3466
    assert StackWidth.model_validate_json(chosen.model_dump_json()) == chosen


def test_the_width_is_measured_once_and_comes_with_the_first_report_of_each_pack() -> None:
    tuner = WidthTuner()
    first, second = (train(pack(), tuner=tuner) for _ in range(2))
    assert first[0].stack_width == second[0].stack_width is not None
    assert first[1].stack_width is second[1].stack_width is None


def test_a_pack_that_specifies_a_width_is_not_measured_and_reports_none() -> None:
    assert [report.stack_width for width in (1, 2) for report in train(pack(width=width))] == [None] * 4


def test_members_that_cannot_be_stacked_are_not_measured() -> None:
    chosen = choose(pack("lion"), WidthTuner())
    assert (chosen.width, chosen.reason, chosen.trial_steps_per_s) == (
        1,
        "Trials are trained one by one: Lion has no batched form.",
        {},
    )
    [first, _] = train(pack("lion"))
    assert first.stack_width == chosen


def test_a_stack_that_is_hardly_faster_is_not_used_and_the_reason_gives_the_speed_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_TrialRun, "rate_alone", lambda _: 100.0)
    monkeypatch.setattr(_TrialRun, "rate_stacked", lambda _, width, **__: (102.0 - width, 1))
    chosen = choose(pack(), WidthTuner())
    assert chosen.width == 1
    assert chosen.reason == "Trials are trained one by one: stacking 2 of them is barely faster here (1.00×)."


def test_memory_bounds_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width_tuning, "spare_bytes", lambda _: 7 * 2**20)
    monkeypatch.setattr(_TrialRun, "rate_alone", lambda _: 100.0)
    monkeypatch.setattr(_TrialRun, "rate_stacked", lambda _, width, **__: (100.0 * width, width * 2**20))
    chosen = choose(pack(), WidthTuner())
    assert chosen.width == 4
    assert chosen.reason == (
        "Memory limits the stack width: 8 trials of 1 MiB each need more than the 7 MiB available."
    )


def test_a_width_that_ran_out_of_memory_is_not_tried_by_this_workers_next_packs() -> None:
    tuner = WidthTuner()
    chosen = choose(pack(), tuner)
    lowered = tuner.lower(choose(pack(width=8), tuner), pack(), width=2, ran_out_with=5)
    assert lowered.reason == (
        "A stack of 5 trials ran out of memory; from then on they were stacked 2 at a time."
    )
    assert (lowered.trial_steps_per_s, lowered.bytes_per_member) == (
        chosen.trial_steps_per_s,
        chosen.bytes_per_member,
    )
    assert choose(pack(), tuner) == choose(pack(width=8), tuner) == lowered
    assert choose(pack(width=2), tuner).reason is None


def test_choosing_takes_little_time() -> None:
    tuner = WidthTuner()
    choose(pack(width=2), tuner)
    started = time.process_time()
    choose(pack(), tuner)
    assert time.process_time() - started < 3.0


def test_a_workload_with_few_examples_can_be_measured_too() -> None:
    small = shortened(data_of(CNN), 40, 8)
    one = pack_of(CNN, "adamp", member("adamp", "a"), member("adamp", "b"), width=None)
    chosen = WidthTuner().choose(one, workload=CNN, entry=OPTIMIZERS["adamp"], data=small, device=CPU)
    assert 1 in chosen.trial_steps_per_s


def test_an_epoch_of_one_step_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pack()
    trial = _TrialRun(
        one, workload=MLP, entry=OPTIMIZERS["adamw"], data=shortened(data_of(MLP), 40, 8), device=CPU
    )
    monkeypatch.setattr(_TrialRun, "_fastest_epoch_s", lambda *_: 1.0)
    assert trial.rate_alone() == 1.0
    assert trial.rate_stacked(2, step_s=1.0)[0] == 2.0


def test_a_busy_moment_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the first measurement of a member alone is slow; no stack is really faster.
    alone, stacked = iter([10.0, 1000.0]), {2: 200.0, 4: 400.0, 8: 390.0, 16: 380.0}
    monkeypatch.setattr(_TrialRun, "rate_alone", lambda _: next(alone))
    monkeypatch.setattr(_TrialRun, "rate_stacked", lambda _, width, **__: (stacked[width], 1))
    chosen = choose(pack(), WidthTuner())
    assert (chosen.width, chosen.trial_steps_per_s[1]) == (1, 1000.0)


def test_files_that_were_read_do_not_count_as_memory_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory.os, "cpu_count", lambda: 1)
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("90000000\n")
    (tmp_path / "memory.stat").write_text(
        "anon 20000000\nfile 70000000\ninactive_file 60000000\nactive_file 10000000\n"
    )
    assert spare_bytes(CPU) == int(0.6 * 70_000_000)


def test_spare_memory_is_plausible_and_the_meter_sees_an_allocation() -> None:
    assert 2**20 < spare_bytes(CPU) < 2**44
    meter = MemoryMeter(CPU)
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    headroom = 1024 * (int(status["VmHWM"].split()[0]) - int(status["VmRSS"].split()[0]))
    held = torch.ones(headroom // 4 + 2**24)
    assert meter.grown() > 2**25
    del held
