"""Schedules start, peak and end at the documented values."""

import math
from itertools import pairwise

import pytest

from studies.training_settings import ScheduleName
from workers.schedules import factor

__all__: list[str] = []


def curve(schedule: ScheduleName, total_steps: int = 200, warmup_fraction: float = 0.05) -> list[float]:
    return [
        factor(schedule, step=step, total_steps=total_steps, warmup_fraction=warmup_fraction)
        for step in range(total_steps)
    ]


def test_a_constant_schedule_is_one() -> None:
    assert set(curve("constant")) == {1.0}


def test_cosine_starts_at_one_is_a_half_midway_and_ends_one_step_above_zero() -> None:
    factors = curve("cosine")
    assert factors[0] == 1.0
    assert factors[100] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx((math.pi / 200 / 2) ** 2, rel=1e-3)
    assert all(later < earlier for earlier, later in pairwise(factors))


def test_warmup_rises_in_equal_parts_to_one_and_then_falls_as_cosine_does() -> None:
    factors = curve("warmup-cosine")
    assert factors[:10] == pytest.approx([0.1 * part for part in range(1, 11)])
    assert factors[10:] == curve("cosine", total_steps=190)


def test_a_warmup_shorter_than_a_step_has_no_effect() -> None:
    assert curve("warmup-cosine", total_steps=5) == curve("cosine", total_steps=5)


def test_a_trial_of_one_step_uses_the_whole_learning_rate() -> None:
    assert [curve(schedule, total_steps=1) for schedule in ("constant", "cosine", "warmup-cosine")] == [
        [1.0]
    ] * 3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup-cosine"])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.3, 0.999])
def test_every_factor_is_in_the_unit_interval(schedule: ScheduleName, warmup_fraction: float) -> None:
    assert all(
        0.0 < value <= 1.0 for total in (1, 2, 7, 100) for value in curve(schedule, total, warmup_fraction)
    )


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_trial_is_rejected(step: int) -> None:
    with pytest.raises(ValueError, match=r"\[0, 10\)"):
        factor("constant", step=step, total_steps=10, warmup_fraction=0.0)
