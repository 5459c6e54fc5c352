from typing import Any

import pytest
from records import Arm, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.bounds import clip_interval
from studies.analysis.compare import compare
from studies.analysis.views import StudyAnalysis
from studies.statistics.paired import mean_interval
from studies.views import StudyRecord

__all__: list[str] = []

_NEARLY_PERFECT: list[float | str] = [1.0, 0.99, 0.93]
_NEARLY_ZERO: list[float | str] = [0.0, 0.01, 0.07]


def _study(first: list[float | str], second: list[float | str], **fields: Any) -> StudyRecord:
    arms = {"sgdp": Arm(search=falling(0.9), best=first), "stepper": Arm(search=falling(0.9), best=second)}
    return record(arms, **fields)


def _ends(analysis: StudyAnalysis) -> list[float]:
    return [end for each in analysis.confirmed for end in (each.test_low, each.test_high) if end is not None]


def test_the_interval_of_an_accuracy_stays_between_0_and_1() -> None:
    mean = mean_interval([1.0, 0.99, 0.93])
    assert mean.high > 1, "the unclipped interval must exceed the bounds"
    ends = _ends(analyse(_study(_NEARLY_PERFECT, _NEARLY_ZERO)))
    assert len(ends) == 4
    assert ends[:2] == [pytest.approx(mean.low), 1.0]
    assert ends[2] == 0.0
    compared = compare(
        [_study(_NEARLY_PERFECT, [0.5], study_id="one"), _study(_NEARLY_ZERO, [0.5], study_id="two")]
    )
    assert all(
        0 <= end <= 1 for arm in compared.arms for end in (arm.test_low, arm.test_high) if end is not None
    )


def test_the_interval_of_a_difference_of_accuracies_stays_between_minus_1_and_1() -> None:
    # Two pairs of runs and two searches with large spreads: Student's t interval is very wide.
    search = [0.95 - 0.08 * n for n in range(10)]
    arms = {"sgdp": Arm(search=search, best=[0.99, 0.6]), "stepper": Arm(search=search, best=[0.3, 0.4])}
    (pair,) = analyse(record(arms)).pairs
    ends = (pair.low, pair.high, pair.seeds_low, pair.seeds_high)
    assert all(end is not None and -1 <= end <= 1 for end in ends)
    assert 1 in ends


def test_the_interval_of_a_loss_is_not_clipped() -> None:
    assert clip_interval(-0.5, 7.0, "nats") == (-0.5, 7.0)
    assert clip_interval(None, None, "fraction") == (None, None)


def test_the_sentence_on_replicates_shows_no_accuracy_above_100_percent() -> None:
    searches = [falling(0.9, trials=6)] * 2
    sentence = analyse(record({"sgdp": Arm(search=searches, best=[[1.0] * 3, [0.9] * 3])})).finding.sentence
    assert "to 100)" in sentence
