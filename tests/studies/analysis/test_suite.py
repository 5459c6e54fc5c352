from typing import Any

import pytest
from records import Arm, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.suite import analyse_suite
from studies.states import StudyState
from studies.views import StudyRecord

__all__: list[str] = []


def _study(
    study_id: str, means: dict[str, float], *, workload: str = "digits-mlp", **fields: Any
) -> StudyRecord:
    arms = {
        name: Arm(search=falling(mean), best=around(mean, turn=n))
        for n, (name, mean) in enumerate(means.items())
    }
    return record(arms, study_id=study_id, workload=workload, suite="small", **fields)


def test_an_arm_that_is_ahead_on_every_workload_wins_with_its_intervals() -> None:
    suite = analyse_suite(
        "small",
        [
            _study("one", {"adamp": 0.96, "sgdp": 0.9}),
            _study("two", {"sgdp": 1.9, "adamp": 1.5}, workload="char-lm"),
        ],
    )
    assert suite.finding.winner == "adamp"
    assert suite.finding.sentence.startswith("AdamP is better than SGDP over 2 workloads")
    assert [arm.arm for arm in suite.arms] == ["adamp", "sgdp"]
    assert [score.relative for score in suite.arms[0].scores] == pytest.approx([1, 1])
    assert suite.arms[0].algoperf == pytest.approx(1)
    assert suite.arms[1].scores[1].to_target is None
    assert suite.wins[0].chance == 1
    assert any("neither the choice of the workloads" in limit for limit in suite.finding.limits)
    assert any("2 workloads say little about others." in limit for limit in suite.finding.limits)


def test_arms_that_win_one_workload_each_are_undecided() -> None:
    suite = analyse_suite(
        "small",
        [
            _study("one", {"adamp": 0.96, "sgdp": 0.9}),
            _study("two", {"adamp": 1.9, "sgdp": 1.5}, workload="char-lm"),
        ],
    )
    assert suite.finding.winner is None
    assert "undecided" in suite.finding.sentence
    assert suite.wins[0].chance == pytest.approx(0.5)


def test_an_arm_whose_lead_in_every_study_may_be_the_luck_of_its_searches_is_no_winner() -> None:
    # Values vary widely in the search: another search would have found another best. On fresh seeds the two
    # arms differ slightly, and always by the same amount.
    def of(study_id: str, workload: str) -> StudyRecord:
        sign = 1 if workload == "digits-mlp" else -1
        search = [0.9 - sign * 0.03 * n for n in range(12)]
        arms = {
            "adamp": Arm(search=search, best=around(0.9 + sign * 0.01)),
            "adamw": Arm(search=search, best=around(0.9, turn=1)),
        }
        return record(arms, study_id=study_id, workload=workload)

    records = [of("one", "digits-mlp"), of("two", "char-lm")]
    assert all(pair.word == "undecided" for each in records for pair in analyse(each).pairs)
    suite = analyse_suite("small", records)
    assert suite.wins[0].low is not None
    assert suite.wins[0].low > 0.5
    assert suite.finding.winner is None
    assert "undecided: AdamP is ahead" in suite.finding.sentence
    assert any("verdicts of the studies, taken together" in limit for limit in suite.finding.limits)


def test_unequal_numbers_of_runs_are_a_limit() -> None:
    short = record(
        {"adamp": Arm(search=[0.9], best=[1.5] * 3), "sgdp": Arm(search=[0.9], best=[1.7] * 3)},
        study_id="two",
        workload="char-lm",
    )
    limits = analyse_suite("small", [_study("one", {"adamp": 0.96, "sgdp": 0.9}), short]).finding.limits
    assert any("unequal numbers of confirmation runs" in limit for limit in limits)


def test_one_workload_alone_makes_no_winner() -> None:
    suite = analyse_suite("small", [_study("one", {"adamp": 0.96, "sgdp": 0.9})])
    assert suite.finding.winner is None
    assert any("1 workload says little about others." in limit for limit in suite.finding.limits)


def test_studies_that_do_not_count_say_why() -> None:
    done = _study("one", {"adamp": 0.96, "sgdp": 0.9})
    running = _study("two", {"adamp": 0.96, "sgdp": 0.9}, state=StudyState.RUNNING)
    bare = record({"adamp": Arm(search=[0.9]), "sgdp": Arm(search=[0.9])}, study_id="three")
    half = record({"adamp": Arm(search=[0.9], best=[0.9, 0.8]), "sgdp": Arm(search=[0.9])}, study_id="four")
    suite = analyse_suite("small", [done, running, bare, half])
    assert [study.why_not for study in suite.studies] == [
        None,
        "It has not finished.",
        "It has no confirmed configuration.",
        "It has no confirmed configuration of SGDP.",
    ]
    assert any(limit == "3 of 4 studies were left out." for limit in suite.finding.limits)


def test_studies_without_two_arms_in_common_do_not_count() -> None:
    suite = analyse_suite(
        "small", [_study("one", {"adamp": 0.96, "sgdp": 0.9}), _study("two", {"adamp": 0.96, "adamw": 0.9})]
    )
    assert suite.arms == ()
    assert {study.why_not for study in suite.studies} == {"It shares fewer than two arms with the others."}


def test_a_suite_in_which_no_study_counts_has_no_winner() -> None:
    half = record({"adamp": Arm(search=[0.9], best=[0.9] * 3), "sgdp": Arm(search=[0.8])}, study_id="one")
    suite = analyse_suite("small", [half])
    assert not any(study.is_counted for study in suite.studies)
    assert suite.finding.winner is None


def test_an_empty_suite_has_no_finding() -> None:
    assert analyse_suite("small", []).finding.sentence == "This suite has no studies yet."


def test_an_arm_that_only_diverged_in_a_study_counts_as_its_worst() -> None:
    arms = {"adamp": Arm(search=falling(0.96), best=around(0.96)), "sgdp": Arm(search=["diverged"] * 40)}
    suite = analyse_suite(
        "small", [_study("one", {"adamp": 0.96, "sgdp": 0.9}), record(arms, study_id="two")]
    )
    assert all(study.is_counted for study in suite.studies)
    assert {arm.arm: arm.scores[1].test_mean for arm in suite.arms} == {
        "adamp": pytest.approx(0.96),
        "sgdp": None,
    }
    assert any("Every trial of SGDP in 1 study diverged" in limit for limit in suite.finding.limits)


def test_a_workload_that_two_studies_share_counts_twice_and_says_so() -> None:
    suite = analyse_suite(
        "small",
        [_study("one", {"adamp": 0.96, "sgdp": 0.9}), _study("two", {"adamp": 0.95, "sgdp": 0.9}, seed=1)],
    )
    assert any(
        "2 studies share 1 workload; a workload that is trained twice counts twice." in limit
        for limit in suite.finding.limits
    )


def test_a_suite_survives_json() -> None:
    suite = analyse_suite(
        "small",
        [
            record(
                {"adamp": Arm(search=[0.9], best=[0.9]), "sgdp": Arm(search=[0.8], best=[0.8])},
                study_id="one",
            )
        ],
    )
    assert suite.arms[0].iqm_low is None
    assert type(suite).model_validate_json(suite.model_dump_json()) == suite
