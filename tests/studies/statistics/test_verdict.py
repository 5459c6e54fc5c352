import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from scipy import stats

from studies.statistics.paired import effective_df
from studies.statistics.search_luck import search_luck
from studies.statistics.verdict import ArmScores, PairJudgement, judge, judge_together

NAN = float("nan")
INF = float("inf")
LUCKLESS = np.array([0.9])
BASE = np.array([0.91, 0.93, 0.92, 0.90, 0.94, 0.925, 0.915, 0.935])


def arm(
    name: str,
    scores: Sequence[float] | np.ndarray,
    *,
    search: Sequence[float] | np.ndarray = LUCKLESS,
    tests: np.ndarray | None = None,
) -> ArmScores:
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    return ArmScores(
        name=name,
        scores=table,
        search_values=np.asarray(search, dtype=np.float64),
        search_tests=tests,
        adaptive=False,
    )


def only_pair(*arms: ArmScores, direction: Literal["maximize", "minimize"] = "maximize") -> PairJudgement:
    (pair,) = judge(arms, direction=direction).pairs
    return pair


def noisy(shift: float, *, seeds: int, seed: int = 0) -> np.ndarray:
    return BASE[:seeds] + shift + 0.002 * np.random.default_rng(seed).normal(size=seeds)


# One replicate.


def test_without_search_luck_the_verdict_is_the_paired_t_test() -> None:
    a, b = noisy(0.004, seeds=5, seed=1), noisy(0.0, seeds=5, seed=2)
    pair = only_pair(arm("a", a), arm("b", b))
    reference: Any = stats.ttest_rel(a, b)
    low, high = reference.confidence_interval(0.95)
    assert (pair.p, pair.p_holm) == (pytest.approx(reference.pvalue), pytest.approx(reference.pvalue))
    assert (pair.low, pair.high) == (pytest.approx(low), pytest.approx(high))
    assert (pair.seeds_low, pair.seeds_high) == (pytest.approx(low), pytest.approx(high))
    assert (pair.n, pair.difference, pair.covers) == (
        5,
        pytest.approx(float(np.mean(a - b))),
        "seeds and search",
    )


def test_the_luck_of_both_searches_widens_the_interval_and_not_that_over_seeds() -> None:
    rng = np.random.default_rng(3)
    a, b = noisy(0.02, seeds=5, seed=1), noisy(0.0, seeds=5, seed=2)
    searches = rng.normal(0.9, 0.02, (2, 30))
    tests = searches + rng.normal(0, 0.002, (2, 30))
    pair = only_pair(
        *(
            arm(name, s, search=v, tests=t)
            for name, s, v, t in zip("ab", (a, b), searches, tests, strict=True)
        )
    )
    noise = float(np.std(a - b, ddof=1))
    lucks = [
        search_luck(v, direction="maximize", adaptive=False, tests=t)
        for v, t in zip(searches, tests, strict=True)
    ]
    parts = [
        (noise**2 / 5, 4.0),
        *((luck.variance(noise=noise / math.sqrt(2)), luck.df) for luck in lucks if luck is not None),
    ]
    half = stats.t.ppf(0.975, effective_df(parts)) * math.sqrt(sum(v for v, _ in parts))
    assert pair.low is not None
    assert pair.high is not None
    assert pair.seeds_low is not None
    assert (pair.high - pair.low) / 2 == pytest.approx(half)
    assert pair.low < pair.seeds_low
    assert (pair.p is not None and pair.p < 0.05) == (pair.low > 0)


def test_a_clear_gap_gets_the_same_verdict_in_either_order_and_direction() -> None:
    a, b = arm("a", noisy(0.1, seeds=5, seed=1)), arm("b", noisy(0.0, seeds=5, seed=2))
    assert only_pair(a, b).word == "better"
    assert only_pair(b, a).word == "worse"
    assert only_pair(a, b, direction="minimize").word == "worse"
    assert only_pair(b, a, direction="minimize").word == "better"


@pytest.mark.parametrize("replicates", [1, 3])
def test_the_differences_keep_the_metrics_sign(replicates: int) -> None:
    rng = np.random.default_rng(4)
    arms = [
        arm(name, rng.normal(shift, 0.01, (replicates, 4)), search=rng.normal(size=8))
        for name, shift in (("a", 0.3), ("b", 0.2))
    ]
    up = only_pair(*arms)
    negated = [arm(each.name, -each.scores, search=-each.search_values) for each in arms]
    down = only_pair(*negated, direction="minimize")
    assert down.word == up.word
    assert (down.p, down.p_holm) == (up.p, up.p_holm)
    for one, other in (
        (down.difference, up.difference),
        (down.low, up.high),
        (down.high, up.low),
        (down.seeds_low, up.seeds_high),
        (down.effect_size, up.effect_size),
    ):
        assert one is not None
        assert other is not None
        assert one == pytest.approx(-other)


