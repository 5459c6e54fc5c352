from typing import Any

import pytest
from records import Arm, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.replay_agreement import agreement
from studies.analysis.views import StudyAnalysis

__all__: list[str] = []


def _study(first: float, second: float, *, best: float = 0.95, **fields: Any) -> StudyAnalysis:
    arms = {
        "sgdp": Arm(search=falling(best), best=around(first)),
        "stepper": Arm(search=falling(0.8), best=around(second, turn=1)),
    }
    return analyse(record(arms, **fields))


def test_the_same_study_is_identical() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.8))
    assert (found.word, found.agrees, found.is_search_equal) == ("identical", True, True)


def test_means_that_differ_by_chance_agree() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.9505, 0.8))
    assert (found.word, found.agrees) == ("agrees", True)
    assert all(mean.is_within for mean in found.means)


def test_a_mean_too_far_away_agrees_in_part_only() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.93, 0.8))
    assert (found.word, found.agrees) == ("partly", False)
    assert [mean.is_within for mean in found.means] == [False, True]


def test_a_verdict_that_is_lost_agrees_in_part_only() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.949))
    assert found.word == "partly"
    assert [(each.original, each.replayed) for each in found.verdicts] == [("better", "undecided")]


def test_a_reversed_verdict_contradicts() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.8, 0.95))
    assert (found.word, found.agrees) == ("disagrees", False)


def test_a_search_that_took_a_different_course_is_reported() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.8, best=0.951))
    assert (found.word, found.is_search_equal) == ("agrees", False)
    assert any("starting with SGDP" in sentence for sentence in found.sentences)


def test_a_mean_that_the_replay_did_not_confirm_cannot_be_compared() -> None:
    arms = {"sgdp": Arm(search=falling(0.95)), "stepper": Arm(search=falling(0.8))}
    found = agreement(_study(0.95, 0.8), analyse(record(arms)))
    assert found.word == "partly"
    assert found.means == ()
    assert any("2 confirmed means cannot be compared" in sentence for sentence in found.sentences)


def test_another_study_is_not_a_replay() -> None:
    other = analyse(record({"adamw": Arm(search=[0.9])}))
    assert agreement(_study(0.95, 0.8), other).word == "disagrees"
    text = analyse(record({"sgdp": Arm(search=[1.0])}, workload="char-lm"))
    assert agreement(_study(0.95, 0.8), text).word == "disagrees"


def test_means_agree_by_their_whole_intervals_although_shown_ones_are_clipped() -> None:
    # The interval of each mean reaches beyond 100 %; what is clipped there still counts.
    original = _study(0.99, 0.8, best=0.95)
    confirmed = original.confirmed[0]
    wide = confirmed.model_copy(update={"test_mean": 0.99, "test_sd": 0.05, "test_high": 1.0})
    other = wide.model_copy(update={"test_mean": 0.9})
    known = [
        each.model_copy(update={"confirmed": (mean,)}) for each, mean in ((original, wide), (original, other))
    ]
    found = agreement(*known)
    half = 2.7764451 * 0.05 / 5**0.5
    assert found.means[0].allowed == pytest.approx(2**0.5 * half)
    assert found.means[0].is_within is False
