"""The budget verdict of a study's paired trials, and the answers that follow from it."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from catalogs import catalog
from records import Arm, Outcome, around, record
from scipy import stats

from studies.analysis.analyse import analyse
from studies.analysis.compare import compare
from studies.analysis.power import study_power
from studies.analysis.suite import analyse_suite
from studies.analysis.views import StudyAnalysis
from studies.catalog import MetricCard
from studies.states import StudyState
from studies.views import StudyRecord, TrialView

__all__: list[str] = []

PAIRS = 31


def line(
    top: float, *, pairs: int = PAIRS, noise: int = 0, default: Outcome = 0.5, diverged: Sequence[int] = ()
) -> list[Outcome]:
    """Return an arm's search: its defaults, then a trial for each draw, at most 10 points below the top."""
    wobble = 0.002 * np.random.default_rng(noise).normal(size=pairs)
    values = top - 0.1 * np.random.default_rng(0).random(pairs) ** 2 + wobble
    return [default, *("diverged" if n in diverged else float(v) for n, v in enumerate(values))]


def two(first: Arm, second: Arm, **fields: Any) -> StudyAnalysis:
    known: dict[str, Any] = {"search": {"paired": PAIRS}}
    return analyse(record({"sgdp": first, "stepper": second}, **known | fields))


def mean_choice(values: Sequence[float], k: int) -> float:
    """Return the mean over all sets of k trials of the value of the best."""
    return float(np.mean([max(chosen) for chosen in itertools.combinations(values, k)]))


def test_the_value_at_the_primary_budget_is_the_mean_over_all_sets_of_trials() -> None:
    # Weights of the ranks 1 to 7 for sets of 2 of 8: 7, 6, 5, 4, 3, 2, 1 of 28. By hand: 16.8 / 28 = 0.6.
    first = [0.1 * n for n in range(1, 9)]
    second = [0.1 * n for n in (1, 2, 3, 4, 5, 6, 7.5, 7)]
    analysis = analyse(
        record(
            {"sgdp": Arm(search=[0.9, *first]), "stepper": Arm(search=[0.95, *second])}, search={"paired": 8}
        )
    )
    verdict = analysis.by_budget
    assert verdict is not None
    assert (verdict.state, verdict.primary, verdict.n) == ("judged", 2, 8)
    assert verdict.arms[0].value == pytest.approx(0.6)
    (pair,) = verdict.pairs
    difference = mean_choice(first, 2) - mean_choice(second, 2)
    without = [
        mean_choice(first[:n] + first[n + 1 :], 2) - mean_choice(second[:n] + second[n + 1 :], 2)
        for n in range(8)
    ]
    error = math.sqrt(7 / 8 * float(((np.array(without) - np.mean(without)) ** 2).sum()))
    assert pair.difference == pytest.approx(difference)
    assert pair.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, df=3))
    half = stats.t.ppf(0.975, df=3) * error
    assert (pair.low, pair.high) == pytest.approx((difference - half, difference + half))


def test_a_better_optimizer_wins_and_its_curve_and_band_cover_a_quarter_of_the_pairs() -> None:
    analysis = two(Arm(search=line(0.95)), Arm(search=line(0.9, noise=1)))
    verdict = analysis.by_budget
    assert verdict is not None
    assert [(arm.arm, arm.rank, arm.low, arm.high) for arm in verdict.arms] == [
        ("sgdp", 1, 1, 1),
        ("stepper", 2, 2, 2),
    ]
    assert (verdict.pairs[0].word, verdict.pairs[0].n, analysis.finding.winner) == ("better", PAIRS, "sgdp")
    assert [len(curve.points) for curve in analysis.curves] == [7, 7]
    assert {curve.method for curve in analysis.curves} == {"expected test value of the choice"}
    assert analysis.curves[0].points[3].value == pytest.approx(verdict.arms[0].value)
    (over_all,) = verdict.differences
    assert [(each.better, each.low, each.high) for each in over_all.ranges] == [("sgdp", 1, 7)]
    assert not over_all.is_reversed
    assert analysis.flips == ()


def test_the_default_configuration_takes_no_part() -> None:
    first, second = (
        two(Arm(search=line(0.95, default=default)), Arm(search=line(0.9, noise=1))).by_budget
        for default in (0.2, 0.99)
    )
    assert first == second


def test_there_are_no_words_before_every_pair_has_ended() -> None:
    whole = line(0.95)
    running = two(
        Arm(search=[*whole[:-1], "running"]), Arm(search=line(0.9, noise=1)), state=StudyState.RUNNING
    )
    verdict = running.by_budget
    assert verdict is not None
    assert (verdict.state, verdict.ended, verdict.planned) == ("in progress", PAIRS - 1, PAIRS)
    assert (verdict.pairs, verdict.differences, verdict.arms, running.finding.winner) == ((), (), (), None)
    assert verdict.why_none in running.finding.sentences
    ended = two(Arm(search=whole), Arm(search=line(0.9, noise=1)), state=StudyState.RUNNING).by_budget
    assert ended is not None
    assert (ended.state, len(ended.pairs), ended.why_none) == ("judged", 1, None)


