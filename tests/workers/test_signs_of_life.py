"""Signs of life: what training notes is published for its run, and nothing else is."""

import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, train
from plane_scripts import CARD
from plane_scripts import pack_of as script_pack
from torch import nn

from workers import signs_of_life, tune
from workers.script import command_client
from workers.script.trial import Trial
from workers.signs_of_life import Sign, end_signs, note, note_again, publish_signs
from workers.training import train_pack
from workers.worker_failures import hung
from workers.workloads import CommandWorkload, ScriptWorkload

__all__: list[str] = []


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], int | None]]:
    """What is noted in this process from now on."""
    found: list[tuple[tuple[str, ...], int | None]] = []
    for module in ("solo", "stacked.stack", "script.engine"):
        monkeypatch.setattr(f"workers.{module}.note", lambda ids, step: found.append((tuple(ids), step)))
    for module in ("results", "workloads.loop_workload"):
        monkeypatch.setattr(f"workers.{module}.note_again", lambda: found.append(found[-1]))
    return found


def test_only_a_new_sign_is_published_for_the_pack_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "_noted", signs_of_life._Noted())
    found: list[tuple[str, Sign]] = []
    has_come = threading.Event()

    def publish(pack_id: str, sign: Sign) -> None:
        found.append((pack_id, sign))
        has_come.set()
        if sign.number == 1:
            raise ConnectionError("Ray is not there")

    def published() -> tuple[str, Sign]:
        assert has_come.wait(5)
        has_come.clear()
        return found[-1]

    publish_signs("first", publish, every_s=0.01)
    note(["a", "b"], 7)
    assert published() == ("first", Sign(trial_ids=("a", "b"), step=7, number=1))
    assert not has_come.wait(0.05)
    publish_signs("second", publish)
    assert not has_come.wait(0.05)
    note(["c"], None)
    assert published() == ("second", Sign(trial_ids=("c",), step=None, number=2))
    note_again()
    assert published() == ("second", Sign(trial_ids=("c",), step=None, number=3))
    end_signs()
    note(["c"], 8)
    assert not has_come.wait(0.05)
    publish_signs("short", publish)
    signs_of_life._noted.began_at += 60
    note(["d"], 1)
    assert not has_come.wait(0.05)


@pytest.mark.parametrize("width", [1, 2])
def test_every_step_and_every_evaluated_batch_is_a_sign(
    width: int, noted: list[tuple[tuple[str, ...], int | None]]
) -> None:
    workload = WORKLOADS["digits-mlp"]
    members = [member("adamw", str(n)) for n in range(2)]
    pack = pack_of(workload, "adamw", *members, epochs=2, batch_size=16, width=width)
    train(pack, data=shortened(data_of(workload), 48, 16))
    groups = [("0", "1")] if width == 2 else [("0",), ("1",)]
    # An evaluation begins, and has one batch.
    epochs = [(ids, step) for _ in range(2) for ids in groups for step in (1, 2, 3, 3, 3)]
    tests = [(ids, 3) for ids in groups for _ in range(2)]
    # Of a stack the equivalence check comes first.
    assert noted[-len(epochs + tests) :] == epochs + tests
    assert (len(noted) == len(epochs + tests)) == (width == 1)


def test_steps_and_logs_of_a_script_are_signs(
    noted: list[tuple[tuple[str, ...], int | None]], tmp_path: Path
) -> None:
    class Steps(ScriptWorkload):
        card = CARD

        def run(self, trial: Trial) -> None:
            model = nn.Linear(2, 1)
            optimizer = trial.optimizer(model)
            for epoch in trial.epochs() if trial.evaluate_every is None else trial.steps():
                model(torch.ones(2)).sum().backward()
                optimizer.step()
                trial.log(epoch=epoch)
                if trial.is_due:
                    trial.report(validation=0.5, test=0.5)

    def signs(**changes: Any) -> list[int | None]:
        noted.clear()
        pack = script_pack(tmp_path, **changes)
        list(train_pack(pack, workload=Steps(), entry=OPTIMIZERS["adamp"], data=None, device=CPU))
        return [step for _, step in noted]

    assert signs() == [1, 1] * 4
    assert signs(interval_steps=2) == [None, 1, 1, 2] * 4


def command_of(folder: Path, program: str) -> CommandWorkload:
    """Return a command that runs a program, which has imported the client."""
    client = Path(command_client.__file__).parent
    path = folder / "program.py"
    path.write_text(f"import sys; sys.path.insert(0, {str(client)!r}); import command_client\n{program}")
    return CommandWorkload(CARD, [sys.executable, "-I", "-S", str(path)])


def test_a_program_says_that_it_goes_on(
    noted: list[tuple[tuple[str, ...], int | None]], tmp_path: Path
) -> None:
    command = command_of(
        tmp_path,
        "command_client._GOES_ON_EVERY_S = 0\n"
        "trial = command_client.CommandTrial()\n"
        "for step in trial.steps(steps_per_epoch=2):\n"
        "    if trial.is_due:\n"
        "        trial.report(validation=0.5, test=0.5)\n",
    )
    pack = script_pack(tmp_path, optimizer="sgd")
    list(train_pack(pack, workload=command, entry=OPTIMIZERS["sgd"], data=None, device=CPU))
    assert noted == [(("t0",), step) for step in (1, 2) * 4]


def test_each_process_of_a_program_has_a_connection_of_its_own(
    noted: list[tuple[tuple[str, ...], int | None]], tmp_path: Path
) -> None:
    # The second process connects first, and keeps its connection; its steps are not valid.
    command = command_of(
        tmp_path,
        "import os, time\n"
        "parent, (connected, ready) = os.getpid(), os.pipe()\n"
        "if os.fork() == 0:\n"
        "    other = command_client.WorkerConnection()\n"
        "    for step in (2**63, -1, True, 'x'):\n"
        "        other._send({'step': step})\n"
        "    os.write(ready, b'.')\n"
        "    while os.getppid() == parent:\n"
        "        time.sleep(0.05)\n"
        "    os._exit(0)\n"
        "os.read(connected, 1)\n"
        "trial = command_client.CommandTrial()\n"
        "for epoch in trial.epochs():\n"
        "    trial.report(validation=0.5, test=lambda: 0.5)\n",
    )
    pack = script_pack(tmp_path, optimizer="sgd")
    reports = list(train_pack(pack, workload=command, entry=OPTIMIZERS["sgd"], data=None, device=CPU))
    assert len(reports) == 4
    assert noted == [(("t0",), None)] * 4


def test_the_reason_of_a_hung_trial_tells_a_slow_one_from_a_silent_one() -> None:
    assert "raise epoch_timeout_s" in hung(600, silent_s=3).reason
    assert "it was last heard of 590 s before" in hung(600, silent_s=590).reason
    assert "raise" not in hung(600, silent_s=590).reason + hung(600).reason


def test_a_run_forgets_the_sign_of_a_long_pack_that_it_has_never_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(tune, "forget_sign", forgotten.append)
    pack = pack_of(WORKLOADS["digits-mlp"], "adamw", member("adamw", "0"), epochs=1)
    searcher = tune.PackSearcher(MagicMock(), config={})
    for name, age_s in (("long", 20), ("short", 0), ("lost", 20)):
        ended = pack.model_copy(update={"pack_id": name})
        searcher._in_flight[name] = tune._PackTrial(ended, dispatched_at=time.monotonic() - age_s)
    searcher.on_trial_complete("long", {"left": True})
    searcher.on_trial_complete("short", {"left": True})
    assert forgotten == ["long"]
    searcher.forget_signs()
    assert forgotten == ["long", "lost"]
    assert searcher.error is None
