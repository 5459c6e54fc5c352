from typing import Any

import pytest
from records import Arm, around, falling, record

from studies.analysis.compare import compare
from studies.errors import SpecInvalid
from studies.states import StudyState
from studies.views import StudyRecord

__all__: list[str] = []


def _study(study_id: str, means: dict[str, float], **fields: Any) -> StudyRecord:
    arms = {
        name: Arm(search=falling(mean), best=around(mean, turn=n + len(study_id)))
        for n, (name, mean) in enumerate(means.items())
    }
    return record(arms, study_id=study_id, **fields)


def test_arms_of_two_studies_are_paired_on_the_seeds_they_share() -> None:
    comparison = compare([_study("one", {"sgdp": 0.95}), _study("other", {"stepper": 0.8})])
    (pair,) = comparison.pairs
    assert (pair.first, pair.second, pair.word, pair.n) == ("sgdp", "stepper", "better", 5)
    assert [arm.label for arm in comparison.arms] == ["sgdp", "stepper"]
    assert comparison.cautions == ()


def test_arms_of_one_name_are_told_apart_by_their_studies() -> None:
    comparison = compare([_study("one", {"adamp": 0.9}), _study("two", {"adamp": 0.95})])
    assert [arm.label for arm in comparison.arms] == ["adamp (two)", "adamp (one)"]
    assert "AdamP (two)" in comparison.pairs[0].reason


def test_studies_without_a_common_seed_get_no_verdict_and_a_caution() -> None:
    comparison = compare([_study("one", {"sgdp": 0.95}), _study("two", {"stepper": 0.8}, seed=1)])
    assert (comparison.pairs[0].word, comparison.pairs[0].n) == ("undecided", 0)
    assert (
        "Not the same seed: 0 in “sgdp on digits-mlp”; 1 in “stepper on digits-mlp”." in comparison.cautions
    )
    assert any("no fresh seed in common" in caution for caution in comparison.cautions)


def test_every_difference_but_the_arms_is_a_caution() -> None:
    one = _study("one", {"sgdp": 0.95})
    other = _study(
        "two",
        {"sgdp": 0.95},
        name="the other",
        budget={"trials_per_arm": 50, "epochs": 3},
        training={"schedule": "constant", "batch_size": 16, "decay_1d": False},
        sampler="tpe",
        pruner="median",
        objective={"at": "best"},
        confirmation={"seeds": 7, "solo": True},
        environment={"python": "3.12", "torch": "2.13"},
        state=StudyState.RUNNING,
    )
    said = " ".join(compare([one, other]).cautions)
    told = (
        "epochs",
        "batch size",
        "schedule",
        "trials per arm",
        "sampler",
        "pruner",
        "confirmation seeds",
        "environment, python",
        "weight decay of biases",
    )
    for what in told:
        assert f"Not the same {what}" in said
    assert "Not finished: “the other”" in said
    assert "environment, torch" not in said


def test_a_study_that_ended_early_is_a_caution() -> None:
    short = record(
        {"stepper": Arm(search=[0.9, "cancelled"], best=around(0.9))},
        study_id="two",
        budget={"trials_per_arm": 40, "epochs": 4},
    )
    said = compare([_study("one", {"sgdp": 0.95}), short]).cautions
    assert "Ended before the search had run all of its trials: “stepper on digits-mlp”." in said


def test_one_search_against_several_is_no_verdict_and_is_called_a_single_search() -> None:
    several = record(
        {"sgdp": Arm(search=[falling(0.9, trials=6)] * 3, best=[around(0.9, turn=n) for n in range(3)])},
        study_id="several",
    )
    (pair,) = compare([several, _study("one", {"stepper": 0.8})]).pairs
    assert (pair.word, pair.n, pair.covers) == ("undecided", 1, "replicates")
    assert pair.reason == "SGDP against Stepper is undecided: a single search says nothing of chance."


def test_an_environment_that_is_not_known_is_a_caution() -> None:
    bare = _study("two", {"stepper": 0.95})
    bare = bare.model_copy(update={"study": bare.study.model_copy(update={"environment": {}})})
    assert (
        "What trained them is not known of “stepper on digits-mlp”."
        in compare([_study("one", {"sgdp": 0.9}), bare]).cautions
    )


def test_arms_without_a_confirmed_value_come_last() -> None:
    comparison = compare(
        [record({"sgdp": Arm(search=[0.99])}, study_id="one"), _study("two", {"stepper": 0.8})]
    )
    assert [(arm.arm, arm.test_mean is None, arm.runs) for arm in comparison.arms] == [
        ("stepper", False, 5),
        ("sgdp", True, 0),
    ]
    assert comparison.pairs == ()


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([_study("one", {"sgdp": 0.9})], "at least two studies, got 1"),
        (
            [_study("one", {"sgdp": 0.9}), _study("one", {"sgdp": 0.9})],
            "each study once, but one stands there",
        ),
        (
            [_study("one", {"sgdp": 0.9}), _study("two", {"sgdp": 0.9}, workload="char-lm")],
            "studies of one workload, got digits-mlp, char-lm",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(records: list[StudyRecord], said: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        compare(records)
    assert said in refused.value.problems[0].message
