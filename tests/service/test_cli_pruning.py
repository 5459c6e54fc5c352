"""Pruning in the output of `show`, `best`, `trials` and `watch`."""

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from catalogs import catalog
from fastapi import FastAPI
from pruned_studies import Pruned
from rich.console import Console
from typer.testing import CliRunner, Result

from service.cli import progress
from service.cli.app import app
from service.cli.progress import reporter
from studies.store import Store
from studies.views import EventView

__all__: list[str] = []

Run = Callable[..., Result]


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def run(live: str, known: Store) -> Run:
    """Run `tangent` against the live service."""
    assert known is not None

    def ran(*arguments: str) -> Result:
        return CliRunner(env={"TANGENT_URL": live, "COLUMNS": "200"}).invoke(app, list(arguments))

    return ran


def columns(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_show_lists_rungs_and_counts_pruned_and_waiting_trials(run: Run, known: Store) -> None:
    study = Pruned(known).train(1)
    shown = run("show", study.id).stdout
    assert "asha (from epoch 1, 1 in 3 promoted); rungs after epochs 1 and 3 of 9" in shown
    assert "0/18 finished; 4 waiting at a rung" in shown
    study.train().close()
    shown = run("show", study.id).stdout
    assert "18/18 finished; 14 pruned; 2 diverged" in shown
    assert "42/42 trained" in shown


@pytest.mark.parametrize("command", ["show", "best"])
def test_arms_show_pruned_trials_and_trained_epochs(run: Run, known: Store, command: str) -> None:
    study = Pruned(known).train().close()
    lines = run(command, study.id).stdout.splitlines()
    head = next(line for line in lines if line.startswith("arm "))
    assert head.split()[:4] == ["arm", "trials", "pruned", "epochs"]
    arm = next(line for line in lines if line.startswith("adamw "))
    assert arm.split()[:4] == ["adamw", "9/9", "7", "21/21"]
    assert "pruned" not in arm, "pruned trials do not count as unsuccessful"


def test_trials_show_waiting_states_and_target_epochs(run: Run, known: Store) -> None:
    study = Pruned(known, arms=["adamw"]).train(1)
    lines = {line.split()[0]: " ".join(line.split()) for line in run("trials", study.id).stdout.splitlines()}
    assert f"{study.id}.adamw.0 waiting at epoch 1 – – 1 3 0.10 s" in lines[f"{study.id}.adamw.0"]
    assert f"{study.id}.adamw.1 queued – – 1 to 3 3 0.10 s" in lines[f"{study.id}.adamw.1"]
    assert len(run("trials", study.id, "--state", "queued").stdout.splitlines()) == 4
    waiting = json.loads(run("trials", study.id, "--state", "waiting", "--json").stdout)
    assert [(trial["number"], trial["state"]) for trial in waiting] == [(0, "queued"), (2, "queued")]
    study.train().close()
    assert len(json.loads(run("trials", study.id, "--state", "pruned", "--json").stdout)) == 7


def test_a_pruner_without_rungs_is_rejected_with_advice(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    body: dict[str, Any] = {
        "workload": "digits-mlp",
        "arms": ["adamp"],
        "budget": {"trials_per_arm": 9, "epochs": 9},
    }
    file.write_text(json.dumps(body | {"pruner": {"kind": "asha", "min_epochs": 9}}), encoding="utf-8")
    refused = run("submit", str(file))
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: /pruner/min_epochs: expected fewer than the 9 epochs of a trial")
    file.write_text(json.dumps(body | {"pruner": "asha", "confirmation": {"seeds": 0}}), encoding="utf-8")
    assert (
        "1 arm, 9 trials (4 paired), 49 epochs, about 4.90 s of training"
        in run("submit", str(file), "--validate-only").stdout
    )


def test_watching_without_a_terminal_prints_promotions_and_pruned_trials(
    run: Run, known: Store, live_app: FastAPI
) -> None:
    study = Pruned(known, arms=["adamw"])

    def train_when_watched() -> None:
        deadline = time.monotonic() + 30
        while live_app.state.streams.open == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        study.train().close()

    trainer = threading.Thread(target=train_when_watched)
    trainer.start()
    result = run("watch", study.id)
    trainer.join()
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert any(line.startswith(f"{study.id}.adamw.1 promoted") and line.endswith("epoch 3") for line in lines)
    assert sum(line.endswith(" pruned") for line in lines) == 7
    assert any(line.startswith("adamw 9/9 ") for line in lines)


def test_bars_count_epochs_with_a_pruner_and_end_full(known: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=160)
    monkeypatch.setattr(progress, "console", lambda: out)
    study = Pruned(known, arms=["adamw"])
    with watching(known, study.id) as report:
        bars: Any = report
        study.train(1)
        show_events(known, study.id, report)
        assert [(task.completed, task.total) for task in bars._bars.tasks] == [(3, 21), (3, 21)]
        assert bars._bars.tasks[1].fields["note"] == "epochs, 2 waiting"
        study.train()
        show_events(known, study.id, report)
        assert [(task.completed, task.total) for task in bars._bars.tasks] == [(21, 21), (21, 21)]
        assert bars._bars.tasks[1].fields["note"].startswith("epochs, best accuracy 9")
        assert "7 pruned" in bars._bars.tasks[1].fields["note"]


def watching(store: Store, study_id: str) -> AbstractContextManager[Callable[[EventView], None]]:
    """Return the reporter that `watch` uses."""
    return reporter(store.study(study_id), store.arms(study_id))


def show_events(store: Store, study_id: str, report: Callable[[EventView], None]) -> None:
    """Report all events of a study."""
    for event in store.events(study_id):
        report(event)
