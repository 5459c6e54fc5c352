"""Checkpoints: saved states load unchanged, and damaged or foreign files are rejected."""

import errno
import io
import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none
import pytest
import torch

# Fsspec has no type stubs.
from fsspec import AbstractFileSystem  # pyright: ignore[reportMissingTypeStubs]
from fsspec.implementations.memory import MemoryFileSystem  # pyright: ignore[reportMissingTypeStubs]

from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, checkpoint_url, load, save
from workers.storage import discard

__all__: list[str] = []

MEBIBYTE = 2**20


def state() -> dict[str, Any]:
    return {
        "model": {"w": torch.arange(3.0)},
        "optimizer": {(0, 1): {"step": 3}},
        "elapsed_s": 1.5,
        "objective": None,
    }


@pytest.mark.parametrize("scheme", ["", "file://", "memory:/"])
def test_a_saved_state_can_be_loaded(tmp_path: Path, scheme: str) -> None:
    url = checkpoint_url(f"{scheme}{tmp_path}/study", trial_id="t", attempt=2, epoch=3)
    save(url, state())
    found = load(url)
    assert torch.equal(found.pop("model")["w"], torch.arange(3.0))
    assert found == {name: value for name, value in state().items() if name != "model"}
    discard(url.rpartition("/")[0])
    discard(url)
    with pytest.raises(CheckpointUnusable, match=r"expected a checkpoint at .*FileNotFoundError"):
        load(url)


def test_each_attempt_and_epoch_has_its_own_file() -> None:
    places = {
        checkpoint_url("/f/", trial_id=t, attempt=a, epoch=e) for t in "ab" for a in (1, 2) for e in (1, 3)
    }
    assert len(places) == 8
    assert all(place.startswith("/f/") and "//" not in place for place in places)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_file_is_unusable_wherever_it_ends(tmp_path: Path, kept: int) -> None:
    url = str(tmp_path / "c.pt")
    save(url, state())
    path = Path(url)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointUnusable, match="train the trial from its start"):
        load(url)


def test_a_file_of_the_right_length_with_a_hole_is_unusable(tmp_path: Path) -> None:
    url = str(tmp_path / "c.pt")
    numbers = torch.arange(10_000.0)
    save(url, {**state(), "model": {"w": numbers}})
    content = bytearray(Path(url).read_bytes())
    hole = content.find(numbers[5000:5010].numpy().tobytes())
    content[hole : hole + 512] = bytes(512)
    Path(url).write_bytes(content)
    with pytest.raises(CheckpointUnusable, match="checksum"):
        load(url)


def test_a_state_that_could_not_be_loaded_is_rejected_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"pathlib\.PosixPath"):
        save(str(tmp_path / "c.pt"), {**state(), "optimizer": {"where": Path("x")}})
    assert list(tmp_path.iterdir()) == []


class LockedBucket(MemoryFileSystem):
    """A store whose client raises its own exceptions, as clients of object stores do."""

    protocol = "locked"

    def put_file(self, *_: Any, **__: Any) -> None:
        raise LookupError("no credentials")


def test_any_exception_of_a_stores_client_means_not_saved() -> None:
    fsspec.register_implementation("locked", LockedBucket, clobber=True)
    with pytest.raises(CheckpointNotSaved, match="LookupError: no credentials"):
        save("locked://bucket/c.pt", state())


class ListedBucket(MemoryFileSystem):
    """A store that notes the files in the temporary folder during each transfer."""

    protocol = "listed"
    temporary: Path
    found: list[Path]

    def put_file(self, *arguments: Any, **options: Any) -> None:
        self.found.extend(self.temporary.iterdir())
        super().put_file(*arguments, **options)

    def get_file(self, *arguments: Any, **options: Any) -> None:
        self.found.extend(self.temporary.iterdir())
        super().get_file(*arguments, **options)


def test_a_worker_that_is_killed_during_a_transfer_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ListedBucket.temporary, ListedBucket.found = tmp_path, []
    fsspec.register_implementation("listed", ListedBucket, clobber=True)
    save("listed://bucket/c.pt", state())
    assert load("listed://bucket/c.pt").keys() == state().keys()
    assert ListedBucket.found == []


class Bucket(AbstractFileSystem):
    """A remote store that keeps its objects on disk and records the largest chunk that it received."""

    protocol = "bucket"
    cachable = False
    largest = 0

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        Path(path).mkdir(parents=True, exist_ok=exist_ok)

    def isdir(self, path: str) -> bool:
        return Path(path).is_dir()

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        return Counted(path, mode.removesuffix("b"))


class Counted(io.FileIO):
    def write(self, data: Any) -> int:
        Bucket.largest = max(Bucket.largest, len(data))
        return super().write(data)