def test_a_failed_trial_leaves_out_its_pair_and_a_study_that_was_stopped_is_judged_by_what_has_ended() -> (
    None
):
    cut = line(0.95)
    cut[5:7] = ["failed", "failed"]
    verdict = two(Arm(search=cut), Arm(search=[*line(0.9, noise=1)[:20], *["cancelled"] * 12])).by_budget
    assert verdict is not None
    assert (verdict.state, verdict.n, verdict.pairs[0].n, verdict.pairs[0].word) == (
        "judged",
        17,
        17,
        "better",
    )
    too_short = two(Arm(search=cut[:12]), Arm(search=line(0.9, noise=1))).by_budget
    assert too_short is not None
    assert (too_short.pairs[0].difference, too_short.pairs[0].word) == (None, "undecided")


def test_an_arm_without_results_leaves_the_curves_and_bands_of_the_others() -> None:
    others = {"sgdp": Arm(search=line(0.95)), "stepper": Arm(search=line(0.9, noise=1))}
    lost = Arm(search=["failed"] * (PAIRS + 1))
    analysis = analyse(record({**others, "adamw": lost}, search={"paired": PAIRS}))
    assert [len(curve.points) for curve in analysis.curves] == [7, 7, 0]
    assert not any("because of its figures" in limit for limit in analysis.finding.limits)
    assert analysis.by_budget is not None
    assert [(each.first, each.second) for each in analysis.by_budget.differences] == [("sgdp", "stepper")]


def test_a_diverged_trial_is_the_last_and_counts_with_the_worst_value_of_any_arm() -> None:
    analysis = two(Arm(search=line(0.95, diverged=range(25))), Arm(search=line(0.9, noise=1)))
    verdict = analysis.by_budget
    assert verdict is not None
    worst = min(value for value in line(0.9, noise=1)[1:] if isinstance(value, float))
    assert verdict.diverged_value == pytest.approx(worst)
    at = {arm.arm: arm for arm in verdict.arms}
    assert (at["sgdp"].diverged, at["sgdp"].trials) == (25, PAIRS)
    # In most sets of 4 of its trials all have diverged.
    assert at["sgdp"].value is not None
    assert at["sgdp"].value < 0.91


def test_the_chance_level_of_the_card_is_the_value_of_a_diverged_trial() -> None:
    cards = catalog()
    known = cards.model_copy(
        update={
            "workloads": {
                name: card.model_copy(update={"chance": 0.1}) for name, card in cards.workloads.items()
            }
        }
    )
    verdict = two(
        Arm(search=line(0.95, diverged=range(25))), Arm(search=line(0.9, noise=1)), known=known
    ).by_budget
    assert verdict is not None
    assert verdict.diverged_value == 0.1


def test_replicates_pool_their_pairs_and_later_ones_add_none() -> None:
    searches = [line(0.95), line(0.95, noise=2)]
    other = [line(0.9, noise=1), line(0.9, noise=3)]
    arms = {"sgdp": Arm(search=searches), "stepper": Arm(search=other)}
    both = analyse(record(arms, search={"paired": PAIRS, "replicates": 2})).by_budget
    first = analyse(record(arms, search={"paired": PAIRS, "replicates": 1})).by_budget
    alone = two(Arm(search=searches[0]), Arm(search=other[0])).by_budget
    assert both is not None
    assert (both.n, both.primary) == (2 * PAIRS, 8)
    assert first == alone


def test_too_few_pairs_have_a_reason_and_leave_the_verdict_on_optimizers_to_the_confirmation() -> None:
    arms = {
        "sgdp": Arm(search=line(0.95)[:8], best=around(0.95)),
        "stepper": Arm(search=line(0.9)[:8], best=around(0.9)),
    }
    few, none = (analyse(record(arms, search={"paired": paired})) for paired in (7, 0))
    assert few.by_budget is not None
    assert (few.by_budget.state, few.by_budget.primary) == ("too few pairs", None)
    assert few.by_budget.why_none
    assert none.by_budget is None
    assert (few.pairs, few.finding.sentence, few.curves) == (none.pairs, none.finding.sentence, none.curves)


