"""Workloads that are programs: what they get, how they report, and how bad ones end."""

import json
import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from packs import CPU, OPTIMIZERS, outcome_of
from plane_scripts import CARD, pack_of

from studies import process_tree
from workers.checkpoints import load
from workers.pack_protocol import EpochReport, Keeping
from workers.script import command_client
from workers.script.program import trial
from workers.training import train_pack
from workers.weights import load_weights
from workers.workload_errors import describe_error
from workers.workloads import CommandWorkload

__all__: list[str] = []

# The program runs without site packages: it starts quickly, and shows that the client needs none.
PYTHON = (sys.executable, "-I", "-S")
CLIENT = f"""
import sys, os, time, json, signal, socket
sys.path.insert(0, {str(Path(command_client.__file__).parent)!r})
from command_client import CommandTrial
"""


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    """Adopt orphans, as a worker does."""
    process_tree.adopt_orphans()
    yield
    assert [
        process for process in process_tree.descendants() if "command_client" in " ".join(process.cmdline())
    ] == []


def command_of(
    tmp_path: Path, program: str, *arguments: str, client: str = CLIENT, **options: Any
) -> CommandWorkload:
    path = tmp_path / "train.py"
    path.write_text(client + textwrap.dedent(program))
    return CommandWorkload(CARD, [*PYTHON, str(path), *arguments], **options)


def train(workload: CommandWorkload, **changes: Any) -> list[EpochReport]:
    pack = pack_of(optimizer="sgd", **changes)
    return list(train_pack(pack, workload=workload, entry=OPTIMIZERS["sgd"], data=None, device=CPU))


def kept_model(workload: CommandWorkload, folder: Path) -> dict[str, Any]:
    """Return what is kept as the model of a trial that is trained to its end."""
    (member,) = pack_of(optimizer="sgd").members
    keeper = member.model_copy(update={"trial_id": "study.sgd.c0", "keep_weights": "best"})
    keeping = Keeping(folder=str(folder), max_weights_bytes=10**6)
    pack = pack_of(optimizer="sgd", keeping=keeping).model_copy(update={"members": (keeper,)})
    *_, report = train_pack(pack, workload=workload, entry=OPTIMIZERS["sgd"], data=None, device=CPU)
    last = report.members[0]
    return load_weights(folder / last.kept[0].id)["model"]


