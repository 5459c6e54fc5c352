"""What a Ray worker answers with when a pack cannot be trained to its end, without Ray around it."""

from pathlib import Path
from typing import Any

from studies.space import Parameters
from workers.checkpoints import load
from workers.pack import EpochReport, Member, Pack
from workers.trainable import PackTrainable

__all__: list[str] = []

ADAMW: Parameters = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}


def config(pack: Pack) -> dict[str, Any]:
    return {"pack": pack.model_dump_json(), "cpus": 1, "gpus": 0}


def pack(folder: Path, *, checkpoints: tuple[str | None, ...] = (None, None), **fields: Any) -> Pack:
    members = tuple(
        Member(trial_id=f"s.adamw.{n}", attempt=1, parameters=ADAMW, seed=3, checkpoint=checkpoint) for n, checkpoint in enumerate(checkpoints)
    )
    given = {"pack_id": "p", "workload": "antipode-2d", "optimizer": "adamw", "members": members, "from_epoch": 0, "to_epoch": 1, "epochs": 3}
    return Pack.model_validate({**given, "batch_size": 1, "maximize": False, "width": 1, "checkpoints": str(folder), **fields})


def test_a_pack_that_ends_at_a_rung_says_where_it_left_its_members(tmp_path: Path) -> None:
    worker = PackTrainable(config(pack(tmp_path)))
    result = worker.step()
    assert result["done"]
    report = EpochReport.model_validate_json(result["report"])
    assert [member.outcome for member in report.members] == [None, None]
    assert all(member.checkpoint is not None and load(member.checkpoint) for member in report.members)


def test_a_worker_tells_which_members_have_lost_their_checkpoints_and_serves_on(tmp_path: Path) -> None:
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


def test_a_place_that_cannot_be_written_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, where a folder is wanted")
    result = PackTrainable(config(pack(tmp_path / "file" / "below"))).step()
    assert result["done"]
    assert "expected to leave a checkpoint at" in result["lost"]


def test_an_unknown_optimizer_fails_the_pack_with_the_reason(tmp_path: Path) -> None:
    result = PackTrainable(config(pack(tmp_path, optimizer="adamq"))).step()
    assert "has no optimizer 'adamq'" in result["failure"]
