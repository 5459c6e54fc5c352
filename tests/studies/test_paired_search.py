"""What a study says of its paired search: stored with concrete numbers, and faults with JSON pointers."""

import json
from typing import Any

import pytest
from catalogs import catalog, study_body

from studies.errors import SpecInvalid
from studies.paired_search import PairedSearch, default_budget, default_pairs
from studies.resolve import resolve
from studies.spec import StudySpec, parse_spec

__all__: list[str] = []


def searched(search: Any, *, replicates: int = 1, trials: int = 40) -> PairedSearch:
    """Return the parsed search of a study."""
    return parse_spec(
        study_body(budget={"trials_per_arm": trials, "replicates": replicates}, search=search)
    ).search


@pytest.mark.parametrize(
    ("paired", "replicates", "verdict_at"), [(32, 1, 4), (32, 3, 12), (8, 1, 2), (7, 1, None), (4, 2, 2)]
)
def test_a_stored_search_has_concrete_numbers(paired: int, replicates: int, verdict_at: int | None) -> None:
    found = searched({"paired": paired}, replicates=replicates)
    numbers = {"paired": paired, "replicates": replicates, "verdict_at": verdict_at}
    assert found.model_dump() == {**numbers, "until": None, "stopped_at": ()}


def test_a_stored_search_does_not_change_with_the_budget() -> None:
    spec = parse_spec(study_body(budget={"trials_per_arm": 40}, search={"paired": 32}))
    longer = json.loads(spec.model_dump_json()) | {"budget": {"trials_per_arm": 90, "replicates": 5}}
    assert parse_spec(longer).search == spec.search
    of_python = StudySpec.model_validate({**study_body(), "search": PairedSearch(paired=32)})
    assert of_python.search.replicates == of_python.budget.replicates


@pytest.mark.parametrize(
    ("search", "pointer"),
    [
        ({"paired": -1}, "/search/paired"),
        ({"paired": "x", "verdict_at": 2}, "/search/paired"),
        ({"paired": 32, "verdict_at": 9}, "/search/verdict_at"),
        ({"paired": 7, "verdict_at": 1}, "/search/verdict_at"),
        ({"paired": 32, "verdict_at": 0}, "/search/verdict_at"),
        ({"pairs": 32}, "/search/pairs"),
        (32, "/search"),
    ],
)
def test_a_fault_of_a_search_is_reported_where_it_is(search: Any, pointer: str) -> None:
    with pytest.raises(SpecInvalid) as raised:
        searched(search)
    assert [problem.pointer for problem in raised.value.problems] == [pointer]


def test_no_more_replicates_count_than_the_budget_has() -> None:
    budget = {"trials_per_arm": 33, "replicates": 2}
    resolve(parse_spec(study_body(budget=budget, search={"paired": 32, "replicates": 1})), catalog())
    with pytest.raises(SpecInvalid) as raised:
        resolve(parse_spec(study_body(budget=budget, search={"paired": 32, "replicates": 3})), catalog())
    assert [problem.pointer for problem in raised.value.problems] == ["/search/replicates"]


def test_the_default_budget_is_never_more_than_a_quarter_of_the_pairs() -> None:
    budgets = {pairs: default_budget(pairs) for pairs in range(300)}
    assert [pairs for pairs, k in budgets.items() if k is None] == list(range(8))
    assert all(2 <= k <= pairs / 4 for pairs, k in budgets.items() if k is not None)


def test_the_default_pairs_leave_room_for_the_defaults() -> None:
    found = {
        sampler: [default_pairs(sampler, trials, is_pruned=False) for trials in (1, 8, 40, 128)]
        for sampler in ("tpe", "random", "grid")
    }
    assert found == {"tpe": [0, 7, 32, 64], "random": [0, 7, 39, 127], "grid": [0, 0, 0, 0]}
