"""What is added to a completed study.

Totals grow, names differ, what is there keeps its card and its space, and faults are told.
"""

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


def test_an_extension_says_new_totals() -> None:
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


def test_what_is_left_out_stays_as_it_is() -> None:
    before, plan = resolved(confirmation={"seeds": 3, "solo": True})
    spec, longer = extended(before, plan, Extension(seeds=4), catalog())
    assert spec.confirmation.solo
    assert spec.model_copy(update={"confirmation": before.confirmation}) == before
    assert longer == plan


def test_a_new_arm_is_looked_up_and_the_old_keep_their_cards() -> None:
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


def test_a_title_that_was_made_is_made_anew_and_a_given_one_kept() -> None:
    for title, expected in (("", "adamp, adamw, sgdp on digits-mlp"), ("Mine", "Mine")):
        spec, _ = extended(*resolved(name=title), parse_extension({"arms": ["sgdp"]}), catalog())
        assert spec.name == expected


def test_a_finite_space_grows_no_further_than_it_goes() -> None:
    body = {
        "arms": [{"optimizer": "stepper", "space": {"lr": 0.1, "k": {"choices": [2, 3]}, "rule": "plain"}}]
    }
    _, plan = extended(*resolved(**body), parse_extension({"trials_per_arm": 50}), catalog())
    # The two of the grid, and the defaults, which lie beside it.
    assert plan.arms[0].trials == 3


def test_the_same_arm_again_needs_a_name_of_its_own() -> None:
    assert problems(
        {"arms": ["adamp", {"optimizer": "sgdp", "name": "mine"}, {"optimizer": "adamw", "name": "mine"}]}
    ) == {
        "/arms/0/name": (
            "the study has an arm 'adamp' already, and its space stays as it "
            "is; give the new one another `name`"
        ),
        "/arms/2/name": (
            "the study has an arm 'mine' already, and its space stays as it "
            "is; give the new one another `name`"
        ),
    }


def test_nothing_can_be_taken_away() -> None:
    body = {"budget": {"trials_per_arm": 3, "replicates": 2}, "confirmation": {"seeds": 5}}
    found = problems({"trials_per_arm": 2, "replicates": 1, "seeds": 4}, **body)
    assert found == {
        f"/{name}": (
            f"expected at least the {now} that the study has, for nothing can be taken away, "
            f"got {now - 1}; it is the new total"
        )
        for name, now in (("trials_per_arm", 3), ("replicates", 2), ("seeds", 5))
    }


@pytest.mark.parametrize(
    ("extension", "pointer", "said"),
    [
        ({}, "", "nothing is to be added; expected any of arms, trials_per_arm, replicates and seeds"),
        (
            {"seeds": 0, "trials_per_arm": 3},
            "",
            "the study has all of that already: trials_per_arm 3, seeds 0; ask for more",
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
            "expected at most 64 arms in all, got 63 for the 2 there are",
        ),
        ({"seeds": float("nan")}, "/seeds", "got nan"),
        ({"seeds": True}, "/seeds", "got True"),
        ({"seeds": 10**400}, "/seeds", "less than or equal to 1000"),
        ({"trials_per_arm": 100_001}, "/trials_per_arm", "less than or equal to 100000"),
        (
            {"trials_per_arm": 1000, "replicates": 101},
            "/trials_per_arm",
            "expected at most 100000 trials of an arm in all its replicates",
        ),
        ({"replicates": 0}, "/replicates", "greater than or equal to 1"),
        (
            {"replicates": 1000, "seeds": 1000},
            "/replicates",
            "expected at most 100000 confirmation runs of an arm, got 1001000",
        ),
        ({"seed": 7}, "/seed", "there is no such field; there are arms, trials_per_arm, replicates, seeds"),
        ([], "", "expected an object with any of arms, trials_per_arm, replicates and seeds, got list"),
        ({"arms": [{"name": "nameless"}]}, "/arms/0/optimizer", "this field is required"),
    ],
)
def test_a_fault_is_told_where_it_stands(extension: Any, pointer: str, said: str) -> None:
    assert said in problems(extension)[pointer]


def test_arms_need_a_catalogue_and_nothing_else_does() -> None:
    with pytest.raises(CatalogEmpty):
        extended(*resolved(), parse_extension({"arms": ["sgdp"]}), Catalog())
    assert extended(*resolved(), Extension(seeds=1), Catalog())[0].confirmation.seeds == 1


def test_to_confirm_is_five_seeds_more_unless_said_otherwise() -> None:
    spec, _ = resolved(confirmation={"seeds": 3})
    assert (more_seeds(spec), more_seeds(spec, seeds=20)) == (Extension(seeds=8), Extension(seeds=20))


def test_the_last_five_seeds_are_as_many_as_there_are() -> None:
    spec, plan = resolved(confirmation={"seeds": 998})
    assert more_seeds(spec) == Extension(seeds=1000)
    full = spec.model_copy(update={"confirmation": spec.confirmation.model_copy(update={"seeds": 1000})})
    with pytest.raises(SpecInvalid, match="the study has all of that already: seeds 1000; ask for more"):
        extended(full, plan, more_seeds(full), catalog())


def test_a_search_that_ended_early_has_the_budget_that_it_has_begun() -> None:
    spec, plan = with_actual_budget(*resolved(), {"adamp": 2})
    assert [arm.trials for arm in plan.arms] == [2, 1]
    assert spec.budget.trials_per_arm == 2
    again, whole = extended(spec, plan, Extension(trials_per_arm=3), catalog())
    assert (again, whole) == resolved()


def test_a_search_that_has_spent_its_budget_is_as_it_was() -> None:
    spec, plan = resolved()
    assert with_actual_budget(spec, plan, {"adamp": 3, "adamw": 4}) == (spec, plan)


def test_an_extension_survives_its_json() -> None:
    extension = parse_extension(
        {"arms": ["sgdp", {"optimizer": "adamw", "name": "two", "space": {"betas": [0.9, 0.99]}}], "seeds": 9}
    )
    assert parse_extension(extension.model_dump(mode="json", exclude_none=True)) == extension
