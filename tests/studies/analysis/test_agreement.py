from typing import Any

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


def test_the_same_record_is_identical() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.8))
    assert (found.word, found.agrees, found.is_search_equal) == ("identical", True, True)
    assert found.sentences[0] == "The replay gives the same figures as the original."


def test_means_that_differ_by_chance_agree() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.9505, 0.8))
    assert (found.word, found.agrees) == ("agrees", True)
    assert all(mean.is_within for mean in found.means)


def test_a_mean_too_far_away_agrees_in_part_only() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.93, 0.8))
    assert (found.word, found.agrees) == ("partly", False)
    assert any(
        "Of 2 confirmed means 1 lies within what chance allows; the largest difference is 2.00 points."
        in said
        for said in found.sentences
    )


def test_a_verdict_that_is_lost_agrees_in_part_only() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.949))
    assert found.word == "partly"
    assert any("SGDP against Stepper was better and is undecided" in said for said in found.sentences)


def test_a_reversed_verdict_contradicts() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.8, 0.95))
    assert (found.word, found.agrees) == ("disagrees", False)


def test_a_search_that_went_another_way_is_told() -> None:
    found = agreement(_study(0.95, 0.8), _study(0.95, 0.8, best=0.951))
    assert (found.word, found.is_search_equal) == ("agrees", False)
    assert any("The search went another way, first seen in SGDP" in said for said in found.sentences)


def test_what_the_replay_did_not_confirm_is_missing() -> None:
    arms = {"sgdp": Arm(search=falling(0.95)), "stepper": Arm(search=falling(0.8))}
    found = agreement(_study(0.95, 0.8), analyse(record(arms)))
    assert found.word == "partly"
    assert any("2 confirmed means cannot be compared" in said for said in found.sentences)


def test_another_study_is_no_replay() -> None:
    other = analyse(record({"adamw": Arm(search=[0.9])}))
    assert agreement(_study(0.95, 0.8), other).word == "disagrees"
    text = analyse(record({"sgdp": Arm(search=[1.0])}, workload="char-lm"))
    assert (
        "the original trained digits-mlp, the other char-lm"
        in agreement(_study(0.95, 0.8), text).sentences[0]
    )
