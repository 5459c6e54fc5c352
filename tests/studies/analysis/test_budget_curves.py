import itertools

import numpy as np
import pytest
from records import Arm, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.views import BudgetCurve
from studies.views import StudyRecord

__all__: list[str] = []


def _curve(of: StudyRecord) -> BudgetCurve:
    return analyse(of).curves[0]


def test_random_trials_give_the_expected_best_of_k_that_begins_with_the_defaults() -> None:
    drawn = [0.5, 0.9, 0.7, 0.8]
    curve = _curve(record({"adamw": Arm(search=[0.6, *drawn])}))
    by_hand = [
        np.mean([max(0.6, *some) for some in itertools.combinations(drawn, k - 1)]) if k > 1 else 0.6
        for k in range(1, 6)
    ]
    assert curve.method == "expected best of k"
    assert [point.trials for point in curve.points] == [1, 2, 3, 4, 5]
    assert [point.value for point in curve.points] == pytest.approx(by_hand)


def test_the_order_of_random_trials_does_not_matter() -> None:
    one, other = (
        _curve(record({"adamw": Arm(search=[0.6, *drawn])})) for drawn in ([0.5, 0.9, 0.7], [0.9, 0.7, 0.5])
    )
    assert [point.value for point in one.points] == pytest.approx([point.value for point in other.points])


def test_an_adaptive_sampler_gives_the_plain_best_so_far_and_no_band() -> None:
    curve = _curve(record({"adamw": Arm(search=[0.6, 0.5, 0.9, 0.7, 0.8])}, sampler="tpe"))
    assert (curve.method, curve.band) == ("best so far", None)
    assert [(point.trials, point.value) for point in curve.points] == [(1, 0.6), (3, 0.9), (5, 0.9)]
    assert all(point.low is None and point.high is None for point in curve.points)


def test_a_pruned_study_gives_the_plain_best_so_far_whatever_its_sampler() -> None:
    curve = _curve(record({"adamw": Arm(search=[0.6, "pruned", 0.9])}, pruner="asha"))
    assert curve.method == "best so far"
    assert [(point.trials, point.epochs, point.value) for point in curve.points] == [
        (1, 4.0, 0.6),
        (3, 9.0, 0.9),
    ]


def test_replicates_give_their_median_and_a_spread_only_from_six_on() -> None:
    def of(searches: int) -> BudgetCurve:
        lines = [[0.5 + 0.01 * r, 0.9 + 0.01 * r] for r in range(searches)]
        return _curve(record({"adamw": Arm(search=lines)}, sampler="tpe"))

    few, many = of(3), of(7)
    assert few.method == "median of replicates"
    assert few.points[-1].value == pytest.approx(0.91)
    assert few.band is None
    assert many.band is not None
    assert many.points[-1].low is not None
    assert many.points[-1].high is not None
    assert many.points[-1].low <= 0.93 <= many.points[-1].high


def test_enough_random_trials_have_a_band_and_few_have_none() -> None:
    rng = np.random.default_rng(0)
    values = [float(value) for value in rng.uniform(0.1, 0.9, 400)]
    many = _curve(record({"adamw": Arm(search=values)}))
    assert many.band is not None
    assert "simultaneous over all budgets" in many.band
    assert any(point.low is not None for point in many.points)
    assert _curve(record({"adamw": Arm(search=values[:10])})).band is None


def test_a_curve_has_no_value_while_every_trial_has_diverged() -> None:
    curve = _curve(record({"adamw": Arm(search=["diverged", "diverged", 0.9])}, sampler="tpe"))
    assert [(point.trials, point.value) for point in curve.points] == [(1, None), (3, 0.9)]
    assert [point.value for point in _curve(record({"adamw": Arm(search=["diverged"] * 3)})).points] == [
        None
    ] * 3


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_thousand_trials_take_at_most_two_hundred_points(sampler: str) -> None:
    rising = [0.5 + 0.0001 * n for n in range(1000)]
    points = _curve(record({"adamw": Arm(search=rising)}, sampler=sampler)).points
    assert len(points) <= 200
    assert (points[0].trials, points[-1].trials) == (1, 1000)
    assert points[-1].epochs == pytest.approx(4000)
    assert points[-1].elapsed_s == pytest.approx(1000)


def test_failed_and_cancelled_trials_are_not_charged() -> None:
    curve = _curve(record({"adamw": Arm(search=[0.6, "failed", "cancelled", 0.9, "running"])}, sampler="tpe"))
    assert [point.trials for point in curve.points] == [1, 2]


def test_an_arm_without_a_trial_has_an_empty_curve() -> None:
    analysis = analyse(record({"adamw": Arm(search=["running"]), "adamp": Arm(search=[0.9])}))
    assert analysis.curves[0].points == ()
    assert analysis.flips == ()


def test_the_budget_at_which_the_lead_changes_is_reported() -> None:
    arms = {"adamw": Arm(search=[0.8] * 40), "adamp": Arm(search=[*[0.5] * 20, *[0.95] * 20])}
    (flip,) = analyse(record(arms, sampler="tpe")).flips
    assert (flip.trials, flip.before, flip.after) == (21, "adamw", "adamp")
    assert "after 21 trials per arm it passes from AdamW to AdamP" in " ".join(
        analyse(record(arms, sampler="tpe")).finding.limits
    )


def test_a_lead_within_the_noise_of_one_value_is_no_change() -> None:
    arms = {"adamw": Arm(search=falling(0.9)), "adamp": Arm(search=falling(0.901))}
    assert analyse(record(arms, sampler="tpe")).flips == ()
