"""Verdicts on simulated studies, where the truth is known.

The full simulation is `benchmarks/verdicts.py`; its results are in docs/statistics.md.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.races import Search, Surface, outcomes

__all__: list[str] = []

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "verdicts.py"


def simulated(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the results of the simulation."""
    out = folder / "found.json"
    command = [sys.executable, str(SCRIPT), *arguments, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


def check(found: Sequence[dict[str, Any]]) -> None:
    """Check that equal optimizers are rarely called different, and that a real gap is rarely called the wrong
    way round."""
    once = [one for one in found if one["replicates"] == 1]
    assert once
    assert all(one["wrong"] <= 0.05 for one in once), once
    # Welch's test has an error rate of about 5 %, and about half of the measured rates are above it, so this
    # checks their mean.
    assert np.mean([one["wrong"] for one in found if one["gap"] == 0]) <= 0.05
    assert all(one["wrong"] <= 0.05 for one in found if one["gap"] > 0)


def test_equal_optimizers_are_rarely_called_different_although_seeds_alone_would_mostly_do_so() -> None:
    rng = np.random.default_rng(22)
    surface = Surface(top=0.93, noise=0.003)

    def draw() -> list[list[Search]]:
        return [[surface.search(rng, trials=24, seeds=5)] for _ in range(2)]

    found = outcomes(200, draw=draw, gap=0.0, adaptive=False)
    assert found.wrong <= 0.05
    assert found.wrong_by_seeds > 0.3


def test_a_gap_beyond_the_luck_of_a_search_is_called_rightly() -> None:
    rng = np.random.default_rng(23)
    surfaces = [Surface(top=0.85, noise=0.003), Surface(top=0.95, noise=0.003)]

    def draw() -> list[list[Search]]:
        return [[surface.search(rng, trials=24, seeds=5)] for surface in surfaces]

    found = outcomes(100, draw=draw, gap=0.1, adaptive=False)
    assert found.right > 0.8
    assert found.wrong == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_verdicts_on_a_surface_are_wrong_in_at_most_5_of_100_studies(tmp_path: Path) -> None:
    found = simulated(tmp_path, "--parts", "surface", "family", "--studies", "200")
    check(found["surface"])
    assert len(found["surface"]) == 48
    assert max(one["called"] for one in found["family"] if one["replicates"] == 1) <= 0.05
    assert np.mean([one["called"] for one in found["family"]]) <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_verdicts_on_searches_of_real_tables_are_wrong_in_at_most_5_of_100_studies(tmp_path: Path) -> None:
    found = simulated(tmp_path, "--parts", "tables", "--trials", "24", "--searches", "50")
    assert len(found["tables"]) == 32
    check(found["tables"])


@pytest.mark.slow
def test_words_by_budget_are_rarely_false_whether_a_study_looks_once_or_several_times(tmp_path: Path) -> None:
    found = simulated(tmp_path, "--parts", "shifts", "looks", "--studies", "200", "--processes", "1")
    # 200 studies have a standard error of 1.5 points.
    assert max(one["false"] for part in ("shifts", "looks") for one in found[part]) < 0.1
    assert np.mean([one["false"] for part in ("shifts", "looks") for one in found[part]]) <= 0.05
    assert min(one["covered"] for one in found["shifts"]) > 0.9
