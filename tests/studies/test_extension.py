"""Extending a completed study: totals grow, existing arms stay as they are, and faults are reported."""

from typing import Any

import pytest
from catalogs import catalog, study_body

from studies.catalog import Catalog
from studies.errors import CatalogEmpty, SpecInvalid
from studies.extension import Extension, extended, more_seeds, parse_extension, with_actual_budget
from studies.resolve import ResolvedStudy, resolve
from studies.spec import StudySpec, parse_spec

__all__: list[str] = []


def resolved(**fields: Any) -> tuple[StudySpec, ResolvedStudy]:
    """Return a study and its plan; fields are those of the study."""
    spec = parse_spec(study_body(**fields))
    return spec, resolve(spec, catalog())


def problems(extension: Any, **fields: Any) -> dict[str, str]:
    """Return the message at each pointer of an extension that is refused; fields are those of the study."""
    with pytest.raises(SpecInvalid) as raised:
        extended(*resolved(**fields), parse_extension(extension), catalog())
    return {problem.pointer: problem.message for problem in raised.value.problems}


def test_an_extension_holds_new_totals() -> None:
    spec, plan = extended(
        *resolved(), parse_extension({"trials_per_arm": 8, "replicates": 2, "seeds": 7}), catalog()
    )
    assert (
        spec.budget.trials_per_arm,
        spec.budget.replicates,
        spec.budget.epochs,
        spec.confirmation.seeds,
    ) == (8, 2, 2, 7)
    assert [arm.trials for arm in plan.arms] == [8, 8]


def test_more_trials_have_as_many_steps_as_those_before() -> None:
    budget = {"trials_per_arm": 3, "steps": 60, "evaluate_every": 5}
    spec, plan = extended(*resolved(budget=budget), parse_extension({"trials_per_arm": 8}), catalog())
    assert (spec.budget.steps, plan.epochs, plan.interval_steps) == (60, 12, 5)


def test_fields_that_are_left_out_stay_as_they_are() -> None:
    before, plan = resolved(confirmation={"seeds": 3, "solo": True})
    spec, longer = extended(before, plan, Extension(seeds=4), catalog())
    assert spec.confirmation.solo
    assert spec.model_copy(update={"confirmation": before.confirmation}) == before
    assert longer == plan


def test_new_arms_are_looked_up_and_existing_ones_keep_their_cards() -> None:
    spec, plan = resolved()
    cards = catalog()
    changed = {
        name: card.model_copy(update={"title": "another", "description": "changed since"})
        for name, card in cards.optimizers.items()
    }
    longer, longer_plan = extended(
        spec, plan, parse_extension({"arms": ["sgdp"]}), cards.model_copy(update={"optimizers": changed})
    )
    assert [arm.name for arm in longer.arms] == ["adamp", "adamw", "sgdp"]
    assert longer_plan.arms[:2] == plan.arms
    assert (longer_plan.arms[2].card.title, longer_plan.arms[2].trials) == ("another", 3)


def test_a_default_title_is_updated_and_a_given_one_kept() -> None:
    for title, expected in (("", "adamp, adamw, sgdp on digits-mlp"), ("Mine", "Mine")):
        spec, _ = extended(*resolved(name=title), parse_extension({"arms": ["sgdp"]}), catalog())
        assert spec.name == expected


def test_an_arm_never_gets_more_trials_than_its_space_has_configurations() -> None:
    body = {
        "arms": [{"optimizer": "stepper", "space": {"lr": 0.1, "k": {"choices": [2, 3]}, "rule": "plain"}}]
    }
    _, plan = extended(*resolved(**body), parse_extension({"trials_per_arm": 50}), catalog())
    # The grid has two, and the defaults are not among them.
    assert plan.arms[0].trials == 3


def test_new_arms_need_new_names() -> None:
    found = problems(
        {"arms": ["adamp", {"optimizer": "sgdp", "name": "mine"}, {"optimizer": "adamw", "name": "mine"}]}
    )
    assert set(found) == {"/arms/0/name", "/arms/2/name"}
    assert "'mine'" in found["/arms/2/name"]


def test_no_total_can_become_smaller() -> None:
    body = {"budget": {"trials_per_arm": 3, "replicates": 2}, "confirmation": {"seeds": 5}}
    found = problems({"trials_per_arm": 2, "replicates": 1, "seeds": 4}, **body)
    assert set(found) == {"/trials_per_arm", "/replicates", "/seeds"}
    assert found["/seeds"].startswith("expected at least 5, which the study has already, got 4")


