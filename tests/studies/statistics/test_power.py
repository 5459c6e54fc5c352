"""The gap that a study could have detected, and the pairs of trials that a smaller one needs."""

import math

import numpy as np
import pytest

from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.budget_verdict import judge_budgets
from studies.statistics.power import pair_power, pairs_needed

__all__: list[str] = []


def arms(gap: float, *, seed: int, trials: int = 32, count: int = 2) -> list[ArmTrials]:
    """Return paired arms, the first of them better by a gap, whose peaks lie apart."""
    rng = np.random.default_rng(seed)
    place = rng.random(trials)
    found: list[ArmTrials] = []
    for n in range(count):
        true = 0.9 + gap * (n == 0) - 0.3 * (place - 0.5 - 0.1 * n) ** 2
        validation, test = (true + 0.005 * rng.normal(size=trials) for _ in range(2))
        found.append(ArmTrials(name=f"arm {n}", validation=validation, test=test))
    return found


def test_a_gap_that_counts_as_detectable_is_detected_in_about_four_of_five_studies() -> None:
    gaps = [pair_power(arms(0.0, seed=s), direction="maximize", primary=4)[0].detectable for s in range(40)]
    gap = float(np.median(gaps))
    called = [
        judge_budgets(arms(gap, seed=100 + s), direction="maximize", primary=4).pairs[0].word
        for s in range(100)
    ]
    assert 0.6 < called.count("better") / 100 < 0.95


def test_half_the_gap_needs_about_four_times_the_pairs() -> None:
    [one] = pair_power(arms(0.0, seed=1), direction="maximize", primary=4)
    assert one.n == 32
    assert one.for_half is not None
    # More degrees of freedom make it fewer than four times as many.
    assert 80 < one.for_half <= 128
    assert pairs_needed(one.detectable, spread=one.spread, primary=4) == 32


def test_many_arms_raise_the_detectable_gap_and_equal_ones_have_none() -> None:
    two, many = (
        pair_power(arms(0.0, seed=1, count=count), direction="maximize", primary=4)[0] for count in (2, 6)
    )
    assert many.spread == two.spread
    assert many.detectable > two.detectable
    arm = arms(0.0, seed=1)[0]
    [same] = pair_power([arm, arm], direction="maximize", primary=4)
    assert math.isnan(same.detectable)
    assert same.for_half is None
    [few] = pair_power(arms(0.0, seed=1, trials=15), direction="maximize", primary=4)
    assert few.for_half is None
    assert math.isnan(few.detectable)
    assert pairs_needed(10.0, spread=1.0, primary=1) == 8
    assert pairs_needed(0.01, spread=math.inf, primary=4) is None


@pytest.mark.parametrize("gap", [0.0, -1.0, math.nan])
def test_no_number_of_pairs_detects_no_gap(gap: float) -> None:
    assert pairs_needed(gap, spread=1.0, primary=4) is None
