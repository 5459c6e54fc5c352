import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studies.statistics.across import (
    algoperf_ratios,
    algoperf_scores,
    combined_evidence,
    interquartile_mean,
    performance_profile,
    relative_performance,
    win_chance,
)
from studies.statistics.proportion import wilson_interval

NAN, INF = math.nan, math.inf
RUNS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=4)


def test_the_worst_arm_has_mean_0_and_the_best_arm_mean_1() -> None:
    found = relative_performance(
        {"a": [1.0, 3.0], "b": [4.0, 4.0, NAN], "c": [6.0, 2.0]}, direction="maximize"
    )
    assert {arm: values.tolist() for arm, values in found.items()} == {
        "a": [-0.5, 0.5],
        "b": [1.0, 1.0],
        "c": [2.0, 0.0],
    }
    loss = relative_performance(
        {"a": [-1.0, -3.0], "b": [-4.0, -4.0, NAN], "c": [-6.0, -2.0]}, direction="minimize"
    )
    assert {arm: values.tolist() for arm, values in loss.items()} == {
        arm: values.tolist() for arm, values in found.items()
    }


def test_a_diverged_run_is_no_better_than_the_worst() -> None:
    found = relative_performance({"a": [1.0, 3.0], "b": [4.0, INF], "c": [INF, INF]}, direction="minimize")
    assert {arm: values.tolist() for arm, values in found.items()} == {
        "a": [1.5, 0.5],
        "b": [0.0, 0.0],
        "c": [0.0, 0.0],
    }
    found = relative_performance({"a": [0.0, 2.0], "b": [2.0, -INF]}, direction="maximize")
    assert found["b"].tolist() == [1.0, -1.0]


def test_finished_runs_of_equal_arms_score_1() -> None:
    found = relative_performance({"a": [1.0, 3.0], "b": [2.0, 2.0, -INF]}, direction="maximize")
    assert {arm: values.tolist() for arm, values in found.items()} == {"a": [1.0, 1.0], "b": [1.0, 1.0, 0.0]}
    assert relative_performance({"a": [-INF], "b": []}, direction="maximize")["a"].tolist() == [0.0]
    assert relative_performance({}, direction="maximize") == {}


# rliable's own test of its metrics: runs by tasks.
X = np.array([[1, 2], [2, 2], [1, 1], [2, 1]])
Y = np.array([[1, 1], [2, 2], [3, 3]])


def test_results_match_rliable() -> None:
    assert interquartile_mean(list(X.T)).value == 1.5
    assert interquartile_mean(list(Y.T)).value == 2
    assert win_chance(list(X.T), list(Y.T)).value == pytest.approx(1 / 3)


def test_the_interquartile_mean_by_hand() -> None:
    assert interquartile_mean([[1, 2, 3, 4], [5, 6, 7, 80]]).value == (3 + 4 + 5 + 6) / 4
    assert interquartile_mean([[1, 2, 3, 4, 50]]).value == (2 + 3 + 4) / 3
    assert interquartile_mean([[7]]).value == 7
    assert math.isnan(interquartile_mean([[]]).value)
    assert math.isnan(interquartile_mean([]).value)


@settings(max_examples=40)
@given(RUNS)
def test_the_interquartile_mean_equals_scipys_trimmed_mean(runs: list[list[int]]) -> None:
    pooled = [value for values in runs for value in values]
    assert interquartile_mean(runs).value == pytest.approx(float(stats.trim_mean(pooled, 0.25)))


def test_the_interval_is_the_bootstraps_within_studies() -> None:
    """Two studies far apart: resampling across them would make the interval as wide as their distance."""
    outside = stats.norm.cdf(stats.t.ppf(0.025, 2 * 29) * math.sqrt(30 / 29))
    assert outside == pytest.approx(0.021, abs=0.001)
    random = np.random.default_rng(0)
    runs = [random.normal(0, 0.1, 30), random.normal(10, 0.1, 30)]
    found = interquartile_mean(runs)
    by_hand = [
        stats.trim_mean(np.concatenate([random.choice(values, values.size) for values in runs]), 0.25)
        for _ in range(600)
    ]
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(by_hand, (outside, 1 - outside))), abs=0.02
    )
    assert found.low < found.value < found.high
    assert found == interquartile_mean(runs)