@pytest.mark.parametrize(
    ("extension", "pointer", "contains"),
    [
        ({}, "", "the extension adds nothing; expected any of arms, trials_per_arm, replicates and seeds"),
        (
            {"seeds": 0, "trials_per_arm": 3},
            "",
            "the study already has trials_per_arm 3, seeds 0; give larger totals",
        ),
        ({"arms": ["adamx"]}, "/arms/0/optimizer", "there is no optimizer 'adamx'; did you mean 'adamw'?"),
        (
            {"arms": [{"optimizer": "sgdp", "space": {"beta1": 0.9}}]},
            "/arms/0/space/beta1",
            "sgdp has no hyperparameter 'beta1'",
        ),
        ({"arms": ["sgdp"] * 65}, "/arms", "at most 64"),
        (
            {"arms": [{"optimizer": "sgdp", "name": f"a{n}"} for n in range(63)]},
            "/arms",
            "expected at most 64 arms in all, got 2 existing and 63 new",
        ),
        ({"seeds": float("nan")}, "/seeds", "got nan"),
        ({"seeds": True}, "/seeds", "got True"),
        ({"seeds": 10**400}, "/seeds", "expected at most 1000"),
        ({"trials_per_arm": 100_001}, "/trials_per_arm", "expected at most 100000"),
        (
            {"trials_per_arm": 1000, "replicates": 101},
            "/trials_per_arm",
            "got 1000 x 101 = 101000",
        ),
        ({"replicates": 0}, "/replicates", "expected at least 1"),
        (
            {"replicates": 1000, "seeds": 1000},
            "/replicates",
            "got 1001000",
        ),
        ({"seed": 7}, "/seed", "unknown field; the fields are arms, trials_per_arm, replicates, seeds"),
        ([], "", "expected an object with any of arms, trials_per_arm, replicates and seeds, got a list"),
        ({"arms": [{"name": "nameless"}]}, "/arms/0/optimizer", "this field is required"),
    ],
)
def test_a_fault_is_reported_with_its_pointer(extension: Any, pointer: str, contains: str) -> None:
    assert contains in problems(extension)[pointer]


def test_only_new_arms_need_a_catalogue() -> None:
    with pytest.raises(CatalogEmpty):
        extended(*resolved(), parse_extension({"arms": ["sgdp"]}), Catalog())
    assert extended(*resolved(), Extension(seeds=1), Catalog())[0].confirmation.seeds == 1


def test_confirming_adds_five_seeds_by_default() -> None:
    spec, _ = resolved(confirmation={"seeds": 3})
    assert (more_seeds(spec), more_seeds(spec, seeds=20)) == (Extension(seeds=8), Extension(seeds=20))


def test_confirming_adds_at_most_the_seeds_that_are_left() -> None:
    spec, plan = resolved(confirmation={"seeds": 998})
    assert more_seeds(spec) == Extension(seeds=1000)
    full = spec.model_copy(update={"confirmation": spec.confirmation.model_copy(update={"seeds": 1000})})
    with pytest.raises(SpecInvalid, match="the study already has seeds 1000"):
        extended(full, plan, more_seeds(full), catalog())


def test_a_stopped_search_has_the_budget_that_it_started() -> None:
    spec, plan = with_actual_budget(*resolved(), {"adamp": 2}, {})
    assert [arm.trials for arm in plan.arms] == [2, 1]
    assert spec.budget.trials_per_arm == 2
    again, whole = extended(spec, plan, Extension(trials_per_arm=3), catalog())
    assert (again, whole) == resolved()


def test_an_extension_changes_neither_the_pairs_nor_the_primary_budget() -> None:
    before, plan = resolved(budget={"trials_per_arm": 17}, search={"paired": 16})
    spec, longer = extended(
        before,
        plan,
        parse_extension({"arms": ["stepper"], "trials_per_arm": 40, "replicates": 3}),
        catalog(),
    )
    assert spec.search == before.search
    assert [arm.trials for arm in longer.arms] == [40, 40, 40]


def test_a_stopped_search_keeps_its_pairs() -> None:
    before, plan = resolved(budget={"trials_per_arm": 17}, search={"paired": 16})
    spec, longer = extended(
        *with_actual_budget(before, plan, {"adamp": 9, "adamw": 9}, {}), Extension(seeds=6), catalog()
    )
    assert spec.search == before.search
    assert [arm.trials for arm in longer.arms] == [9, 9]


def test_more_trials_come_on_top_of_pairs_that_were_added() -> None:
    search = {"paired": 16, "until": {"max_pairs": 64}}
    before, plan = resolved(budget={"trials_per_arm": 17}, search=search)
    added = plan.model_copy(
        update={"arms": tuple(arm.model_copy(update={"trials": 17 + 9}) for arm in plan.arms)}
    )
    _, longer = extended(before, added, Extension(trials_per_arm=20), catalog())
    assert [arm.trials for arm in longer.arms] == [20 + 9] * 2


def test_pairs_that_were_added_to_a_stopped_study_are_not_part_of_its_budget() -> None:
    search = {"paired": 16, "until": {"max_pairs": 64}}
    before, plan = resolved(budget={"trials_per_arm": 20}, search=search)
    grown = plan.model_copy(
        update={"arms": tuple(arm.model_copy(update={"trials": 20 + 9}) for arm in plan.arms)}
    )
    begun = {"adamp": 17 + 9, "adamw": 17 + 9}
    spec, stopped = with_actual_budget(before, grown, begun, {"adamp": 9, "adamw": 9})
    assert (spec.budget.trials_per_arm, spec.search) == (17, before.search)
    assert [arm.trials for arm in stopped.arms] == [26, 26]


def test_a_search_that_spent_its_budget_stays_as_it_is() -> None:
    spec, plan = resolved()
    assert with_actual_budget(spec, plan, {"adamp": 3, "adamw": 4}, {}) == (spec, plan)


def test_an_extension_survives_its_json() -> None:
    extension = parse_extension(
        {"arms": ["sgdp", {"optimizer": "adamw", "name": "two", "space": {"betas": [0.9, 0.99]}}], "seeds": 9}
    )
    assert parse_extension(extension.model_dump(mode="json", exclude_none=True)) == extension