def test_only_seeds_that_both_arms_ran_are_pairs() -> None:
    a, b = noisy(0.01, seeds=6, seed=1), noisy(0.0, seeds=6, seed=2)
    whole = only_pair(arm("a", a[1:5]), arm("b", b[1:5]))
    a[0], b[5] = NAN, NAN
    part = only_pair(arm("a", a), arm("b", b))
    assert part == whole
    assert part.n == 4


def test_one_shared_seed_cannot_decide() -> None:
    pair = only_pair(arm("a", [0.99, NAN]), arm("b", [0.1, 0.2]))
    assert (pair.word, pair.n, pair.p, pair.p_holm, pair.low) == ("undecided", 1, None, None, None)
    assert pair.difference == pytest.approx(0.89)
    assert "fewer than two seeds" in pair.method


@pytest.mark.parametrize("none", [np.empty((0, 5)), np.full((1, 5), NAN)])
def test_an_arm_without_a_confirmed_configuration_is_undecided_and_counts_for_holm(none: np.ndarray) -> None:
    arms = [arm("a", noisy(0.1, seeds=5, seed=1)), arm("b", noisy(0.0, seeds=5, seed=2))]
    missing = ArmScores(name="c", scores=none, search_values=np.array([]), adaptive=False)
    found = judge([*arms, missing], direction="maximize")
    assert [pair.word for pair in found.pairs] == ["better", "undecided", "undecided"]
    assert found.pairs[0].p is not None
    assert found.pairs[0].p_holm == pytest.approx(3 * found.pairs[0].p)
    assert (found.pairs[1].n, found.pairs[1].difference, found.pairs[1].p) == (0, None, None)
    assert found.ranks == ()
    assert found.winner is None


def test_a_search_in_which_nearly_everything_diverged_leaves_it_undecided() -> None:
    poor = [0.9, *[-INF] * 9]
    pair = only_pair(
        arm("a", noisy(0.1, seeds=5, seed=1), search=poor), arm("b", noisy(0.0, seeds=5, seed=2))
    )
    assert (pair.word, pair.p) == ("undecided", None)
    assert "too few trials" in pair.method
    assert pair.seeds_low is not None


# Signs.


def test_constant_differences_do_not_give_an_interval_of_zero_width() -> None:
    pair = only_pair(arm("a", BASE[:5] + 1 / 360), arm("b", BASE[:5]))
    assert (pair.word, pair.covers, pair.p) == ("undecided", "signs", 0.0625)
    assert (pair.low, pair.seeds_low, pair.effect_size) == (None, None, None)
    assert pair.difference == pytest.approx(1 / 360)
    assert only_pair(arm("a", BASE + 1 / 360), arm("b", BASE)).word == "better"


def test_equal_runs_tie() -> None:
    pair = only_pair(arm("a", BASE), arm("b", BASE))
    assert (pair.word, pair.p, pair.difference) == ("undecided", 1.0, 0.0)


def test_a_constant_difference_within_the_luck_of_the_search_is_a_tie() -> None:
    search = np.linspace(0.8, 0.95, 20)
    assert only_pair(arm("a", BASE + 0.001, search=search), arm("b", BASE, search=search)).p == 1.0
    assert only_pair(arm("a", BASE + 0.5, search=search), arm("b", BASE, search=search)).word == "better"


def test_a_diverged_run_loses_to_a_finished_one_and_two_tie() -> None:
    a, b = BASE.copy(), BASE + 0.2
    a[0], b[0] = -INF, -INF
    b[1] = -INF
    pair = only_pair(arm("a", a), arm("b", b))
    assert (pair.n, pair.covers, pair.low, pair.seeds_low) == (8, "signs", None, None)
    assert pair.p == pytest.approx(stats.binomtest(1, 7).pvalue)
    assert pair.difference == pytest.approx(-0.2)
    assert "1 won and 6 lost" in pair.method


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_an_arm_that_always_diverges_is_worse_from_six_seeds_on(
    direction: Literal["maximize", "minimize"],
) -> None:
    worst = -INF if direction == "maximize" else INF
    for seeds, word in ((5, "undecided"), (6, "better")):
        found = judge([arm("a", BASE[:seeds]), arm("b", np.full(seeds, worst))], direction=direction)
        assert found.pairs[0].word == word
        assert [rank.arm for rank in found.ranks] == ["a", "b"]