def test_one_or_two_runs_have_no_interval() -> None:
    for found in (interquartile_mean([[1, 2, 3], [1, 2]]), win_chance([[1, 2, 3]], [[1, 2]])):
        assert math.isfinite(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_a_profile_counts_runs_that_are_at_least_that_good_each_study_alike() -> None:
    found = performance_profile([[0.0, 0.5, 1.0, 1.0], [0.2, 0.2, 0.9]], [0.0, 0.5, 1.0, 1.1])
    assert [point.value for point in found] == pytest.approx([1, (3 / 4 + 1 / 3) / 2, (2 / 4 + 0) / 2, 0])
    assert all(point.low <= point.value <= point.high for point in found)
    assert np.all(np.diff([point.low for point in found]) <= 0)
    assert np.all(np.diff([point.high for point in found]) <= 0)


def test_a_profile_of_equal_studies_has_wilsons_interval() -> None:
    found = performance_profile([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]], [1.0, -1.0])
    assert (found[0].low, found[0].high) == pytest.approx(wilson_interval(5, 8))
    assert (found[1].low, found[1].high) == pytest.approx(wilson_interval(8, 8))
    uneven = performance_profile([[1.0] * 4, [0.0] * 2], [1.0])[0]
    assert (uneven.low, uneven.high) == pytest.approx(wilson_interval(8 / 3, 16 / 3))


@settings(max_examples=40)
@given(RUNS, RUNS)
def test_the_win_chance_is_the_share_of_pairs_won(first: list[list[int]], second: list[list[int]]) -> None:
    studies = min(len(first), len(second))
    first, second = first[:studies], second[:studies]
    shares = [
        np.mean([(a > b) + (a == b) / 2 for a, b in product(one, other)])
        for one, other in zip(first, second, strict=True)
    ]
    found = win_chance(first, second)
    assert found.value == pytest.approx(float(np.mean(shares)))
    assert win_chance(second, first).value == pytest.approx(1 - found.value)


def test_intervals_of_few_runs_have_their_stated_coverage() -> None:
    """Five runs in each of three studies.

    The IQM of these normal runs is 0, and one arm is ahead by 0.3 standard deviations.
    """
    random = np.random.default_rng(2)
    covered, won, times = 0, 0, 250
    truth = stats.norm.cdf(0.3 / math.sqrt(2))
    for _ in range(times):
        runs, others = random.standard_normal((3, 5)), random.standard_normal((3, 5)) - 0.3
        iqm, chance = interquartile_mean(list(runs)), win_chance(list(runs), list(others))
        covered += iqm.low <= 0 <= iqm.high
        won += chance.low <= truth <= chance.high
    assert 0.92 <= covered / times <= 0.98
    assert 0.92 <= won / times <= 0.98


def test_the_interval_of_an_arm_that_wins_every_pair_includes_smaller_chances() -> None:
    found = win_chance([[1, 2, 3, 4, 5]], [[0, 0, 0, 0, 0]])
    assert (found.value, found.low, found.high) == (1, pytest.approx(0.025 ** (1 / 5)), 1)
    found = win_chance([[0, 0, 0], [0, 0, 0]], [[1, 2, 3, 4], [1, 2, 3, 4]])
    assert (found.value, found.low, found.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 6)))


def test_different_studies_are_not_compared() -> None:
    with pytest.raises(ValueError, match="the same studies"):
        win_chance([[1], [2]], [[1]])
    with pytest.raises(ValueError, match="the same studies"):
        win_chance([[1]], [[]])
    with pytest.raises(ValueError, match="a run in each"):
        performance_profile([], [0.5])


def test_algoperfs_score_by_hand() -> None:
    """Ratios 1 and 2.5 earn 1 and 0.5; a ratio of 4 and a miss earn 0; if all miss, all earn 0."""
    times = [[10, 25, INF, 8], [25, 10, INF, 2], [INF, 40, INF, INF]]
    np.testing.assert_allclose(
        algoperf_ratios(times), [[1, 2.5, INF, 4], [2.5, 1, INF, 1], [INF, 4, INF, INF]]
    )
    np.testing.assert_allclose(algoperf_scores(times), [1.5 / 4, 2.5 / 4, 0])