def reason_of(workload: CommandWorkload, **changes: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 # whatever a program does
        train(workload, **changes)
    return describe_error(caught.value, workload="plane").reason


GOOD = """
    trial = CommandTrial()
    for epoch in trial.epochs():
        values = {"squared error": 1 / epoch, "loss": 2.0}
        trial.report(validation=values, test=lambda: epoch / 10, train_loss=3.0)
"""


def test_a_program_without_torch_reports_through_the_client(tmp_path: Path) -> None:
    reports = train(command_of(tmp_path, GOOD))
    found = outcome_of(reports, "t0")
    assert (found.state, found.value, found.test_value) == ("completed", 0.25, 0.4)
    first = reports[0].members[0].measurement
    assert (first.train_loss, first.validation_loss, first.lr) == (3.0, 2.0, 0.02)


def test_the_configuration_comes_as_flags_as_template_and_as_json(tmp_path: Path) -> None:
    program = """
        trial = CommandTrial()
        trial.report(validation=0.5, test=0.5)
        described = json.load(open(os.environ["TANGENT_TRIAL"]))
        with open(os.path.join({folder!r}, "seen.json"), "w") as file:
            json.dump([sys.argv[1:], os.getcwd(), described["config"], trial.config, str(trial.folder)], file)
    """.replace("{folder!r}", repr(str(tmp_path)))
    arguments = ("--rate={lr}", "{seed}", "{optimizer}", "{training.batch_size}", '{"a": 1}', "{flags}")
    train(command_of(tmp_path, program, *arguments, directory=tmp_path), epochs=1, to_epoch=1)
    seen, folder, described, config, own = json.loads((tmp_path / "seen.json").read_text())
    assert seen[:5] == ["--rate=0.02", "3", "sgd", "16", '{"a": 1}']
    flags = dict(zip(seen[5::2], seen[6::2], strict=True))
    assert (flags["--lr"], flags["--training.decay_1d"]) == ("0.02", "true")
    assert folder == str(tmp_path)
    assert described == config
    assert not Path(own).exists()


def test_a_program_continues_at_a_rung_from_the_file_that_it_saved(tmp_path: Path) -> None:
    program = f"""
        trial = CommandTrial()
        restored = trial.restore()
        seen = restored.read_text() if restored else ""
        for epoch in trial.epochs():
            seen += str(epoch)
            (trial.folder / "state").write_text(seen)
            trial.report(validation=1 / epoch, test=0.5)
            trial.save(trial.folder / "state")
        with open({str(tmp_path / "seen")!r}, "a") as file:
            file.write(seen + ";")
    """
    workload = command_of(tmp_path, program)
    first = train(workload, folder=tmp_path / "checkpoints", to_epoch=2)
    rest = train(workload, folder=tmp_path / "checkpoints", after=first[-1])
    assert [report.epoch for report in first + rest] == [1, 2, 3, 4]
    assert (tmp_path / "seen").read_text() == "12;1234;"


def test_a_program_counts_steps_through_the_client(tmp_path: Path) -> None:
    program = f"""
        trial = CommandTrial()
        restored = trial.restore()
        seen = restored.read_text() if restored else ""
        for step in trial.steps(steps_per_epoch=3):
            seen += f"{{step}} "
            if trial.is_due:
                (trial.folder / "state").write_text(seen)
                trial.report(validation=1 / step, test=0.5)
                trial.save(trial.folder / "state")
        with open({str(tmp_path / "seen")!r}, "a") as file:
            file.write(f"{{sys.argv[1:]}} {{trial.budget}} {{seen}};")
    """
    workload = command_of(tmp_path, program, "{steps}", "{evaluate_every}")
    first = train(workload, folder=tmp_path / "checkpoints", to_epoch=2, interval_steps=2)
    rest = train(workload, folder=tmp_path / "checkpoints", after=first[-1], interval_steps=2)
    assert [report.epoch for report in first + rest] == [1, 2, 3, 4]
    given = "['8', '2'] 8"
    assert (tmp_path / "seen").read_text() == f"{given} 1 2 3 4 ;{given} 1 2 3 4 5 6 7 8 ;"
    reason = reason_of(workload)
    assert "expected a budget of steps" in reason
    assert "{steps}" in reason
    [*_, last] = train(command_of(tmp_path, program.replace("budget", "id")))
    assert last.members[0].measurement.validation_metric == 1 / 12


def test_a_program_that_does_not_save_starts_over_at_a_rung(tmp_path: Path) -> None:
    workload = command_of(tmp_path, GOOD)
    first = train(workload, folder=tmp_path / "checkpoints", to_epoch=2)
    rest = train(workload, folder=tmp_path / "checkpoints", after=first[-1])
    assert [report.members[0].measurement.validation_metric for report in first + rest] == [
        1,
        1 / 2,
        1 / 3,
        1 / 4,
    ]


def test_a_python_program_imports_the_same_trial_and_keeps_the_weights_of_its_model(tmp_path: Path) -> None:
    program = """
        from tangent import trial
        import torch
        model = torch.nn.Linear(2, 1)
        optimizer = trial.optimizer(model)
        scheduler = trial.scheduler(optimizer, steps_per_epoch=2)
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        trial.restore(parts)
        inputs = torch.ones(4, 2)
        for epoch in trial.epochs():
            for _ in range(2):
                loss = (model(inputs + torch.rand(1)) - 1).square().mean()
                loss.backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            trial.report(validation=model(inputs).mean(), test=lambda: 0.5, train_loss=loss)
            trial.save(parts)
    """
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(program))
    workload = CommandWorkload(CARD, ["{python}", str(path)])
    reports = train(workload, folder=tmp_path, to_epoch=2)
    last = reports[-1].members[0]
    assert None not in (last.measurement.weight_norm, last.measurement.effective_step)
    # Of eight steps, the fourth: the arm's cosine.
    assert last.measurement.lr == pytest.approx(0.01 * (1 + math.cos(math.pi * 3 / 8)))
    assert last.checkpoint is not None
    assert load(last.checkpoint)["script"]["file"]["bytes"].numel() > 0
    assert kept_model(workload, tmp_path).keys() == {"weight", "bias"}


def test_of_another_program_the_bytes_of_its_file_are_kept(tmp_path: Path) -> None:
    program = """
        trial = CommandTrial()
        for epoch in trial.epochs():
            (trial.folder / "state").write_text(str(epoch))
            trial.report(validation=0.5, test=0.5)
            trial.save(trial.folder / "state")
    """
    kept = kept_model(command_of(tmp_path, program), tmp_path)
    assert bytes(kept["file"]["bytes"].tolist()) == b"4"


