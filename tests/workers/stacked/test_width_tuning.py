"""How many members to stack.

Measured once, kept by the worker, told with the first report, and never more than memory holds.
"""

import time
from pathlib import Path

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, train

from workers import memory
from workers.memory import MemoryMeter, spare_bytes
from workers.pack_protocol import Pack, StackWidth
from workers.stacked import width_tuning as fitting
from workers.stacked.width_tuning import MAX_WIDTH, WidthTuner, _Trial

__all__: list[str] = []

MLP, CNN = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"]


def pack(optimizer: str = "adamw", *, members: int = 2, width: int | None = None) -> Pack:
    made = (member(optimizer, str(index), lr=0.01 / (1 + index)) for index in range(members))
    return pack_of(MLP, optimizer, *made, epochs=2, width=width)


def fit_of(one: Pack, fits: WidthTuner) -> StackWidth:
    return fits.fit(one, workload=MLP, entry=OPTIMIZERS[one.optimizer], data=data_of(MLP), device=CPU)


def test_small_models_are_stacked_and_the_fit_says_how_fast() -> None:
    fit = fit_of(pack(), WidthTuner())
    assert (fit.workload, fit.optimizer, fit.batch_size, fit.device) == ("digits-mlp", "adamw", 32, "cpu")
    assert fit.width in fit.trial_steps_per_s
    assert fit.trial_steps_per_s[fit.width] >= 0.97 * max(fit.trial_steps_per_s.values())
    assert 1 < fit.width <= MAX_WIDTH["cpu"]
    assert fit.reason is None
    # Weights, two moments and a gradient of 3,466 floats at least.
    assert (fit.bytes_per_member or 0) > 4 * 4 * 3466
    assert StackWidth.model_validate_json(fit.model_dump_json()) == fit


def test_it_is_measured_once_and_told_with_the_first_report_of_each_pack_that_asked() -> None:
    fits = WidthTuner()
    first, second = (train(pack(), fits=fits) for _ in range(2))
    assert first[0].fit == second[0].fit is not None
    assert first[1].fit is second[1].fit is None


def test_a_pack_that_says_its_width_is_not_measured_and_tells_nothing() -> None:
    assert [report.fit for width in (1, 2) for report in train(pack(width=width))] == [None] * 4


def test_members_that_cannot_be_stacked_are_not_measured() -> None:
    fit = fit_of(pack("lion"), WidthTuner())
    assert (fit.width, fit.reason, fit.trial_steps_per_s) == (
        1,
        "Members are trained one by one: Lion has no batched form.",
        {},
    )
    [first, _] = train(pack("lion"))
    assert first.fit == fit


def test_a_stack_that_is_no_faster_is_not_used_and_the_reason_has_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "_PAYS", 1e6)
    fit = fit_of(pack(), WidthTuner())
    assert fit.width == 1
    assert fit.reason is not None
    assert (
        "times as many steps in a second here, and must do 1e+06 times as many to be worth it." in fit.reason
    )


def test_memory_bounds_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "spare_bytes", lambda _: 7 * 2**20)
    monkeypatch.setattr(_Trial, "alone", lambda _: 100.0)
    monkeypatch.setattr(_Trial, "stacked", lambda _, width, **__: (100.0 * width, width * 2**20))
    fit = fit_of(pack(), WidthTuner())
    assert fit.width == 4
    assert fit.reason == "Memory bounds the width: 8 members of 1 MiB do not fit into the 7 MiB to spare."


def test_a_width_that_ran_out_of_memory_is_not_tried_by_this_workers_next_packs() -> None:
    fits = WidthTuner()
    fit = fit_of(pack(), fits)
    lowered = fits.lower(fit_of(pack(width=8), fits), pack(), width=2, ran_out_with=5)
    assert lowered.reason == "Memory ran out with 5 members in a stack: 2 at a time from then on."
    assert (lowered.trial_steps_per_s, lowered.bytes_per_member) == (
        fit.trial_steps_per_s,
        fit.bytes_per_member,
    )
    assert fit_of(pack(), fits) == fit_of(pack(width=8), fits) == lowered
    assert fit_of(pack(width=2), fits).reason is None


def test_choosing_takes_little_time() -> None:
    fits = WidthTuner()
    fit_of(pack(width=2), fits)
    started = time.process_time()
    fit_of(pack(), fits)
    assert time.process_time() - started < 3.0


def test_a_workload_with_few_examples_can_be_measured_too() -> None:
    small = shortened(data_of(CNN), 40, 8)
    one = pack_of(CNN, "adamp", member("adamp", "a"), member("adamp", "b"), width=None)
    fit = WidthTuner().fit(one, workload=CNN, entry=OPTIMIZERS["adamp"], data=small, device=CPU)
    assert 1 in fit.trial_steps_per_s


def test_an_epoch_of_one_step_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pack()
    trial = _Trial(
        one, workload=MLP, entry=OPTIMIZERS["adamw"], data=shortened(data_of(MLP), 40, 8), device=CPU
    )
    monkeypatch.setattr(_Trial, "_fastest", lambda *_: 1.0)
    assert trial.alone() == 1.0
    assert trial.stacked(2, step_s=1.0)[0] == 2.0


def test_a_busy_moment_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    # Members alone were held up the first time, and in truth no stack is quicker.
    alone, stacked = iter([10.0, 1000.0]), {2: 200.0, 4: 400.0, 8: 390.0, 16: 380.0}
    monkeypatch.setattr(_Trial, "alone", lambda _: next(alone))
    monkeypatch.setattr(_Trial, "stacked", lambda _, width, **__: (stacked[width], 1))
    fit = fit_of(pack(), WidthTuner())
    assert (fit.width, fit.trial_steps_per_s[1]) == (1, 1000.0)


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


def test_what_there_is_to_spare_is_less_than_there_is_and_what_was_taken_is_seen() -> None:
    assert 2**20 < spare_bytes(CPU) < 2**44
    meter = MemoryMeter(CPU)
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    headroom = 1024 * (int(status["VmHWM"].split()[0]) - int(status["VmRSS"].split()[0]))
    held = torch.ones(headroom // 4 + 2**24)
    assert meter.grown() > 2**25
    del held