@pytest.mark.parametrize("scheme", ["", "bucket://"])
def test_saving_and_loading_take_no_memory_beyond_the_state(tmp_path: Path, scheme: str) -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    size, url = 64 * MEBIBYTE, f"{scheme}{tmp_path}/study/c.pt"
    # The first call imports modules.
    save(url, state())
    # tracemalloc does not see the memory of tensors, so this counts only Python's copies.
    large = {**state(), "model": {"w": torch.ones(size // 4)}}
    tracemalloc.start()
    try:
        save(url, large)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        found = load(url)
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert torch.equal(found["model"]["w"], large["model"]["w"])
    assert max(saving, loading) < 16 * MEBIBYTE
    assert Bucket.largest < 16 * MEBIBYTE


@pytest.mark.slow
def test_a_trial_of_a_gigabyte_saves_and_resumes_without_a_second_copy_of_its_state() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "checkpoint_memory.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--megabytes", "1024"], check=True, stdout=subprocess.PIPE, timeout=600
    )
    found = json.loads(ran.stdout)
    assert found["state_bytes"] > 1000 * MEBIBYTE
    assert found["saving_takes"] < 0.1
    assert found["resuming_takes"] < 1.15


def test_a_tensor_is_saved_without_the_rest_of_its_memory_and_shared_memory_once(tmp_path: Path) -> None:
    block, flat = torch.rand(100_000), torch.rand(100_000)
    part, halves = block[:5], {"first": flat[:60_000], "second": flat[60_000:]}
    tied, bits = torch.rand(50_000), flat.view(torch.int32)
    saved = {"part": part, "halves": halves, "tied": [tied, tied], "bits": bits[:2], "none": torch.empty(0)}
    url = tmp_path / "c.pt"
    save(str(url), saved)
    assert url.stat().st_size < 4 * 150_000 + 10_000
    found = load(str(url))
    assert torch.equal(found["part"], part)
    assert torch.equal(found["halves"]["second"], halves["second"])
    assert all(torch.equal(each, tied) for each in found["tied"])
    assert torch.equal(found["bits"], bits[:2])


def test_a_loaded_state_outlives_its_file_which_changing_it_leaves_as_it_was(tmp_path: Path) -> None:
    url = str(tmp_path / "c.pt")
    save(url, state())
    found = load(url)
    found["model"]["w"].fill_(7.0)
    assert torch.equal(load(url)["model"]["w"], torch.arange(3.0))
    discard(url)
    assert found["model"]["w"].tolist() == [7.0, 7.0, 7.0]


class FullDisk(io.BytesIO):
    """A file that accepts some bytes and then fails, as on a full disk."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_means_not_saved_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        opened(path, mode, **options).close()
        return FullDisk()

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointNotSaved, match="No space left on device"):
        save(str(tmp_path / "c.pt"), {**state(), "model": {"w": torch.ones(10_000)}})
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_torch_file_is_unusable_and_runs_no_code(tmp_path: Path) -> None:
    foreign, pickled = tmp_path / "foreign.pt", tmp_path / "pickled.pt"
    torch.save({"weights": torch.ones(2)}, foreign)
    torch.save({"format": "tangent member 1", "path": Path("x")}, pickled)
    for path in (foreign, pickled):
        with pytest.raises(CheckpointUnusable):
            load(str(path))


def test_a_failed_save_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(CheckpointNotSaved, match="make the place writable"):
        save(f"{tmp_path}/taken/c.pt", state())
    (tmp_path / "c.pt").mkdir()
    with pytest.raises(CheckpointNotSaved):
        save(f"{tmp_path}/c.pt", state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pt", "taken"]
    with pytest.raises(CheckpointNotSaved, match="nosuch"):
        save("nosuch://bucket/c.pt", state())


def test_saving_again_replaces_the_whole_state(tmp_path: Path) -> None:
    url = f"{tmp_path}/c.pt"
    save(url, state())
    save(url, {**state(), "elapsed_s": 2.5})
    assert load(url)["elapsed_s"] == 2.5
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_naming_and_deleting_checkpoints_does_not_import_torch() -> None:
    code = (
        "import sys, workers.checkpoints, workers.storage as s; s.discard('/nonexistent/x'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["a::b", "a%2Fb?c#d", "[a]*", "~", "比較 🚀"])
def test_every_character_of_a_folders_name_is_literal(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    url = checkpoint_url(str(folder), trial_id="t", attempt=1, epoch=2)
    save(url, {"epoch": 2})
    assert [file.name for file in folder.iterdir()] == ["t-attempt1-epoch2.pt"]
    assert load(url) == {"epoch": 2}
    discard(str(folder))
    assert list(tmp_path.iterdir()) == []