def test_finished_runs_beside_diverged_ones_count_only_beyond_the_luck_of_the_search() -> None:
    search = np.linspace(0.8, 0.95, 20)
    a, b = BASE - 0.001, BASE.copy()
    a[:3] = -INF
    pair = only_pair(arm("a", a, search=search), arm("b", b, search=search))
    assert "0 won and 3 lost" in pair.method


# Replicates.


def test_with_replicates_the_verdict_is_welchs_test_of_their_means() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.93, 0.01, (4, 5)), rng.normal(0.91, 0.02, (4, 5))
    pair = only_pair(arm("a", a), arm("b", b))
    reference: Any = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
    low, high = reference.confidence_interval(0.95)
    assert (pair.n, pair.covers, pair.p) == (4, "replicates", pytest.approx(reference.pvalue))
    assert (pair.low, pair.high) == (pytest.approx(low), pytest.approx(high))
    over_seeds = stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).confidence_interval(0.95)
    assert (pair.seeds_low, pair.seeds_high) == (
        pytest.approx(over_seeds.low),
        pytest.approx(over_seeds.high),
    )


def test_replicates_are_compared_on_seeds_that_all_of_them_ran() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.93, 0.01, (3, 5)), rng.normal(0.91, 0.01, (3, 5))
    whole = only_pair(arm("a", a[:, :4]), arm("b", b[:, :4]))
    a[1, 4] = NAN
    assert only_pair(arm("a", a), arm("b", b)) == whole


def test_a_replicate_without_a_confirmed_configuration_is_left_out() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.93, 0.01, (3, 5)), rng.normal(0.91, 0.01, (3, 5))
    a[0] = NAN
    pair = only_pair(arm("a", a), arm("b", b))
    reference: Any = stats.ttest_ind(a[1:].mean(axis=1), b.mean(axis=1), equal_var=False)
    assert (pair.n, pair.p) == (2, pytest.approx(reference.pvalue))
    a[1] = NAN
    alone = only_pair(arm("a", a), arm("b", b))
    assert (alone.word, alone.n, alone.p) == ("undecided", 1, None)
    assert alone.difference is not None


def test_replicates_without_a_shared_seed_cannot_decide() -> None:
    a, b = np.full((2, 4), NAN), np.full((2, 4), NAN)
    a[:, :2], b[:, 2:] = 0.9, 0.8
    pair = only_pair(arm("a", a), arm("b", b))
    assert (pair.word, pair.n, pair.p, pair.difference) == ("undecided", 0, None, None)


@pytest.mark.parametrize(("replicates", "word"), [(5, "undecided"), (6, "better")])
def test_replicates_with_diverged_runs_are_judged_by_signs(replicates: int, word: str) -> None:
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.93, 0.001, (replicates, 5)), rng.normal(0.91, 0.001, (replicates, 5))
    b[0, 0] = -INF
    pair = only_pair(arm("a", a), arm("b", b))
    assert (pair.word, pair.covers) == (word, "signs")
    assert (pair.low, pair.difference) == (None, None)


def test_equal_replicates_do_not_give_an_interval_of_zero_width() -> None:
    a, b = np.full((3, 4), 0.95), np.full((3, 4), 0.94)
    pair = only_pair(arm("a", a), arm("b", b))
    assert (pair.word, pair.covers, pair.p) == ("undecided", "signs", 0.25)


# Ranks and the winner.


def test_rank_intervals_allow_every_order_that_the_pairs_allow() -> None:
    arms = [
        arm("low", noisy(-0.2, seeds=5, seed=1)),
        arm("b", noisy(0.0, seeds=5, seed=2)),
        arm("a", noisy(0.0005, seeds=5, seed=3)),
    ]
    found = judge(arms, direction="maximize")
    assert [pair.word for pair in found.pairs] == ["worse", "worse", "undecided"]
    assert {rank.arm: (rank.low, rank.high) for rank in found.ranks} == {
        "low": (3, 3),
        "a": (1, 2),
        "b": (1, 2),
    }
    assert found.ranks[-1].arm == "low"
    assert found.winner is None


