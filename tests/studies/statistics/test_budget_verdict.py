"""The verdict by tuning budget: its words, intervals and band on trials whose truth is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from studies.direction import Direction
from studies.statistics.budget_verdict import ArmTrials, judge_budgets

__all__: list[str] = []


def arms(
    *gaps: float, trials: int = 32, seed: int = 0, diverged: float = 0.1, noise: float = 0.005
) -> list[ArmTrials]:
    """Return paired arms on one surface, each better by its gap; a part of the trials diverges."""
    rng = np.random.default_rng(seed)
    place = rng.random(trials)
    found: list[ArmTrials] = []
    for n, gap in enumerate(gaps):
        true = 0.9 + gap - 0.3 * (place - 0.5) ** 2
        validation, test = (true + noise * rng.normal(size=trials) for _ in range(2))
        lost = place > 1 - diverged
        validation[lost], test[lost] = -math.inf, math.nan
        found.append(ArmTrials(name=f"arm {n}", validation=validation, test=test))
    return found


def turned(arm: ArmTrials) -> ArmTrials:
    return ArmTrials(name=arm.name, validation=-arm.validation, test=-arm.test)


def without(arm: ArmTrials, rows: NDArray[np.bool_]) -> ArmTrials:
    return ArmTrials(
        name=arm.name,
        validation=np.where(rows, np.nan, arm.validation),
        test=np.where(rows, np.nan, arm.test),
    )


def test_a_better_arm_is_called_better_and_its_interval_holds_the_difference() -> None:
    found = judge_budgets(arms(0.02, 0.0), direction="maximize", primary=4)
    [pair] = found.pairs
    assert (pair.word, pair.n) == ("better", 32)
    assert pair.low < 0.02 < pair.high
    assert pair.low < pair.difference < pair.high
    assert pair.p == pair.p_corrected < 0.01
    [band] = found.band
    assert found.budgets.tolist() == list(range(1, 9))
    assert np.all((band.low < 0.02) & (band.high > 0.02))
    assert band.high[3] - band.low[3] > pair.high - pair.low
    assert found.curves.shape == (2, 8)
    assert np.all(np.diff(found.curves[0]) > 0)


def test_a_metric_to_minimize_gives_the_same_words_and_turned_intervals() -> None:
    by: dict[Direction, object] = {}
    up = judge_budgets(arms(0.02, 0.0, 0.0), direction="maximize", primary=4)
    down = judge_budgets([turned(arm) for arm in arms(0.02, 0.0, 0.0)], direction="minimize", primary=4)
    by["maximize"] = [(pair.word, pair.p_corrected) for pair in up.pairs]
    by["minimize"] = [(pair.word, pair.p_corrected) for pair in down.pairs]
    assert by["maximize"] == by["minimize"]
    assert [pair.low for pair in up.pairs] == pytest.approx([-pair.high for pair in down.pairs])
    assert up.band[0].low == pytest.approx(-down.band[0].high)
    assert up.curves == pytest.approx(-down.curves)


@pytest.mark.parametrize("gap", [0.0, 0.001])
def test_equal_arms_and_arms_whose_difference_never_varies_are_undecided(gap: float) -> None:
    one = arms(0.0, diverged=0.0)[0]
    other = ArmTrials(name="other", validation=one.validation + gap, test=one.test + gap)
    [pair] = judge_budgets([one, other], direction="maximize", primary=4).pairs
    assert pair.word == "undecided"
    same = judge_budgets([one, one], direction="maximize", primary=4)
    assert math.isnan(same.pairs[0].p)
    assert np.isnan(same.band[0].low).all()


def test_too_few_pairs_give_no_verdict() -> None:
    for trials, primary in ((7, 1), (12, 4)):
        found = judge_budgets(arms(0.05, 0.0, trials=trials), direction="maximize", primary=primary)
        assert found.pairs[0].word == "undecided"
        assert math.isnan(found.pairs[0].difference)


def test_a_pair_without_a_result_is_left_out_and_one_that_diverged_counts() -> None:
    first, second = arms(0.02, 0.0, diverged=0.0)
    lost = np.arange(32) < 6
    found = judge_budgets([without(first, lost), second], direction="maximize", primary=3)
    assert found.pairs[0].n == 26
    bad = ArmTrials(
        name="often diverges",
        validation=np.where(lost, -math.inf, first.validation),
        test=np.where(lost, math.nan, first.test),
    )
    at_two = [
        judge_budgets([one, second], direction="maximize", primary=2, diverged=0.1).pairs[0].difference
        for one in (first, bad)
    ]
    assert at_two[1] < at_two[0]


def test_the_correction_over_many_arms_lies_between_no_correction_and_holms() -> None:
    many = arms(0.0, 0.002, 0.004, 0.02, 0.0, 0.001)
    by_max = judge_budgets(many, direction="maximize", primary=4).pairs
    by_holm = judge_budgets(many, direction="maximize", primary=4, correction="holm").pairs
    assert len(by_max) == 15
    for one, other in zip(by_max, by_holm, strict=True):
        assert one.p == other.p
        assert one.p <= one.p_corrected <= other.p_corrected + 1e-12


def test_arms_that_are_not_paired_may_differ_in_their_trials_and_have_wider_intervals() -> None:
    paired = judge_budgets(arms(0.02, 0.0), direction="maximize", primary=4).pairs[0]
    first, second = arms(0.02, 0.0)
    longer = arms(0.02, trials=40, seed=1)[0]
    apart = judge_budgets([first, second], direction="maximize", primary=4, is_paired=False).pairs[0]
    assert apart.difference == pytest.approx(paired.difference)
    assert apart.high - apart.low > paired.high - paired.low
    assert judge_budgets([longer, second], direction="maximize", primary=4, is_paired=False).pairs[0].n == 32
    with pytest.raises(ValueError, match="expected paired arms with the same number"):
        judge_budgets([longer, second], direction="maximize", primary=4)