def test_the_verdict_on_configurations_is_a_t_test_over_seeds_without_the_luck_of_the_search() -> None:
    best = [0.95, 0.951, 0.949, 0.952, 0.95], [0.947, 0.949, 0.946, 0.9485, 0.9475]
    analysis = two(Arm(search=line(0.95), best=best[0]), Arm(search=line(0.948, noise=1), best=best[1]))
    (pair,) = analysis.pairs
    expected = stats.ttest_rel(*best)
    assert (pair.covers, pair.word, pair.p) == ("configurations", "better", pytest.approx(expected.pvalue))
    assert (pair.low, pair.high) == pytest.approx(tuple(expected.confidence_interval()))
    unpaired = two(
        Arm(search=line(0.95), best=best[0]),
        Arm(search=line(0.948, noise=1), best=best[1]),
        search={"paired": 0},
    )
    assert (unpaired.pairs[0].covers, unpaired.pairs[0].word) == ("seeds and search", "undecided")


def test_if_the_two_verdicts_disagree_the_finding_says_how_both_can_be_true() -> None:
    analysis = two(
        Arm(search=line(0.95), best=around(0.9)), Arm(search=line(0.92, noise=1), best=around(0.94, turn=1))
    )
    assert (analysis.finding.winner, analysis.finding.ship) == ("sgdp", "stepper")
    assert len(analysis.finding.sentences) == 3
    agreeing = two(
        Arm(search=line(0.95), best=around(0.94)), Arm(search=line(0.92, noise=1), best=around(0.9, turn=1))
    )
    assert (agreeing.finding.winner, agreeing.finding.ship) == ("sgdp", "sgdp")
    assert len(agreeing.finding.sentences) == 2


def test_an_order_that_reverses_with_the_budget_is_reported_from_the_band() -> None:
    steady = [0.9 + 0.001 * (n % 5) for n in range(128)]
    # One trial in four is much better, the others are worse.
    rare = [0.97 if n % 4 == 0 else 0.85 - 0.001 * (n % 7) for n in range(128)]
    analysis = two(
        Arm(search=[0.5, *steady]), Arm(search=[0.5, *rare]), search={"paired": 128, "verdict_at": 1}
    )
    verdict = analysis.by_budget
    assert verdict is not None
    (over_all,) = verdict.differences
    assert over_all.is_reversed
    assert [each.better for each in over_all.ranges] == ["sgdp", "stepper"]
    assert over_all.ranges[0].low == 1
    assert over_all.ranges[1].high == 32
    assert over_all.sentence in analysis.finding.sentences[0]


def test_every_compared_metric_has_its_verdict_corrected_over_all_of_them() -> None:
    metrics = (
        MetricCard(name="error", unit="none", direction="minimize"),
        MetricCard(name="margin", unit="none", direction="maximize"),
    )
    cards = catalog()
    known = cards.model_copy(
        update={
            "workloads": {
                name: card.model_copy(update={"metrics": metrics}) for name, card in cards.workloads.items()
            }
        }
    )
    made = record(
        {"sgdp": Arm(search=line(0.95)), "stepper": Arm(search=line(0.9, noise=1))},
        known=known,
        search={"paired": PAIRS},
        objective={"compare": ["error", "margin"]},
    )

    def measured(trial: TrialView) -> TrialView:
        value = trial.test_value or 0.0
        return trial.model_copy(update={"test_metrics": {"error": 1 - value, "margin": 0.5}})

    analysis = analyse(made.model_copy(update={"trials": tuple(map(measured, made.trials))}))
    error, margin = (metric.by_budget[0] for metric in analysis.metrics)
    assert analysis.by_budget is not None
    own = analysis.by_budget.pairs[0]
    assert own.difference is not None
    assert own.p is not None
    assert (error.word, error.difference) == ("better", pytest.approx(-own.difference))
    # A pair without a test counts in the family, too.
    assert (error.p, error.p_corrected) == (pytest.approx(own.p), pytest.approx(2 * own.p))
    assert (margin.word, margin.p) == ("undecided", None)


def _study(study_id: str, arms: dict[str, Arm], **fields: Any) -> StudyRecord:
    known: dict[str, Any] = {"search": {"paired": PAIRS}}
    return record(arms, study_id=study_id, **known | fields)


def test_trials_of_studies_of_one_seed_and_design_are_pairs() -> None:
    first, second = Arm(search=line(0.95)), Arm(search=line(0.9, noise=1))
    together = analyse(_study("both", {"sgdp": first, "stepper": second})).by_budget
    one, other = _study("one", {"sgdp": first}), _study("two", {"stepper": second})
    assert compare([one, other]).by_budget == together
    strange = _study("two", {"stepper": second}, seed=1)
    assert compare([one, strange]).by_budget is None


