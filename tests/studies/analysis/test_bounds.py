from typing import Any

import pytest
from records import Arm, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.compare import compare
from studies.statistics.paired import mean_interval
from studies.views import StudyRecord

__all__: list[str] = []

_NEARLY_PERFECT: list[float | str] = [1.0, 0.99, 0.93]
_NEARLY_ZERO: list[float | str] = [0.0, 0.01, 0.07]


def _study(first: list[float | str], second: list[float | str], **fields: Any) -> StudyRecord:
    arms = {"sgdp": Arm(search=falling(0.9), best=first), "stepper": Arm(search=falling(0.9), best=second)}
    return record(arms, **fields)


def test_the_ends_of_an_interval_are_reported_as_computed() -> None:
    mean = mean_interval([1.0, 0.99, 0.93])
    assert mean.high > 1, "only a display clips it"
    analysis = analyse(_study(_NEARLY_PERFECT, _NEARLY_ZERO))
    best = next(each for each in analysis.confirmed if each.arm == "sgdp" and each.configuration == "best")
    assert (best.test_low, best.test_high) == (pytest.approx(mean.low), pytest.approx(mean.high))
    compared = compare(
        [_study(_NEARLY_PERFECT, [0.5], study_id="one"), _study(_NEARLY_ZERO, [0.5], study_id="two")]
    )
    assert pytest.approx(mean.high) in [arm.test_high for arm in compared.arms]


def test_the_sentence_on_a_difference_shows_no_more_than_100_points() -> None:
    # Two pairs of runs and two searches with large spreads: the interval of Student's t is very wide.
    search = [0.95 - 0.08 * n for n in range(10)]
    arms = {"sgdp": Arm(search=search, best=[0.99, 0.6]), "stepper": Arm(search=search, best=[0.3, 0.4])}
    (pair,) = analyse(record(arms)).pairs
    assert pair.high is not None
    assert pair.high > 1
    assert "to 100)" in pair.reason


def test_the_sentence_on_replicates_shows_no_accuracy_above_100_percent() -> None:
    searches = [falling(0.9, trials=6)] * 2
    sentence = analyse(record({"sgdp": Arm(search=searches, best=[[1.0] * 3, [0.9] * 3])})).finding.sentence
    assert "to 100)" in sentence
