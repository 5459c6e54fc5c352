"""Clones: merge patches follow RFC 7396, and derived names are derived again."""

from typing import Any

import pytest

from service.cloning import clone_spec, merge_patch
from studies.errors import SpecInvalid
from studies.spec import parse_spec

__all__: list[str] = []

# The test cases of RFC 7396, appendix A.
CASES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "expected"), CASES)
def test_merge_patches_follow_the_rfc_and_change_no_argument(target: Any, patch: Any, expected: Any) -> None:
    before = (repr(target), repr(patch))
    assert merge_patch(target, patch) == expected
    assert (repr(target), repr(patch)) == before


BODY: dict[str, Any] = {
    "workload": "digits-mlp",
    "arms": ["adamp", "adamw"],
    "budget": {"trials_per_arm": 3, "epochs": 2},
}


IN_STEPS = {"trials_per_arm": 3, "steps": 90, "evaluate_every": 10}


@pytest.mark.parametrize("budget", [{"trials_per_arm": 3, "epochs": 9}, IN_STEPS])
def test_an_empty_patch_keeps_the_spec(budget: dict[str, int]) -> None:
    spec = parse_spec(BODY | {"pruner": "asha", "budget": budget})
    assert clone_spec(spec, {}) == spec


def test_a_budget_of_steps_becomes_one_of_epochs_and_back() -> None:
    steps = clone_spec(parse_spec(BODY), {"budget": {"epochs": None, "steps": 90, "evaluate_every": 10}})
    assert steps.budget.intervals == 9
    epochs = clone_spec(steps, {"budget": {"epochs": 2, "steps": None, "evaluate_every": None}})
    assert epochs == parse_spec(BODY)


def test_a_derived_name_changes_with_the_study_and_a_given_name_stays() -> None:
    assert clone_spec(parse_spec(BODY), {"workload": "char-lm"}).name == "adamp, adamw on char-lm"
    assert clone_spec(parse_spec(BODY | {"name": "Mine"}), {"workload": "char-lm"}).name == "Mine"
    assert (
        clone_spec(parse_spec(BODY | {"name": "Mine"}), {"name": None}).name == "adamp, adamw on digits-mlp"
    )
    assert clone_spec(parse_spec(BODY), {"name": "Yours"}).name == "Yours"


def test_given_numbers_of_a_search_stay_and_derived_ones_are_derived_again() -> None:
    def cloned(search: dict[str, int] | None, patch: dict[str, Any]) -> dict[str, Any]:
        body = BODY | {"budget": {"trials_per_arm": 40}} | ({} if search is None else {"search": search})
        assert clone_spec(parse_spec(body), {}) == parse_spec(body)
        return clone_spec(parse_spec(body), patch).search.model_dump(
            include={"paired", "replicates", "verdict_at"}
        )

    longer = {"budget": {"trials_per_arm": 80, "replicates": 2}}
    derived = {"paired": 40, "replicates": 2, "verdict_at": 10}
    assert cloned(None, longer) == derived
    assert cloned({"paired": 24}, longer) == {"paired": 24, "replicates": 2, "verdict_at": 6}
    assert cloned({"paired": 24, "verdict_at": 4}, longer)["verdict_at"] == 4
    assert cloned({"paired": 0}, longer)["paired"] == 0
    assert cloned({"paired": 24}, longer | {"search": None}) == derived


def test_a_study_that_was_stopped_among_its_pairs_and_extended_can_be_cloned() -> None:
    spec = parse_spec(BODY | {"budget": {"trials_per_arm": 40}, "search": {"paired": 32}})
    extended = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials_per_arm": 2})})
    assert clone_spec(extended, {}).search.paired == 1
    assert clone_spec(extended, {"budget": {"trials_per_arm": 21}}).search.paired == 20


def test_shorthands_of_a_patch_are_expanded() -> None:
    spec = clone_spec(parse_spec(BODY), {"arms": ["adamw"], "pruner": "asha"})
    assert [arm.name for arm in spec.arms] == ["adamw"]
    assert spec.pruner.kind == "asha"


@pytest.mark.parametrize(
    "patch",
    [
        {"budget": {"trials_per_arm": 0}},
        {"workload": None},
        {"colour": "red"},
        {"budget": None},
        {"arms": []},
    ],
)
def test_a_patch_with_an_invalid_result_is_refused(patch: Any) -> None:
    with pytest.raises(SpecInvalid) as raised:
        clone_spec(parse_spec(BODY), patch)
    assert raised.value.problems[0].pointer.strip("/").partition("/")[0] in patch
