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


def test_arms_with_the_same_name_are_labelled_with_their_studies() -> None:
    comparison = compare([_study("one", {"adamp": 0.9}), _study("two", {"adamp": 0.95})])
    assert [arm.label for arm in comparison.arms] == ["adamp (two)", "adamp (one)"]
    assert "AdamP (two)" in comparison.pairs[0].reason


def test_studies_without_a_common_seed_get_no_verdict_and_a_caution() -> None:
    comparison = compare([_study("one", {"sgdp": 0.95}), _study("two", {"stepper": 0.8}, seed=1)])
    assert (comparison.pairs[0].word, comparison.pairs[0].n) == ("undecided", 0)
    assert any(caution.startswith("The studies differ in seed: 0 in ") for caution in comparison.cautions)
    assert any("no fresh seed in common" in caution for caution in comparison.cautions)


def test_every_difference_except_the_arms_is_a_caution() -> None:
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
    cautions = " ".join(compare([one, other]).cautions)
    differences = (
        "epochs",
        "batch size",
        "schedule",
        "trials per arm",
        "sampler",
        "pruner",
        "confirmation seeds",
        "python (environment)",
        "weight decay of biases and norms",
    )
    for difference in differences:
        assert f"The studies differ in {difference}" in cautions
    assert "these studies have not finished: “the other”" in cautions
    assert "torch (environment)" not in cautions


def test_a_study_that_ended_early_is_a_caution() -> None:
    short = record(
        {"stepper": Arm(search=[0.9, "cancelled"], best=around(0.9))},
        study_id="two",
        budget={"trials_per_arm": 40, "epochs": 4},
    )
    (caution,) = compare([_study("one", {"sgdp": 0.95}), short]).cautions
    assert caution.startswith("These studies ended before")
    assert "“stepper on digits-mlp”" in caution


def test_one_search_against_several_is_no_verdict_and_is_called_a_single_search() -> None:
    several = record(
        {"sgdp": Arm(search=[falling(0.9, trials=6)] * 3, best=[around(0.9, turn=n) for n in range(3)])},
        study_id="several",
    )
    (pair,) = compare([several, _study("one", {"stepper": 0.8})]).pairs
    assert (pair.word, pair.n, pair.covers) == ("undecided", 1, "replicates")
    assert "a single search" in pair.reason


def test_an_environment_that_is_not_known_is_a_caution() -> None:
    bare = _study("two", {"stepper": 0.95})
    bare = bare.model_copy(update={"study": bare.study.model_copy(update={"environment": {}})})
    (caution,) = compare([_study("one", {"sgdp": 0.9}), bare]).cautions
    assert caution == "The training environment is not known for “stepper on digits-mlp”."


def test_arms_without_a_confirmed_value_come_last() -> None:
    comparison = compare(
        [record({"sgdp": Arm(search=[0.99])}, study_id="one"), _study("two", {"stepper": 0.8})]
    )
    assert [(arm.arm, arm.test_mean is None, arm.runs) for arm in comparison.arms] == [
        ("stepper", False, 5),
        ("sgdp", True, 0),
    ]
    assert comparison.pairs == ()


def test_chosen_arms_alone_are_compared_with_a_caution_about_the_choice() -> None:
    one = _study("one", {"sgdp": 0.95, "adamp": 0.9, "stepper": 0.8})
    chosen = [("one", "sgdp"), ("one", "stepper")]
    comparison = compare([one, _study("two", {"adamp": 0.85})], chosen=chosen)
    assert [arm.label for arm in comparison.arms] == ["sgdp", "adamp", "stepper"]
    assert [curve.arm for curve in comparison.curves] == ["sgdp", "stepper", "adamp"]
    assert len(comparison.pairs) == 3
    (caution,) = comparison.cautions
    assert caution.startswith("Only some arms of “sgdp, adamp, stepper on digits-mlp” are compared")
    alone = compare([one], chosen=chosen)
    assert [(pair.first, pair.second, pair.word) for pair in alone.pairs] == [("sgdp", "stepper", "better")]
    every = [("one", name) for name in ("sgdp", "adamp", "stepper")]
    assert compare([one], chosen=every).cautions == ()


def test_a_comparison_without_a_budget_verdict_says_what_its_design_lacks() -> None:
    def reason(**second: Any) -> str | None:
        search = {"paired": 8, "verdict_at": 2}
        budget = {"trials_per_arm": 40, "epochs": 4}
        records = [
            _study("one", {"sgdp": 0.95}, name="one", budget=budget, search=search),
            _study(
                "two",
                {"sgdp": 0.9, "adamp": 0.8},
                name="two",
                **{"budget": budget, "search": search} | second,
            ),
        ]
        return compare(records).why_no_budget_verdict

    assert reason() is None
    assert "which “two” has none or too few" in (reason(search={"paired": 0}) or "")
    assert "same seed; theirs are 0 and 1" in (reason(seed=1) or "")
    assert "differ in their paired trials" in (reason(search={"paired": 16, "verdict_at": 2}) or "")
    assert "until the arms were decided in “two”" in (
        reason(search={"paired": 16, "until": {"max_pairs": 24}}) or ""
    )


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([_study("one", {"sgdp": 0.9})], "expected at least two studies to compare, got 1"),
        (
            [_study("one", {"sgdp": 0.9}), _study("one", {"sgdp": 0.9})],
            "each study once, but one appears more than once",
        ),
        (
            [_study("one", {"sgdp": 0.9}), _study("two", {"sgdp": 0.9}, workload="char-lm")],
            "studies of one workload, got digits-mlp, char-lm",
        ),
    ],
)
def test_studies_that_cannot_be_compared_are_refused(records: list[StudyRecord], message: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        compare(records)
    assert message in refused.value.problems[0].message
