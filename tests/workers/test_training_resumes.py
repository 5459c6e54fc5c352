"""Packs that stop at a rung or on request resume as if they had not stopped."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packs import (
    CPU,
    OPTIMIZERS,
    WORKLOADS,
    data_of,
    member,
    outcome_of,
    pack_of,
    rungs,
    shortened,
    story,
    train,
)

from studies.space import Parameters
from workers.checkpoints import CheckpointUnusable
from workers.pack_protocol import EpochReport, Pack
from workers.results import EpochResult
from workers.training import OneByOneEngine, train_pack
from workers.workloads import TensorWorkload
from workers.workloads.float64 import in_float64

__all__: list[str] = []

pytestmark = pytest.mark.usefixtures("one_thread")

MLP, CNN = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"]


def lively(optimizer: str) -> Parameters:
    livelier: Parameters = {"weight_decay": 0.01, "momentum": 0.9, "lr": 0.01, "warmup_steps": 7}
    return {name: value for name, value in livelier.items() if name in OPTIMIZERS[optimizer].card.defaults}


def test_a_pack_that_ends_at_a_rung_reports_its_checkpoints(tmp_path: Path) -> None:
    wild = member("sgd", "wild", lr=1e8)
    pack = pack_of(MLP, "sgd", member("sgd", "a"), wild, epochs=3, to_epoch=2, checkpoints=str(tmp_path))
    first, second = train(pack)
    assert [part.checkpoint for part in first.members] == [None, None]
    [part] = second.members
    assert part.outcome is None
    assert part.checkpoint == str(tmp_path / "a-attempt1-epoch2.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a-attempt1-epoch2.pt"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trial_that_stops_at_rungs_is_bitwise_equal_to_one_that_never_stops(
    optimizer: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "epochs": 4,
        "schedule": "warmup-cosine",
        "decay_1d": False,
        "objective_at": "best",
    }
    pack = pack_of(CNN, optimizer, member(optimizer, given=lively(optimizer)), **settings)
    data = shortened(data_of(CNN), 330, 360)
    assert story(rungs(pack, tmp_path, 1, 3, data=data)) == story(train(pack, data=data))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_in_float64_stopping_changes_no_bit(optimizer: str, tmp_path: Path) -> None:
    pack = pack_of(CNN, optimizer, member(optimizer, given=lively(optimizer)), epochs=2)
    workload, data = in_float64(CNN, shortened(data_of(CNN), 160, 40))
    assert story(rungs(pack, tmp_path, 1, workload=workload, data=data)) == story(train(pack, workload, data))


@pytest.mark.parametrize("width", [1, 2])
def test_checkpoints_between_rungs_change_nothing_and_a_pack_resumes_from_them_bitwise(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [member("adamp", "a"), member("adamp", "b", lr=0.003)]
    whole = train(pack_of(MLP, "adamp", *members, epochs=3, width=width))
    monkeypatch.setattr("workers.training._CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr("workers.training._CHECKPOINT_SHARE", 0)
    pack = pack_of(MLP, "adamp", *members, epochs=3, width=width, checkpoints=str(tmp_path))
    left = train(pack)
    assert [[part.checkpoint is not None for part in report.members] for report in left] == [
        [True, True],
        [True, True],
        [False, False],
    ]
    assert [story(left, each) for each in "ab"] == [story(whole, each) for each in "ab"]
    again = tuple(
        m.model_copy(update={"checkpoint": part.checkpoint})
        for m, part in zip(members, left[1].members, strict=True)
    )
    rest = train(Pack.model_validate({**pack.model_dump(), "members": again, "from_epoch": 2}))
    assert [story(rest, each) for each in "ab"] == [story(whole, each)[2:] for each in "ab"]


def test_checkpoints_are_saved_rarely_and_never_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.training._CHECKPOINT_EVERY_S", 600.0)
    train(pack_of(MLP, "sgd", member("sgd", "a"), epochs=3, checkpoints=str(tmp_path)))
    assert not list(tmp_path.iterdir()), "the first checkpoint is due after three epochs"
    monkeypatch.setattr("workers.training._CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr("workers.training._CHECKPOINT_SHARE", 0)
    assert all(
        part.checkpoint is None
        for report in train(pack_of(MLP, "sgd", member("sgd", "a"), epochs=3))
        for part in report.members
    )


def test_checkpoints_take_at_most_a_tenth_of_the_time_however_slow_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, saved_at = [0.0], list[int]()
    monkeypatch.setattr("workers.training.time", SimpleNamespace(monotonic=lambda: seconds[0], sleep=None))
    train_epoch = OneByOneEngine.train_epoch

    def epoch_of_two_seconds(engine: OneByOneEngine, epoch: int, **alive: Any) -> list[EpochResult]:
        seconds[0] += 2
        return train_epoch(engine, epoch, **alive)

    def save_in_six_seconds(_: str, state: Mapping[str, Any]) -> None:
        seconds[0] += 6
        saved_at.append(state["epoch"])

    monkeypatch.setattr(OneByOneEngine, "train_epoch", epoch_of_two_seconds)
    monkeypatch.setattr("workers.checkpoints.save", save_in_six_seconds)
    data = shortened(data_of(MLP), 32, 10)
    train(pack_of(MLP, "sgd", member("sgd", "a"), epochs=70, checkpoints=str(tmp_path)), data=data)
    # After the first, 60 s must pass: the next epoch of two seconds that ends later.
    assert saved_at == [1, 32, 63]


def test_training_continues_if_a_checkpoint_between_rungs_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.training._CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr("workers.training._CHECKPOINT_SHARE", 0)
    (tmp_path / "file").write_text("a file in place of a folder")
    reports = train(
        pack_of(MLP, "sgd", member("sgd", "a"), epochs=3, checkpoints=str(tmp_path / "file" / "below"))
    )
    assert outcome_of(reports, "a").state == "completed"


def leave_after_two(folder: Path) -> list[EpochReport]:
    """Return the reports of two members, one of which diverges, that must leave after two epochs of five."""
    pack = pack_of(
        MLP, "sgd", member("sgd", "a"), member("sgd", "wild", lr=1e18), epochs=5, checkpoints=str(folder)
    )
    must_leave, reports = [False], list[EpochReport]()
    for report in train_pack(
        pack,
        workload=MLP,
        entry=OPTIMIZERS["sgd"],
        data=data_of(MLP),
        device=CPU,
        is_leaving=lambda: must_leave[0],
    ):
        reports.append(report)
        must_leave[0] = report.epoch == 2
    return reports


def test_a_pack_that_must_leave_between_epochs_repeats_its_last_report_with_checkpoints(
    tmp_path: Path,
) -> None:
    reports = leave_after_two(tmp_path)
    assert [report.epoch for report in reports] == [1, 2, 2]
    assert [part.trial_id for part in reports[-1].members] == ["a"], "a diverged member needs no checkpoint"
    assert reports[-1].members[0].checkpoint == str(tmp_path / "a-attempt1-epoch2.pt")
    assert reports[-1].members[0].measurement == reports[-2].members[0].measurement


def test_a_pack_that_must_leave_just_after_saving_checkpoints_reports_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.training._CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr("workers.training._CHECKPOINT_SHARE", 0)
    reports = leave_after_two(tmp_path)
    assert [report.epoch for report in reports] == [1, 2]
    assert [part.checkpoint for part in reports[-1].members if part.trial_id == "a"] == [
        str(tmp_path / "a-attempt1-epoch2.pt")
    ]


def test_a_pack_that_must_leave_before_it_starts_reports_nothing(tmp_path: Path) -> None:
    pack = pack_of(MLP, "sgd", member("sgd", "a"), epochs=5, checkpoints=str(tmp_path))
    assert not list(
        train_pack(
            pack,
            workload=MLP,
            entry=OPTIMIZERS["sgd"],
            data=data_of(MLP),
            device=CPU,
            is_leaving=lambda: True,
        )
    )


def test_the_seconds_and_the_objective_continue_after_a_rung(tmp_path: Path) -> None:
    # Warm-up to a learning rate that is far too high: the best epoch is before the rung.
    settings: dict[str, Any] = {
        "epochs": 6,
        "schedule": "warmup-cosine",
        "warmup_fraction": 0.9,
        "objective_at": "best",
    }
    pack = pack_of(MLP, "sgd", member("sgd", lr=2.0), **settings)
    reports = rungs(pack, tmp_path, 4)
    outcome = outcome_of(reports)
    assert outcome == outcome_of(train(pack))
    assert (outcome.best_epoch or 9) <= 4
    seconds = [part.measurement.elapsed_s for report in reports for part in report.members]
    assert seconds == sorted(seconds)


def test_a_checkpoint_of_another_member_is_unusable(tmp_path: Path) -> None:
    train(pack_of(MLP, "sgd", member("sgd", "a"), epochs=3, to_epoch=1, checkpoints=str(tmp_path)))
    url = str(tmp_path / "a-attempt1-epoch1.pt")

    def resumed(workload: TensorWorkload, trial_id: str, from_epoch: int) -> Pack:
        one = member("sgd", trial_id).model_copy(update={"checkpoint": url})
        return pack_of(workload, "sgd", one, epochs=3, from_epoch=from_epoch)

    for pack, message in (
        (
            resumed(MLP, "b", 1),
            "expected the state of trial b after epoch 1 at .*, got that of a after epoch 1",
        ),
        (resumed(MLP, "a", 2), "trial a after epoch 2 at .*, got that of a after epoch 1"),
        (resumed(CNN, "a", 1), "got one that does not fit"),
    ):
        with pytest.raises(CheckpointUnusable, match=message):
            train(pack)
