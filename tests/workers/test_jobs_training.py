"""Each light job of `examples/jobs` trains one epoch, or one interval of steps, and gets a test value."""

import importlib
import subprocess
from pathlib import Path

import pytest
import sklearn.datasets
from packs import CPU, OPTIMIZERS, member, outcome_of

from studies.training_settings import TrainingSettings
from workers.pack_protocol import Pack
from workers.training import train_pack

__all__: list[str] = []

JOBS = Path(__file__).parents[2] / "examples" / "jobs"


@pytest.mark.parametrize(
    ("place", "steps", "accumulated", "batch_size"),
    [
        ("language_model:LanguageModel", 8, 4, 16),
        ("retrieval:Retrieval", 20, 1, 32),
        ("adversarial:Adversarial", 4, 1, 50),
        ("two_processes:TwoProcesses", 20, 1, 50),
        ("commands:SHELL", None, 1, 32),
        pytest.param("commands:TRAIN", None, 1, 32, marks=pytest.mark.slow),
        pytest.param("commands:PLAIN_PYTORCH", None, 1, 32, marks=pytest.mark.slow),
    ],
)
def test_a_job_trains(
    place: str,
    steps: int | None,
    accumulated: int,
    batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.syspath_prepend(str(JOBS))
    module, name = place.split(":")
    found = getattr(importlib.import_module(f"tangent_jobs.{module}"), name)
    workload = found() if isinstance(found, type) else found
    pack = Pack(
        pack_id="pack",
        workload=workload.card.name,
        optimizer="adamw",
        members=(member("adamw", lr=0.01),),
        from_epoch=0,
        to_epoch=1,
        epochs=1,
        interval_steps=steps,
        training=TrainingSettings(batch_size=batch_size, accumulation_steps=accumulated),
        maximize=workload.card.direction == "maximize",
        checkpoints=str(tmp_path),
    )
    entry = OPTIMIZERS["adamw"]
    reports = list(train_pack(pack, workload=workload, entry=entry, data=None, device=CPU))
    outcome = outcome_of(reports, "t")
    assert outcome.test_value is not None
    if workload.card.unit == "fraction":
        assert 0.1 < outcome.test_value <= 1


def test_the_shell_script_follows_a_trials_seed() -> None:
    digits = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    script = ["sh", str(JOBS / "tangent_jobs" / "digits.sh"), str(digits), "0.1", "1"]
    seeds = ("242578015185240", "242578015185241", "242578015185240")
    found = [subprocess.run([*script, seed], capture_output=True, check=True).stdout for seed in seeds]
    assert found[0] == found[2] != found[1]
