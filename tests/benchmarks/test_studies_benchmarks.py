"""The benchmarks of studies, samplers and stacks run at a tiny size and return the documented figures."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

__all__: list[str] = []

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Packages that a machine with a GPU does not need.
ABSENT = (
    "alembic",
    "fastapi",
    "numba",
    "optuna",
    "psycopg",
    "pydantic_settings",
    "pytorch_optimizer",
    "ray",
    "rich",
    "sqlalchemy",
)


def run(name: str, *arguments: str | Path, folder: Path, without: Sequence[str] = ()) -> dict[str, Any]:
    """Run a benchmark as if some packages were missing, and return its JSON (its Markdown is beside it)."""
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({list(without)!r}))
sys.path.insert(0, {str(BENCHMARKS)!r})
runpy.run_path({str(BENCHMARKS / name)!r}, run_name="__main__")
"""
    outputs = ["--json", folder / "found.json", "--markdown", folder / "found.md"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *outputs],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "| --- |" in (folder / "found.md").read_text(encoding="utf-8")
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_fusion_compares_every_width_with_solo_and_needs_neither_ray_nor_sql(tmp_path: Path) -> None:
    short = [
        "--workloads",
        "digits-mlp",
        "--optimizers",
        "adamp",
        "--widths",
        "2",
        "--rounds",
        "2",
        "--steps",
        "2",
        "--modes",
        "eager",
    ]
    (one,) = run("fusion.py", *short, folder=tmp_path, without=ABSENT)["found"]
    assert (one["optimizer"], one["steps_per_epoch"]) == ("adamp", 2)
    assert set(one["ratio"]) == {"2", "chosen"}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in one["rates"].values())


def test_search_replays_every_part(tmp_path: Path) -> None:
    short = [
        "--tables",
        "kc1",
        "--seeds",
        "2",
        "--trials",
        "12",
        "--batches",
        "1",
        "4",
        "--workers",
        "1",
        "--samplers",
        "random",
        "tpe",
    ]
    short += ["--paired-trials", "6"]
    grid = [
        "--levels",
        "3",
        "2",
        "2",
        "2",
        "--epochs",
        "4",
        "--curve-seeds",
        "2",
        "--pruners",
        "none",
        "asha",
        "--cache",
        tmp_path / "curves",
    ]
    found = run("search.py", *short, *grid, folder=tmp_path)
    assert set(found["samplers"]) == {"random", "tpe"}
    for one in found["samplers"].values():
        # More trials never increase the regret.
        assert all(
            after <= before for before, after in zip(one["by_trials"][0], one["by_trials"][2], strict=True)
        )
    assert [one["batch"] for one in found["batches"]] == [1, 4]
    assert [one["paired"] for one in found["paired"]] == [0, 1, 2, 4, 5]
    assert all(len(one["regrets"]) == 2 for one in found["paired"])
    spent = {(one["sampler"], one["pruner"]): one["trials"] for one in found["pruners"]}
    assert spent["random", "asha"] > spent["random", "none"] == 12


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_overhead_measures_a_study_without_its_copy(tmp_path: Path) -> None:
    (found,) = run(
        "overhead.py", "--sizes", "128", "--pack-size", "2", "--copies", "without", folder=tmp_path
    )["studies"]
    assert found["copied"] == 0
    assert found["copy_ms"] > 0
    assert found["ms_a_trial"] > 0
    assert found["run_mb_peak"] >= found["run_mb_before"] > 10


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["tangent", "optuna", "reused"])
def test_throughput_trains_every_trial_and_counts_every_process(tmp_path: Path, side: str) -> None:
    short = ["--studies", "digits-mlp:1:1", "--arms", "adamp", "--seeds", "1", "--repeats", "1"]
    (measured,) = run("throughput.py", *short, "--sides", side, folder=tmp_path)["runs"]
    took = measured["found"][-1]
    assert took["side"] == side
    assert took["warm_s"] > 0
    assert took["cpu_s"] > 0
    assert measured["found"][0]["cold_s"] > 0
    arm = took["arms"]["adamp"]
    assert arm["completed"] == arm["epochs"] == 1
    assert 0 < arm["best"] <= 1