# Seconds to target on nine workloads, and the score that was published for them: the AlgoPerf leaderboard of
# 2026 (mlcommons/submissions_algorithms, analysis/data/{time_to_targets,leaderboard}.csv), rounded to
# seconds.
PUBLISHED = {
    "ademamix": ([7839, 1518, 18026, INF, INF, 48895, INF, 6330, 17400], 0.5067),
    "cautious_nadamw": ([INF, 1608, 25739, INF, INF, INF, INF, 4993, 14232], 0.2952),
    "lion": ([INF, 1394, 23172, INF, INF, INF, INF, 7224, 15476], 0.2626),
    "muon": ([INF, 1870, 20594, INF, 77163, INF, INF, INF, INF], 0.2699),
    "muon_torch": ([7142, INF, 15472, INF, INF, INF, INF, 1833, 14215], 0.4119),
    "muon_torch_jax_hps_achandr": ([INF, 1357, 10339, INF, INF, INF, INF, INF, INF], 0.2149),
    "nadamw": ([7493, 1801, 25734, INF, 72016, INF, INF, INF, INF], 0.3653),
    "schedule_free_adamw": ([10338, 1189, INF, INF, INF, INF, 40463, 3640, 19958], 0.4669),
    "schedule_free_adamw_v2": ([7481, 1129, INF, INF, INF, 55846, 41911, 6325, 10325], 0.5679),
}


def test_algoperfs_score_matches_the_published_one() -> None:
    """AlgoPerf sums the profile at 100 points, which is off by up to half a step for each workload."""
    scores = algoperf_scores([times for times, _ in PUBLISHED.values()])
    np.testing.assert_allclose(scores, [score for _, score in PUBLISHED.values()], atol=0.002)


def test_invalid_times_are_refused() -> None:
    for times in ([[0.0]], [[NAN]], [1.0]):
        with pytest.raises(ValueError, match="expected positive times"):
            algoperf_scores(times)


def test_agreeing_studies_lower_the_combined_p_value_and_opposing_ones_cancel() -> None:
    # z = 1.6449 twice: their sum over sqrt(2) is 2.3262, beyond which 2 % lie on both sides together.
    p, lean = combined_evidence([0.1, 0.1], [1, 1])
    assert (p, lean) == (pytest.approx(0.0200, abs=1e-4), 1)
    assert combined_evidence([0.1, 0.1], [1, -1]) == (pytest.approx(1.0), 0)
    assert combined_evidence([0.03], [-1]) == (pytest.approx(0.03), -1)


def test_a_study_without_a_test_raises_the_combined_p_value() -> None:
    alone, _ = combined_evidence([0.02], [1])
    with_another, lean = combined_evidence([0.02, np.nan], [1, 0])
    assert with_another > alone
    assert lean == 1
    assert combined_evidence([], []) == (1.0, 0)
    assert combined_evidence([0.0], [1])[0] == pytest.approx(0.0)


def test_equal_arms_are_called_different_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(5)
    found = [combined_evidence(rng.uniform(size=4), rng.choice([-1, 1], size=4))[0] for _ in range(4000)]
    assert 0.04 < np.mean(np.array(found) < 0.05) < 0.06


@pytest.mark.slow
def test_suites_have_the_coverage_and_bias_that_the_documentation_states(tmp_path: Path) -> None:
    """Scales come from the runs themselves, as in a suite; docs/statistics.md has the whole table."""
    out = tmp_path / "found.json"
    script = Path(__file__).parents[3] / "benchmarks" / "suites.py"
    arms = ["four arms over 1 SD", "one worst, three tied best, 1 SD apart"]
    subprocess.run(
        [sys.executable, str(script), "--suites", "100", "--runs", "5", "--arms", *arms, "--json", str(out)],
        check=True,
        capture_output=True,
    )
    found = json.loads(out.read_text(encoding="utf-8"))
    spread, tied = (found[f"{each}, 5 runs"] for each in arms)
    assert min(spread["covered"]) >= 0.9
    assert spread["bias"][0] == pytest.approx(0.11, abs=0.05)
    assert spread["bias"][-1] == pytest.approx(-0.11, abs=0.05)
    assert all(0.55 < covered < 0.85 for covered in tied["covered"][1:])
    assert min(spread["wins_covered"], tied["wins_covered"]) >= 0.93