def test_a_pattern_reads_the_output_of_a_program_that_cannot_be_changed(tmp_path: Path) -> None:
    program = """
        for epoch in range(1, 5):
            print(f"epoch {epoch}: loss {2 / epoch} val {1 / epoch} test {1 / (1 + epoch)}", flush=True)
    """
    pattern = r"loss (?P<train_loss>\S+) val (?P<validation>\S+) test (?P<test>\S+)"
    workload = command_of(tmp_path, program, client="", pattern=pattern)
    found = outcome_of(train(workload), "t0")
    assert (found.value, found.test_value) == (0.25, 0.2)
    first = train(workload, folder=tmp_path / "checkpoints", to_epoch=2)
    rest = train(workload, folder=tmp_path / "checkpoints", after=first[-1])
    assert [report.members[0].measurement.train_loss for report in first + rest] == [2, 1, 2 / 3, 0.5]
    with pytest.raises(ValueError, match="validation"):
        CommandWorkload(CARD, ["train"], pattern="(?P<accuracy>.*)")
    steps = command_of(tmp_path, program, client="", pattern=r"epoch (?P<step>\d+).* val (?P<validation>\S+)")
    assert "after step 5" in reason_of(steps, interval_steps=5)


BAD = {
    "exits 0 without a value": ("", ("without a report",)),
    "exits 1": (
        "raise KeyError('colour')",
        ("exited with status 1", "KeyError: 'colour'", "train.py, line 5"),
    ),
    "exits 1 after a report": (
        "CommandTrial().report(validation=1, test=1); sys.exit('out of ideas')",
        ("status 1 after 1 reports", "out of ideas"),
    ),
    "kills itself": ("os.kill(os.getpid(), 9)", ("killed by signal 9",)),
    "ends early": ("CommandTrial().report(validation=1, test=1)", ("up to 4", "after epoch 1")),
    "reports a wrong name": (
        "CommandTrial().report(validation={'acc': 1})",
        ("'squared error'", "'acc'", "train.py, line 5"),
    ),
    "reports beyond its end": (
        "t = CommandTrial()\nfor _ in range(9): t.report(validation=1, test=1)",
        ("after epoch 4", "train.py, line 6"),
    ),
    "counts epochs in a budget of steps": (
        "t = CommandTrial()\nfor _ in t.epochs(): t.report(validation=1)",
        ("loop over trial.steps()", "train.py, line 6"),
    ),
    "reports without a step in a budget of steps": (
        "CommandTrial().report(validation=1)",
        ("the step of the report", "train.py, line 5"),
    ),
    "reports no test value": (
        "t = CommandTrial()\nfor _ in t.epochs(): t.report(validation=1)",
        ("test value of epoch 4",),
    ),
    "says nonsense": (
        (
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.connect(json.load(open(os.environ['TANGENT_TRIAL']))['socket'])\n"
            "s.sendall(b'hello\\n'); time.sleep(60)"
        ),
        ("JSON", "hello"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_program_fails_its_trial_with_one_reason(name: str, tmp_path: Path) -> None:
    program, words = BAD[name]
    every = 5 if "budget of steps" in name else None
    reason = reason_of(command_of(tmp_path, program), interval_steps=every)
    assert [word for word in words if word not in reason] == []


def test_a_command_that_does_not_exist_or_names_no_value_is_refused_with_the_reason(tmp_path: Path) -> None:
    reason = reason_of(CommandWorkload(CARD, [str(tmp_path / "missing"), "--lr={lr}"]))
    assert "No such file" in reason
    assert "missing" in reason
    reason = reason_of(CommandWorkload(CARD, ["true", "{learning_rate}"]))
    assert "{learning_rate}" in reason
    assert "lr" in reason


def test_a_gigabyte_of_output_passes_in_bounded_memory(tmp_path: Path) -> None:
    program = textwrap.dedent(GOOD) + "\nblock = b'x' * (1 << 20)\nfor _ in range(1024): os.write(1, block)\n"
    peak = psutil.Process().memory_info().rss
    with Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            found = outcome_of(train(command_of(tmp_path, program)), "t0")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    assert found.state == "completed"
    assert psutil.Process().memory_info().rss - peak < 100 << 20


def test_a_daemon_in_a_session_of_its_own_and_a_process_that_ignores_sigterm_end_with_the_trial(
    tmp_path: Path,
) -> None:
    program = f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open({str(tmp_path / "daemon")!r}, "w").write(str(os.getpid()))
                time.sleep(600)
            os._exit(0)
        os.wait()
        while not os.path.exists({str(tmp_path / "daemon")!r}): time.sleep(0.01)
        CommandTrial().report(validation=float("nan"))
        time.sleep(600)
    """
    unrelated = subprocess.Popen(["sleep", "600"])
    try:
        started = time.monotonic()
        found = outcome_of(train(command_of(tmp_path, program)), "t0")
        assert found.state == "diverged"
        assert time.monotonic() - started < 30
        assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


def test_a_program_that_no_worker_has_started_is_told_so() -> None:
    for start in (command_client.CommandTrial, lambda: trial.id):
        with pytest.raises(RuntimeError, match="TANGENT_TRIAL"):
            start()
