"""Looks at a study while paired trials are added: their levels, what they decide, and what they cost."""

import math

import numpy as np
import pytest

from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.until_decided import ExpectedCost, expected_cost, judge_looks, look_levels, looks

__all__: list[str] = []


def arms(*gaps: float, trials: int = 64, seed: int = 0) -> list[ArmTrials]:
    """Return paired arms on one surface, each better by its gap."""
    rng = np.random.default_rng(seed)
    true = 0.9 - 0.3 * (rng.random(trials) - 0.5) ** 2
    return [
        ArmTrials(
            name=f"arm {n}",
            validation=true + gap + 0.005 * rng.normal(size=trials),
            test=true + gap + 0.005 * rng.normal(size=trials),
        )
        for n, gap in enumerate(gaps)
    ]


def test_looks_begin_at_the_first_end_at_the_most_and_leave_no_small_rest() -> None:
    assert looks(16, 64) == (16, 20, 25, 31, 38, 47, 58, 64)
    assert looks(32, 32) == (32,)
    for first, most in ((8, 9), (8, 100), (32, 64), (100, 1000)):
        found = looks(first, most)
        assert (found[0], found[-1]) == (first, most)
        assert np.all(np.diff(found) > 0)
    with pytest.raises(ValueError, match="expected the first look at 1 to 16 pairs, got 20"):
        looks(20, 16)


def test_levels_spend_five_percent_over_all_looks() -> None:
    # Normal deviates of a published design (looks at 16 of 64 pairs and later, two-sided 5 %).
    from scipy.stats import norm

    planned = (16, 24, 32, 48, 64)
    deviates = [-norm.ppf(level / 2) for level in look_levels(planned)]
    assert deviates == pytest.approx([3.92, 3.21, 2.80, 2.30, 2.04], abs=0.011)
    assert look_levels((64,)) == pytest.approx((0.05,))
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(100_000, len(planned))) * np.sqrt(np.diff((0, *planned)))
    z = np.cumsum(steps, axis=1) / np.sqrt(planned)
    called = (np.abs(z) > deviates).any(axis=1).mean()
    assert called == pytest.approx(0.05, abs=0.003)
    with pytest.raises(ValueError, match="expected ascending numbers"):
        look_levels((16, 16))


def test_a_clear_gap_is_decided_at_an_early_look_and_stays_decided() -> None:
    planned = looks(16, 64)
    trials = arms(0.05, 0.0)
    at = [
        judge_looks(trials, ended=ended, planned=planned, direction="maximize", primary=2)
        for ended in (0, 16, 40, 64)
    ]
    assert [found.done for found in at][:2] == [0, 1]
    assert at[0].following == 16
    assert math.isnan(at[0].pairs[0].at.difference)
    assert at[1].is_decided
    assert at[1].following is None
    assert [found.pairs for found in at[1:]] == [at[1].pairs] * 3
    assert (at[1].pairs[0].look, at[1].pairs[0].at.word) == (16, "better")


def test_equal_arms_stay_undecided_to_the_last_look() -> None:
    planned = looks(16, 64)
    found = judge_looks(arms(0.0, 0.0), ended=64, planned=planned, direction="maximize", primary=2)
    assert (found.done, found.following, found.is_decided) == (len(planned), None, False)
    assert found.pairs[0].look == 64


def test_an_arm_that_lost_to_all_others_may_be_dropped_and_the_rest_goes_on() -> None:
    planned = looks(16, 64)
    trials = arms(0.05, 0.05, 0.0)
    kept = [
        ArmTrials(
            name=arm.name,
            validation=np.where(np.arange(64) < (16 if n == 2 else 64), arm.validation, np.nan),
            test=arm.test,
        )
        for n, arm in enumerate(trials)
    ]
    found = judge_looks(kept, ended=64, planned=planned, direction="maximize", primary=2, can_drop=True)
    assert found.dropped == {"arm 2": 16}
    assert [(pair.at.n, pair.look) for pair in found.pairs] == [(64, 64), (16, 16), (16, 16)]
    asked = judge_looks(
        kept,
        ended=64,
        planned=planned,
        direction="maximize",
        primary=2,
        pairs=[("arm 0", "arm 2")],
    )
    assert (asked.done, asked.is_decided) == (1, True)


def test_small_gaps_cost_more_and_dropping_saves_trials() -> None:
    planned = looks(32, 64)
    costs = [expected_cost(gap=gap, spread=1.5, arms=4, primary=4, planned=planned) for gap in (0.5, 1, 2, 5)]
    assert [cost.pairs for cost in costs] == sorted((cost.pairs for cost in costs), reverse=True)
    assert costs[-1].pairs == 32
    assert costs[-1].trials == 4 * 32
    assert costs[-1].decided == 1
    dropping = expected_cost(gap=2, spread=1.5, arms=4, primary=4, planned=planned, can_drop=True)
    assert dropping.trials < costs[2].trials
    assert dropping.pairs == costs[2].pairs


def test_fewer_pairs_of_arms_to_decide_cost_less() -> None:
    def cost(pairs: list[tuple[int, int]] | None) -> ExpectedCost:
        return expected_cost(gap=1.0, spread=1.6, arms=3, primary=4, planned=looks(16, 64), pairs=pairs)

    every = cost(None)
    assert cost([(0, 1), (0, 2), (1, 2)]) == every
    far = cost([(0, 2)])
    assert far.pairs < every.pairs
    assert far.decided > every.decided
