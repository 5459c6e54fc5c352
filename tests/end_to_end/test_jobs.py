"""The jobs of `examples/jobs`: each is checked and studied as a user would."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process

from service.documents import read_document
from studies.spec import parse_spec
from studies.states import StudyState, TrialState

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "examples" / "jobs"
PROJECT = tomllib.loads((JOBS / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKLOADS = PROJECT["entry-points"]["tangent.workloads"]
LIBRARIES = ("faster_coco_eval", "lightning", "tensorboard", "transformers")
STUDIES = sorted(path.name for path in (JOBS / "studies").glob("*.yaml"))


def test_every_job_is_listed_with_its_study() -> None:
    table = (JOBS / "README.md").read_text(encoding="utf-8")
    for path in [
        *sorted((JOBS / "tangent_jobs").glob("[a-z]*.py")),
        *(JOBS / "studies" / name for name in STUDIES),
    ]:
        assert f"]({path.relative_to(JOBS)})" in table
    for name in STUDIES:
        assert read_document(str(JOBS / "studies" / name))["workload"]


@pytest.mark.slow
def test_every_job_has_the_name_of_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in LIBRARIES:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(JOBS))
    for entries in PROJECT["entry-points"].values():
        for name, place in entries.items():
            module, _, entry = place.partition(":")
            assert getattr(importlib.import_module(module), entry).card.name == name


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the jobs are installed."""
    # Setuptools writes into the source.
    source = shutil.copytree(JOBS, tmp_path_factory.mktemp("source") / "jobs")
    folder = tmp_path_factory.mktemp("packages")
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Path:
    """The folder that the jobs read: pictures of job-resnet, and weights of an earlier job-adversarial."""
    found = tmp_path_factory.mktemp("jobs")
    script = packages / "tangent_jobs" / "pictures.py"
    subprocess.run([sys.executable, str(script), str(found / "pictures")], check=True)
    make = (
        "import sys, torch; from tangent_jobs.adversarial import Adversarial;"
        "from workers.weights import _FORMAT;"
        "torch.save({'format': _FORMAT, 'model': Adversarial().build_model().state_dict()}, sys.argv[1])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(packages)))}
    subprocess.run([sys.executable, "-c", make, str(found / "start.pt")], check=True, env=environment)
    return found


@pytest.fixture(scope="module")
def jobs(data: Path, packages: Path) -> Iterator[DispatcherProcess]:
    """A dispatcher with the jobs."""
    with dispatcher_process(data, packages=packages) as running:
        yield running


def completed(jobs: DispatcherProcess, name: str) -> str:
    """Run a study of a job, with few and short trials, and return its id."""
    body = read_document(str(JOBS / "studies" / name))
    # A study that prunes needs an epoch after its first rung.
    epochs = 2 if "pruner" in body else 1
    budget = {"steps": 22, "evaluate_every": 22} if "steps" in body["budget"] else {"epochs": epochs}
    body |= {"budget": {"trials_per_arm": 2, **budget}, "confirmation": {"seeds": 1}}
    study_id = jobs.store.submit(parse_spec(body)).id
    assert jobs.closed(study_id, timeout_s=500).state is StudyState.COMPLETED
    return study_id


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.slow
def test_a_job_passes_its_check(name: str, packages: Path, data: Path) -> None:
    environment = os.environ | {"TANGENT_PACKAGES": str(packages), "TANGENT_DATA": str(data)}
    # The program of one job knows two optimizers.
    optimizer = "adamw" if name == "job-train" else "adamp"
    command = [sys.executable, "-m", "service", "check", name, "--json", "--optimizer", optimizer]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    results = json.loads(done.stdout)["results"]
    # How long an epoch takes depends on the machine.
    bad = [r for r in results if r["status"] in {"warning", "error"} and r["check"] != "card: epoch_s"]
    assert not bad
    assert done.returncode == 0


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "fine_tune.yaml"])
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_tiny_study_of_a_job_completes(name: str, jobs: DispatcherProcess) -> None:
    study_id = completed(jobs, name)
    trials = jobs.store.every_trial(study_id)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETED, TrialState.DIVERGED}
    assert all(arm.best is not None for arm in jobs.store.arms(study_id))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_study_continues_from_the_best_weights_of_another_and_keeps_event_files(
    jobs: DispatcherProcess,
) -> None:
    before = completed(jobs, "adversarial.yaml")
    kept = next(each for each in jobs.store.artifacts(before) if each.weights_of == "best")
    shutil.copy(jobs.store.artifact_location(kept.id)[1], jobs.home / "start.pt")
    after = completed(jobs, "fine_tune.yaml")
    trials = {trial.id: trial for trial in jobs.store.every_trial(after)}
    files = [each for each in jobs.store.artifacts(after) if "tfevents" in each.name]
    # Confirmation runs have some too.
    assert {each.trial_id for each in files} >= {one for one, trial in trials.items() if trial.test_value}
    earlier = jobs.store.trial(kept.trial_id).test_metrics["clean_accuracy"]
    assert earlier is not None
    # One epoch more, on clean pictures.
    assert max(trial.test_value or 0 for trial in trials.values()) > earlier
