"""The results of a Ray worker whose pack cannot be trained to its end, tested without Ray."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.space import Parameters
from workers import signs_of_life
from workers.checkpoints import load
from workers.pack_protocol import EpochReport, Member, Pack
from workers.trainable import PackTrainable
from workers.unfit_machines import HOLD_S
from workers.workload_errors import WorkloadFault

__all__: list[str] = []

ADAMW: Parameters = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}


def config(pack: Pack) -> dict[str, Any]:
    return {"pack": pack.model_dump_json(), "cpus": 1, "gpus": 0}


def pack(folder: Path, *, checkpoints: tuple[str | None, ...] = (None, None), **fields: Any) -> Pack:
    members = tuple(
        Member(trial_id=f"s.adamw.{n}", attempt=1, parameters=ADAMW, seed=3, checkpoint=checkpoint)
        for n, checkpoint in enumerate(checkpoints)
    )
    given = {
        "pack_id": "p",
        "workload": "antipode-2d",
        "optimizer": "adamw",
        "members": members,
        "from_epoch": 0,
        "to_epoch": 1,
        "epochs": 3,
    }
    return Pack.model_validate(
        {
            **given,
            "training": {"batch_size": 1},
            "maximize": False,
            "width": 1,
            "checkpoints": str(folder),
            **fields,
        }
    )


def test_a_pack_that_ends_at_a_rung_reports_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs_of_life, "_noted", signs_of_life._Noted(pack_id="p"))
    worker = PackTrainable(config(pack(tmp_path)))
    result = worker.step()
    assert result["done"]
    assert signs_of_life._noted == signs_of_life._Noted(), "it gives no more signs of life"
    report = EpochReport.model_validate_json(result["report"])
    assert [member.outcome for member in report.members] == [None, None]
    assert report.memory_bytes is not None
    assert report.memory_bytes > 50 * 2**20
    assert report.device_memory_bytes is None
    assert all(member.checkpoint is not None and load(member.checkpoint) for member in report.members)


def test_a_worker_reports_unusable_checkpoints_and_trains_the_next_pack(tmp_path: Path) -> None:
    worker = PackTrainable(config(pack(tmp_path)))
    left = [member.checkpoint for member in EpochReport.model_validate_json(worker.step()["report"]).members]
    assert left[1] is not None
    Path(left[1]).write_bytes(b"torn")
    worker.reset_config(config(pack(tmp_path, checkpoints=tuple(left), from_epoch=1, to_epoch=3)))
    result = worker.step()
    assert (result["done"], result["unusable"]) == (True, ["s.adamw.1"])
    assert left[1] in result["restart"]
    worker.reset_config(config(pack(tmp_path, checkpoints=(left[0],), from_epoch=1, to_epoch=3)))
    report = EpochReport.model_validate_json(worker.step()["report"])
    assert (report.epoch, len(report.members)) == (2, 1)


def test_a_machine_that_lacks_a_file_hands_the_pack_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    monkeypatch.setattr("workers.trainable.time.sleep", held.append)
    worker = PackTrainable(config(pack(tmp_path, not_on=(socket.gethostname(), "elsewhere"))))
    assert worker.step() == {"elsewhere": True, "done": True}
    assert held == [HOLD_S]
    worker.reset_config(config(pack(tmp_path, not_on=("elsewhere",))))
    assert "report" in worker.step()


def test_an_unwritable_checkpoint_folder_does_not_fail_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file in place of a folder")
    result = PackTrainable(config(pack(tmp_path / "file" / "below", epoch_timeout_s=5.0))).step()
    assert result["done"]
    assert "expected to save a checkpoint at" in result["lost"]


def test_a_checkpoint_folder_that_is_unwritable_for_a_moment_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file in place of a folder")
    worker = PackTrainable(config(pack(tmp_path / "file" / "below")))
    repair = threading.Timer(3.0, (tmp_path / "file").unlink)
    repair.start()
    result = worker.step()
    repair.join()
    report = EpochReport.model_validate_json(result["report"])
    assert all(member.checkpoint is not None and load(member.checkpoint) for member in report.members)


def test_an_unknown_optimizer_fails_the_pack_with_the_reason(tmp_path: Path) -> None:
    result = PackTrainable(config(pack(tmp_path, optimizer="adamq"))).step()
    fault = WorkloadFault(**json.loads(result["fault"]))
    assert "optimizer 'adamq'" in fault.reason
    assert fault.is_for_all


def test_a_worker_that_must_leave_ends_its_pack_after_the_current_epoch_with_checkpoints(
    tmp_path: Path,
) -> None:
    worker = PackTrainable(config(pack(tmp_path, to_epoch=3)))
    assert not worker.step()["done"]
    worker.leave()
    result = worker.step()
    assert (result["left"], result["done"]) == (True, True)
    report = EpochReport.model_validate_json(result["report"])
    assert report.epoch == 1
    assert all(member.checkpoint is not None and load(member.checkpoint) for member in report.members)


def test_a_worker_that_must_leave_before_its_first_epoch_trains_nothing(tmp_path: Path) -> None:
    worker = PackTrainable(config(pack(tmp_path, to_epoch=3)))
    worker.leave()
    assert worker.step() == {"left": True, "done": True}


def test_a_worker_leaves_even_if_checkpoints_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file in place of a folder")
    worker = PackTrainable(config(pack(tmp_path / "file" / "below", to_epoch=3)))
    worker.step()
    worker.leave()
    assert not worker.step()["done"], "the last report must be repeated without checkpoints"
    assert worker.step() == {"left": True, "done": True}


def test_an_out_of_memory_error_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = PackTrainable(config(pack(tmp_path)))

    def greedy(_self: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr("workers.workloads.toys.Antipode2d.build_model", greedy)
    result = worker.step()
    assert result["done"]
    assert "can't allocate" in result["exhausted"]


def test_an_epoch_that_takes_too_long_ends_the_process_with_a_traceback(tmp_path: Path) -> None:
    hanging = pack(tmp_path, workload="hanging-hard", training={"batch_size": 16}, epoch_timeout_s=1.0)
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "plugin")]!r}
from workers.trainable import PackTrainable
PackTrainable({config(hanging)!r}).step()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 1
    assert "Timeout (0:00:01)!" in ended.stderr
    assert "_hang_with_the_interpreter" in ended.stderr