def test_a_suite_has_the_interquartile_mean_of_searches_of_the_primary_budget() -> None:
    def study(name: str, workload: str) -> StudyRecord:
        arms = {
            "sgdp": Arm(search=line(0.95), best=around(0.95)),
            "stepper": Arm(search=line(0.9, noise=1), best=around(0.9, turn=1)),
        }
        return _study(name, arms, workload=workload)

    suite = analyse_suite("small", [study("one", "digits-mlp"), study("two", "digits-mlp")])
    better, worse = suite.arms
    assert (suite.budget, better.arm) == (4, "sgdp")
    assert better.budget_iqm is not None
    assert worse.budget_iqm is not None
    assert better.budget_iqm_low is not None
    assert better.budget_iqm_low > worse.budget_iqm


def test_a_suite_does_not_take_the_p_value_of_the_look_that_decided() -> None:
    cards = catalog()
    names = ("digits-mlp", "digits-two")
    second = cards.workloads["digits-mlp"].model_copy(update={"name": "digits-two"})
    known = cards.model_copy(update={"workloads": {**cards.workloads, "digits-two": second}})

    def winner(pairs: int, search: dict[str, Any]) -> str | None:
        studies: list[StudyRecord] = []
        for n, gap in enumerate((0.05, 0.0)):
            arms = {
                "sgdp": Arm(search=line(0.95, pairs=pairs), best=around(0.95)),
                "stepper": Arm(search=line(0.95 - gap, pairs=pairs, noise=1), best=around(0.9, turn=1)),
            }
            studies.append(_study(f"study {n}", arms, search=search, workload=names[n], known=known))
        return analyse_suite("small", studies).finding.winner

    assert winner(PAIRS, {"paired": PAIRS}) == "sgdp"
    assert winner(32, {"paired": 16, "until": {"max_pairs": 32}}) is None


def _growing(
    trained: int, *, gap: float, state: StudyState = StudyState.COMPLETED, **until: Any
) -> StudyAnalysis:
    """Return a study that adds pairs from 16 to 64; its third arm is far behind."""
    arms = {
        "sgdp": Arm(search=line(0.95, pairs=trained)),
        "stepper": Arm(search=line(0.95 - gap, pairs=trained, noise=1)),
        "adamw": Arm(search=line(0.8, pairs=trained, noise=2)),
    }
    search = {"paired": 16, "until": {"max_pairs": 64, **until}}
    return analyse(record(arms, search=search, state=state, budget={"trials_per_arm": 17, "epochs": 4}))


def test_a_study_that_adds_pairs_has_words_when_nothing_is_open() -> None:
    verdict = _growing(16, gap=0.05, state=StudyState.RUNNING).by_budget
    assert verdict is not None
    assert (verdict.state, verdict.looks[0], verdict.looks[-1]) == ("judged", 16, 64)
    assert [(pair.word, pair.look) for pair in verdict.pairs] == [("better", 16)] * 3


def test_a_study_that_adds_pairs_is_in_progress_while_a_pair_of_arms_is_open() -> None:
    analysis = _growing(16, gap=0.0, state=StudyState.RUNNING)
    verdict = analysis.by_budget
    assert verdict is not None
    assert (verdict.state, verdict.planned, verdict.ended, verdict.pairs) == ("in progress", 20, 16, ())
    assert verdict.why_none in analysis.finding.sentences
    whole = _growing(64, gap=0.0).by_budget
    assert whole is not None
    assert [pair.word for pair in whole.pairs] == ["undecided", "better", "better"]
    assert whole.pairs[0].look == 64


def test_a_study_that_adds_pairs_has_no_fixed_power_and_one_with_few_results_none() -> None:
    arms = {"sgdp": Arm(search=line(0.95)), "stepper": Arm(search=line(0.9, noise=1))}
    assert study_power(record(arms, search={"paired": PAIRS})).pairs_for_half is not None
    growing = study_power(record(arms, search={"paired": 16, "until": {"max_pairs": PAIRS}}))
    assert (growing.detectable, growing.pairs) == (None, ())
    lost = {"adamw": Arm(search=[*line(0.9)[:12], *["failed"] * 20]), "sgdp": Arm(search=line(0.95))}
    few = study_power(record(lost, search={"paired": PAIRS}))
    assert (few.detectable, few.pairs[0].n) == (None, 11)
    assert few.why_none


def test_a_study_that_ended_before_its_first_look_has_no_words() -> None:
    analysis = _growing(11, gap=0.05)
    verdict = analysis.by_budget
    assert verdict is not None
    assert (verdict.state, verdict.pairs, verdict.differences, verdict.arms) == ("judged", (), (), ())
    assert (analysis.finding.winner, analysis.finding.sentences[0]) == (None, verdict.why_none)


def test_pairs_of_arms_that_are_not_to_be_decided_have_no_figures() -> None:
    verdict = _growing(16, gap=0.05, pairs=[["sgdp", "stepper"]]).by_budget
    assert verdict is not None
    assert [(pair.word, pair.p is None) for pair in verdict.pairs] == [
        ("better", False),
        ("undecided", True),
        ("undecided", True),
    ]
