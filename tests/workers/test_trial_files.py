"""The files in a trial's folder: which are kept, under which names, and what never is."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, member
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers.pack_protocol import Keeping, Pack
from workers.script.trial import Trial
from workers.training import train_pack
from workers.trial_files import TrialFolder
from workers.workloads import LoopWorkload, ScriptWorkload

__all__: list[str] = []

CARD = WorkloadCard(
    name="line",
    title="Line",
    description="A line.",
    source="made up",
    metric="distance",
    unit="none",
    direction="minimize",
    target=0.1,
    epochs=2,
    batch_size=4,
    examples={"train": 8, "validation": 4, "test": 4},
    parameters=2,
    epoch_s=0.1,
)


class Line(LoopWorkload):
    """Writes a file and a line of its log in each evaluation."""

    card = CARD

    def build_model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[Tensor]:
        del epoch
        yield from (torch.rand(batch_size, 1) for _ in range(2))

    def training_step(self, model: nn.Module, batch: Tensor) -> Tensor:
        return (model(batch) - batch).square().mean()

    def evaluate(self, model: nn.Module, split: str, *, device: torch.device) -> Mapping[str, float]:
        del model, device
        (self.folder / "runs").mkdir(exist_ok=True)
        (self.folder / "runs" / f"{split}.png").write_bytes(b"picture")
        self.log(split=split, value=torch.tensor(0.5))
        return {"distance": 0.5}


class Script(ScriptWorkload):
    """Writes a file in each epoch."""

    card = CARD

    def run(self, trial: Trial) -> None:
        model = nn.Linear(1, 1)
        trial.optimizer(model)
        for epoch in trial.epochs():
            (trial.folder / f"events.{epoch}").write_text("events")
            trial.log(epoch=epoch)
            trial.report(validation={"distance": 0.5}, test={"distance": 0.5}, train_loss=0.1)
            trial.save({"model": model})


def keeping(folder: Path, limit: int = 10**6) -> Keeping:
    return Keeping(folder=str(folder), max_weights_bytes=10**6, files=True, max_files_bytes=limit)


def trained(workload: LoopWorkload | ScriptWorkload, folder: Path, **fields: Any) -> dict[str, bytes]:
    """Train a trial, and return the content of what was kept, by name."""
    given = {"from_epoch": 0, "to_epoch": 2, "epochs": 2, **fields}
    pack = Pack(
        pack_id="p",
        workload="line",
        optimizer="adamw",
        members=(member("adamw", "study.adamw.0"),),
        training=TrainingSettings(batch_size=4),
        maximize=False,
        **given,
    )
    reports = train_pack(pack, workload=workload, entry=OPTIMIZERS["adamw"], data=None, device=CPU)
    kept = [file for report in reports for part in report.members for file in part.kept]
    return {file.name: (folder / file.id).read_bytes() for file in kept if file.kind == "file"}


def test_files_and_log_of_a_loop_workload_are_kept_where_the_study_asks_for_it(tmp_path: Path) -> None:
    workload = Line()
    files = trained(workload, tmp_path, keeping=keeping(tmp_path))
    assert sorted(files) == ["log.jsonl", "runs/test.png", "runs/validation.png"]
    lines = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    assert {line["value"] for line in lines} == {0.5}
    with pytest.raises(RuntimeError):
        _ = workload.folder
    assert trained(Line(), tmp_path) == {}


def test_files_of_a_script_are_kept_at_its_end_and_at_a_rung(tmp_path: Path) -> None:
    files = trained(Script(), tmp_path, keeping=keeping(tmp_path))
    assert sorted(files) == ["events.1", "events.2", "log.jsonl"]
    at_rung = trained(
        Script(), tmp_path, keeping=keeping(tmp_path), to_epoch=1, checkpoints=str(tmp_path / "checkpoints")
    )
    assert sorted(at_rung) == ["events.1", "log.jsonl"]


def test_a_folder_is_removed_with_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrialFolder, "parent", tmp_path)
    assert TrialFolder().path.parent == tmp_path
    shutil.rmtree(next(tmp_path.glob("tangent-trial-*")))
    trained(Line(), tmp_path, keeping=None)
    trained(Script(), tmp_path, keeping=None)
    assert list(tmp_path.glob("tangent-trial-*")) == []


def test_links_and_devices_are_left_out_and_names_cannot_deceive(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = TrialFolder()
    (folder.path / "link").symlink_to(secret)
    (folder.path / "up").symlink_to(tmp_path)
    os.mkfifo(folder.path / "pipe")
    (folder.path / "a\nb\u202egnp.exe").write_text("x")
    kept = folder.keep(keeping(tmp_path / "kept"), from_epoch=3)
    assert [file.name for file in kept] == ["from-epoch-4/a\\nb\\u202egnp.exe"]
    assert kept[0].sha256 == hashlib.sha256(b"x").hexdigest()
    folder.remove()


def test_files_beyond_the_limit_are_named_but_not_kept(tmp_path: Path) -> None:
    folder = TrialFolder()
    for name, size in (("a", 600), ("b", 600), ("c", 400)):
        (folder.path / name).write_bytes(b"x" * size)
    kept = folder.keep(keeping(tmp_path, limit=1000), from_epoch=0)
    assert [(file.name, file.sha256 is not None) for file in kept] == [("a", True), ("b", False), ("c", True)]
    assert "max_files_mb" in str(kept[1].reason)
    (tmp_path / "file").touch()
    refused = folder.keep(keeping(tmp_path / "file"), from_epoch=0)
    assert [file.sha256 for file in refused] == [None, None, None]
    for number in range(300):
        (folder.path / f"many-{number:03}").touch()
    assert len(folder.keep(keeping(tmp_path), from_epoch=0)) == 200
    folder.remove()
