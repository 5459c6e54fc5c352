"""Checkpoints: what is saved comes back whole, and what is not whole is never taken for a state."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none
import pytest
import torch

# Fsspec ships none.
from fsspec.implementations.memory import MemoryFileSystem  # pyright: ignore[reportMissingTypeStubs]

from workers.checkpoints import CheckpointNotSaved, CheckpointUnusable, checkpoint_url, discard, load, save

__all__: list[str] = []


def state() -> dict[str, Any]:
    return {
        "model": {"w": torch.arange(3.0)},
        "optimizer": {(0, 1): {"step": 3}},
        "elapsed_s": 1.5,
        "objective": None,
    }


@pytest.mark.parametrize("scheme", ["", "file://", "memory:/"])
def test_what_is_saved_comes_back(tmp_path: Path, scheme: str) -> None:
    url = checkpoint_url(f"{scheme}{tmp_path}/study", trial_id="t", attempt=2, epoch=3)
    save(url, state())
    found = load(url)
    assert torch.equal(found.pop("model")["w"], torch.arange(3.0))
    assert found == {name: value for name, value in state().items() if name != "model"}
    discard(url.rpartition("/")[0])
    discard(url)
    with pytest.raises(CheckpointUnusable, match=r"expected a checkpoint at .*FileNotFoundError"):
        load(url)


def test_each_attempt_and_epoch_has_a_place_of_its_own() -> None:
    places = {
        checkpoint_url("/f/", trial_id=t, attempt=a, epoch=e) for t in "ab" for a in (1, 2) for e in (1, 3)
    }
    assert len(places) == 8
    assert all(place.startswith("/f/") and "//" not in place for place in places)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_torn_file_is_unusable_wherever_it_is_torn(tmp_path: Path, kept: int) -> None:
    url = str(tmp_path / "c.pt")
    save(url, state())
    path = Path(url)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointUnusable, match="train the trial from its start"):
        load(url)


def test_a_file_with_a_hole_is_unusable_though_its_length_is_right(tmp_path: Path) -> None:
    url = str(tmp_path / "c.pt")
    numbers = torch.arange(10_000.0)
    save(url, {**state(), "model": {"w": numbers}})
    content = bytearray(Path(url).read_bytes())
    hole = content.find(numbers[5000:5010].numpy().tobytes())
    content[hole : hole + 512] = bytes(512)
    Path(url).write_bytes(content)
    with pytest.raises(CheckpointUnusable, match="another checksum than was written"):
        load(url)


def test_a_state_that_could_not_be_loaded_again_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(
        TypeError,
        match=(
            r"expected the state .* to hold tensors, Python's numbers, .* got what "
            r"needs pathlib.PosixPath; convert it"
        ),
    ):
        save(str(tmp_path / "c.pt"), {**state(), "optimizer": {"where": Path("x")}})
    assert list(tmp_path.iterdir()) == []


class ForgetfulStore(MemoryFileSystem):
    """A store whose client has exceptions of its own, as those of object stores have."""

    protocol = "forgetful"

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise LookupError("no credentials")


def test_whatever_a_stores_client_raises_means_that_nothing_was_saved() -> None:
    fsspec.register_implementation("forgetful", ForgetfulStore, clobber=True)
    with pytest.raises(CheckpointNotSaved, match="got LookupError: no credentials"):
        save("forgetful://bucket/c.pt", state())


def test_a_file_of_something_else_is_unusable_and_is_not_run(tmp_path: Path) -> None:
    foreign, pickled = tmp_path / "foreign.pt", tmp_path / "pickled.pt"
    torch.save({"weights": torch.ones(2)}, foreign)
    torch.save({"format": "tangent member 1", "path": Path("x")}, pickled)
    for path in (foreign, pickled):
        with pytest.raises(CheckpointUnusable):
            load(str(path))


def test_a_place_that_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(CheckpointNotSaved, match="make the place writable"):
        save(f"{tmp_path}/taken/c.pt", state())
    (tmp_path / "c.pt").mkdir()
    with pytest.raises(CheckpointNotSaved):
        save(f"{tmp_path}/c.pt", state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pt", "taken"]
    with pytest.raises(CheckpointNotSaved, match="nosuch"):
        save("nosuch://bucket/c.pt", state())


def test_saving_again_replaces_the_state_whole(tmp_path: Path) -> None:
    url = f"{tmp_path}/c.pt"
    save(url, state())
    save(url, {**state(), "elapsed_s": 2.5})
    assert load(url)["elapsed_s"] == 2.5
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_naming_and_discarding_need_no_torch() -> None:
    code = (
        "import sys, workers.checkpoints as c; c.discard('/nonexistent/x'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
