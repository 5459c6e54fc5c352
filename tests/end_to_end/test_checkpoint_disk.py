"""A disk for checkpoints that fills up or turns read-only while a study is running."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, so it needs root"),
]

Fault = Callable[[Path], None]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small file system with the checkpoints."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
    monkeypatch.setenv("TANGENT_CHECKPOINTS", str(disk / "checkpoints"))
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def own(tmp_path: Path, disk: Path) -> Iterator[DispatcherProcess]:
    """A dispatcher whose checkpoints are on the disk."""
    assert disk.exists()
    with dispatcher_process(tmp_path / "home") as running:
        yield running


def fill(disk: Path) -> None:
    """Fill the disk to its last byte."""
    with (disk / "other").open("wb", buffering=0) as file:
        for size in (2**16, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def empty(disk: Path) -> None:
    (disk / "other").unlink()


def remount(mode: str) -> Fault:
    return lambda disk: subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True) and None


FAULTS = {"full": (fill, empty), "read-only": (remount("ro"), remount("rw"))}
ASHA = {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_for_seconds_costs_no_retry_and_one_that_fails_for_good_only_studies_with_rungs(
    own: DispatcherProcess, disk: Path, fault: str
) -> None:
    begin, end = FAULTS[fault]
    study_id = own.submit("slow-plane", trials=4, epochs=8, pruner=ASHA)
    own.epochs(study_id, 1)
    begin(disk)
    time.sleep(4.0)
    end(disk)
    assert own.closed(study_id).state is StudyState.COMPLETED
    assert [trial.retries for trial in own.store.every_trial(study_id)] == [0] * 4

    begin(disk)
    without = own.submit("slow-plane", trials=2, epochs=8)
    assert own.closed(without).state is StudyState.COMPLETED
    resources = {"epoch_timeout_s": 4}
    study = own.closed(
        own.submit("slow-plane", trials=2, epochs=8, pruner=ASHA, max_retries=1, resources=resources)
    )
    assert study.state is StudyState.FAILED
    assert "expected to save a checkpoint at" in str(study.state_reason)
    end(disk)
