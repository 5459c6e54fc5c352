"""Schedules start, peak and end at the documented values, and follow torch's own where it has them."""

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from studies.training_settings import ScheduleName, TrainingSettings
from workers.optimizers import load_optimizers
from workers.schedules import factor, scheduled

__all__: list[str] = []

SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)


def curve(schedule: ScheduleName, total_steps: int = 200, **settings: Any) -> list[float]:
    given = TrainingSettings(batch_size=1, schedule=schedule, **settings)
    return [factor(given, step=step, total_steps=total_steps) for step in range(total_steps)]


def torchs(build: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """Return the learning rates that a scheduler of torch gives an optimizer with lr 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with warnings.catch_warnings():
        # Of calls to step() that a chained scheduler makes with an epoch.
        warnings.simplefilter("ignore")
        scheduler = build(optimizer)
        found: list[float] = []
        for _ in range(steps):
            found.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return found


TORCHS: dict[ScheduleName, tuple[Callable[[torch.optim.Optimizer], LRScheduler], dict[str, Any]]] = {
    "constant": (lambda o: lr_scheduler.ConstantLR(o, factor=1.0), {}),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=210), {}),
    "linear": (
        lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=210),
        {},
    ),
    "step": (
        lambda o: lr_scheduler.StepLR(o, step_size=70, gamma=0.3),
        {"step_drops": 2, "step_factor": 0.3},
    ),
    "warm-restarts": (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=30, T_mult=2),
        {"cycles": 3, "cycle_growth": 2.0},
    ),
    "one-cycle": (
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=210, cycle_momentum=False),
        {},
    ),
    "wsd": (
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.ConstantLR(o, factor=1.0),
                lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=63),
            ],
            milestones=[147],
        ),
        {"decay_fraction": 0.3},
    ),
}


@pytest.mark.parametrize("schedule", TORCHS)
def test_a_schedule_is_torchs(schedule: ScheduleName) -> None:
    build, settings = TORCHS[schedule]
    assert curve(schedule, 210, **settings) == pytest.approx(torchs(build, 210), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name not in ("one-cycle", "wsd")])
def test_after_a_warmup_a_schedule_takes_its_course_over_the_other_steps(schedule: ScheduleName) -> None:
    def build(optimizer: torch.optim.Optimizer) -> LRScheduler:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=9)
        return lr_scheduler.SequentialLR(
            optimizer, [rise, lr_scheduler.ConstantLR(optimizer, 1.0)], milestones=[10]
        )

    factors = curve(schedule, 200, warmup_fraction=0.05)
    assert factors[:10] == pytest.approx(torchs(build, 10))
    assert factors[10:] == curve(schedule, 190, warmup_fraction=0.0)


def test_wsd_decays_over_a_share_of_all_steps_whatever_its_warmup() -> None:
    factors = curve("wsd", 200, warmup_fraction=0.1, decay_fraction=0.25)
    assert factors[19:151] == [1.0] * 132
    assert factors[150:] == pytest.approx([1 - step / 50 for step in range(50)])
    everything = curve("wsd", 10, warmup_fraction=0.4, decay_fraction=1.0)
    assert everything[3:] == pytest.approx([1.0, *(1 - step / 6 for step in range(6))])


def test_cosine_starts_at_one_is_a_half_midway_and_ends_one_step_above_zero() -> None:
    factors = curve("cosine")
    assert factors[0] == 1.0
    assert factors[100] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx((math.pi / 200 / 2) ** 2, rel=1e-3)
    assert all(later < earlier for earlier, later in pairwise(factors))


def test_only_two_schedules_warm_up_unless_the_study_says_so() -> None:
    assert {name: TrainingSettings(batch_size=1, schedule=name).warmup for name in SCHEDULES} == {
        **dict.fromkeys(SCHEDULES, 0.0),
        "warmup-cosine": 0.05,
        "one-cycle": 0.3,
    }
    assert curve("warmup-cosine") == curve("cosine", warmup_fraction=0.05)


def test_a_warmup_shorter_than_a_step_has_no_effect() -> None:
    assert curve("warmup-cosine", total_steps=5) == curve("cosine", total_steps=5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_trial_of_one_step_uses_the_whole_learning_rate(schedule: ScheduleName) -> None:
    assert curve(schedule, total_steps=1) == [1.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.3, 0.999])
def test_every_factor_is_in_the_unit_interval(schedule: ScheduleName, warmup_fraction: float) -> None:
    assert all(
        0.0 < value <= 1.0
        for total in (1, 2, 7, 100)
        for value in curve(schedule, total, warmup_fraction=warmup_fraction)
    )


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_trial_is_rejected(step: int) -> None:
    with pytest.raises(ValueError, match=r"\[0, 10\)"):
        factor(TrainingSettings(batch_size=1), step=step, total_steps=10)


def test_an_optimizer_with_its_own_schedule_has_no_warmup_of_the_study_either() -> None:
    settings = TrainingSettings(batch_size=1, schedule="linear", warmup_fraction=0.2)
    optimizers = load_optimizers()
    assert scheduled(settings, optimizers["adamw"].card) == settings
    own = scheduled(settings, optimizers["schedule-free-adamw"].card)
    assert (own.schedule, own.warmup) == ("constant", 0.0)
