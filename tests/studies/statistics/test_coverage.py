"""Intervals have their stated coverage.

The full simulation is `benchmarks/verdicts.py`; its results are in docs/statistics.md.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.statistics.paired import mean_interval

__all__: list[str] = []

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "verdicts.py"


def simulated(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the results of the simulation."""
    out = folder / "found.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--json", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_mean_of_few_seeds_is_within_its_interval_95_times_in_100(seeds: int) -> None:
    runs = np.random.default_rng(21).normal(0.95, 0.004, (4000, seeds))
    intervals = [mean_interval(each) for each in runs]
    assert 0.94 < np.mean([interval.low <= 0.95 <= interval.high for interval in intervals]) < 0.96


@pytest.mark.slow
def test_intervals_over_seeds_cover_93_to_97_percent_of_normal_values_and_of_accuracies_that_vary(
    tmp_path: Path,
) -> None:
    found = simulated(tmp_path, "--parts", "coverage")["coverage"]
    assert len(found) == 15
    for one in found:
        # Accuracies that hardly vary are equal on most seeds, which gives no interval. Log-normal values are
        # known to have a lower coverage.
        if one["without"] < 0.001 and "skewed" not in one["values"]:
            assert 0.93 < one["covered"] < 0.97, one


@pytest.mark.slow
def test_intervals_that_cover_the_search_hold_the_truth_at_least_93_times_in_100(tmp_path: Path) -> None:
    found = simulated(
        tmp_path, "--parts", "surface", "--studies", "500", "--trials", "24", "--noises", "0.005", "0.015"
    )["surface"]
    for replicates in (1, 3):
        covered = [one["covered"] for one in found if one["replicates"] == replicates]
        assert np.mean(covered) > 0.95
        assert min(covered) > 0.93
