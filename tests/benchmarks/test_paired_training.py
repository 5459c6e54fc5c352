"""The comparison of studies with paired trials counts agreement and contradiction."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from studies.analysis.views import PairByBudget
from studies.statistics.verdict import Word

__all__: list[str] = []


def words(*found: tuple[Word, float]) -> dict[tuple[str, str], PairByBudget]:
    """Return pairs of arms with their words and differences, each known to within 0.01."""
    return {
        ("first", f"second {n}"): PairByBudget(
            first="first",
            second=f"second {n}",
            word=word,
            n=32,
            difference=difference,
            low=difference - 0.01,
            high=difference + 0.01,
            p=0.5,
            p_corrected=0.5,
            reason="",
        )
        for n, (word, difference) in enumerate(found)
    }


def test_words_that_agree_contradict_and_miss_the_reference_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    compare: Any = importlib.import_module("paired_training").compare
    first = words(("better", 0.03), ("better", 0.02), ("undecided", 0.0), ("worse", -0.02))
    second = words(("better", 0.025), ("worse", -0.02), ("undecided", 0.005), ("undecided", -0.01))
    reference = words(("better", 0.02), ("worse", -0.015), ("undecided", 0.001), ("undecided", 0.005))
    found = compare(first, second, reference)
    assert (found["pairs"], found["decided"], found["reference"]) == (4, [3, 2], 2)
    assert (found["agree"], found["contradict"]) == (1, 1)
    assert (found["called"], found["contradicted"], found["wrong_sign"]) == (5, 1, 2)
    assert (found["inside"], found["intervals"]) == (5, 8)
    assert found["spread"] == pytest.approx(0.01)