def test_the_winner_is_better_than_every_other() -> None:
    arms = [
        arm("b", noisy(0.0, seeds=5, seed=1)),
        arm("a", noisy(0.3, seeds=5, seed=2)),
        arm("c", noisy(0.0, seeds=5, seed=3)),
    ]
    assert judge(arms, direction="maximize").winner == "a"
    assert judge(arms, direction="minimize").winner is None
    assert judge(arms[:1], direction="maximize").winner is None
    assert judge([], direction="maximize").pairs == ()


def test_tied_arms_share_the_mean_of_their_ranks() -> None:
    found = judge([arm("a", BASE), arm("b", BASE), arm("c", BASE + 0.2)], direction="maximize")
    assert [(rank.arm, rank.rank) for rank in found.ranks] == [("c", 1.0), ("a", 2.5), ("b", 2.5)]


def test_every_place_lies_within_its_own_interval() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        arms: list[ArmScores] = []
        for name in "abcd":
            scores = rng.normal(rng.choice([0.0, 0.0, 5.0]), 1.0, (1, 7))
            scores[rng.random(scores.shape) < rng.choice([0.0, 0.5])] = rng.choice([NAN, -INF])
            arms.append(arm(name, scores))
        found = judge(arms, direction="maximize")
        assert all(rank.low <= rank.rank <= rank.high for rank in found.ranks)


def test_undoubted_order_implies_no_contradiction_in_holms_family() -> None:
    rng = np.random.default_rng(10)
    arms = [
        arm(name, rng.normal(shift, 0.01, 6))
        for name, shift in zip("abcd", (0.0, 0.0, 0.05, 0.2), strict=True)
    ]
    found = judge(arms, direction="maximize")
    assert [(pair.first, pair.second) for pair in found.pairs] == list(itertools.combinations("abcd", 2))
    assert all(
        pair.p is not None and pair.p_holm is not None and pair.p_holm >= pair.p for pair in found.pairs
    )


# What is refused.


def test_arms_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        judge([arm("a", BASE), arm("a", BASE)], direction="maximize")


def test_scores_on_different_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="same S seeds"):
        judge([arm("a", BASE), arm("b", BASE[:3])], direction="maximize")


def test_the_best_infinity_is_not_a_valid_score() -> None:
    with pytest.raises(ValueError, match="worst infinity"):
        judge([arm("a", [INF, 0.9]), arm("b", [0.9, 0.9])], direction="maximize")


# Several metrics.


def test_p_values_of_several_metrics_are_corrected_over_all_their_pairs() -> None:
    first = [arm("a", noisy(0.004, seeds=5, seed=1)), arm("b", noisy(0.0, seeds=5, seed=2))]
    second = [arm("a", noisy(0.02, seeds=5, seed=3)), arm("b", noisy(0.0, seeds=5, seed=4))]
    alone = [judge(arms, direction="maximize").pairs[0].p for arms in (first, second)]
    both = judge_together([(first, "maximize"), (second, "minimize")])
    assert [judgement.pairs[0].p for judgement in both] == alone
    corrected = sorted(p for judgement in both if (p := judgement.pairs[0].p_holm) is not None)
    smaller, larger = sorted(p for p in alone if p is not None)
    assert corrected == pytest.approx([2 * smaller, max(larger, 2 * smaller)])
    assert both[1].pairs[0].word == "worse", "the second metric is minimised"


def test_one_metric_together_is_the_verdict_alone() -> None:
    arms = [arm(name, noisy(0.003 * n, seeds=5, seed=n)) for n, name in enumerate("abc")]
    assert judge_together([(arms, "maximize")]) == (judge(arms, direction="maximize"),)
    assert judge_together([]) == ()


def test_by_another_metric_the_luck_of_the_search_is_that_of_its_test_values() -> None:
    search = np.array([0.7, 0.8, 0.9, 0.88, 0.86])
    alike, varied = np.full(5, 30.0), np.array([20.0, 45.0, 30.0, 60.0, 25.0])

    def found(tests: np.ndarray | None) -> PairJudgement:
        arms = [
            dataclasses.replace(
                arm(
                    name,
                    30 + shift + 100 * (noisy(0.0, seeds=5, seed=n) - BASE[:5]),
                    search=search,
                    tests=tests,
                ),
                search_direction="maximize",
            )
            for n, (name, shift) in enumerate((("a", 0.0), ("b", 3.0)))
        ]
        return only_pair(*arms, direction="minimize")

    assert found(alike).word == "better"
    assert found(varied).word == "undecided"
    unknown = found(None)
    assert (unknown.p, unknown.word) == (None, "undecided")
