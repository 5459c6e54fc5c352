"""Checkpoints: a member's state at a rung, as a torch file under any URL that fsspec knows.

That may be a folder, a shared volume or a bucket.

torch is imported only where a state is written or read: the process that runs a study names and discards
checkpoints without it.
"""

__all__ = ["CheckpointNotSaved", "CheckpointUnusable", "checkpoint_url", "discard", "load", "save"]

import io
import os
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none

# Fsspec ships none.
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

_FORMAT = "tangent member 1"
"""What every checkpoint says of itself; another number is another layout."""


class CheckpointUnusable(Exception):
    """A checkpoint is missing, torn, or not that of this member.

    Its trial starts again from the first epoch.
    """


class CheckpointNotSaved(Exception):
    """A checkpoint could not be written.

    The disk is full, or the place cannot be reached or may not be written to.
    """


def checkpoint_url(folder: str, *, trial_id: str, attempt: int, epoch: int) -> str:
    """Return where a trial's state after an epoch lies in a folder.

    A name of its own for each attempt, so that none overwrites another's.
    """
    return f"{folder.rstrip('/')}/{trial_id}-attempt{attempt}-epoch{epoch}.pt"


def save(url: str, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, strings and containers of them, whole or not at all.

    Missing folders are made.

    On a local disk it is written under a temporary name and renamed, elsewhere in one upload, which is whole
    by itself.

    Raises:
        CheckpointNotSaved: the place cannot be written.
        TypeError: the state holds something else, which `load` would refuse: its trial would begin again for
            ever.
    """
    import torch

    file = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, file)
    file.seek(0)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if foreign:
        raise TypeError(
            "expected the state of a model and an optimizer to hold tensors, Python's numbers, strings "
            f"and containers of them, got what needs {', '.join(foreign)}; convert it in state_dict"
        )
    try:
        filesystem, path = _place(url)
        if isinstance(filesystem, LocalFileSystem):
            _write(Path(path), file.getbuffer())
        else:
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(path, file.getvalue())
    # Each store's client has exceptions of its own, not all of them kinds of OSError.
    except Exception as error:
        raise CheckpointNotSaved(
            f"expected to leave a checkpoint at {url}, got {type(error).__name__}: {error}; make "
            "the place writable, or set another"
        ) from error


def load(url: str) -> dict[str, Any]:
    """Return the state that was saved at a URL, its tensors on the CPU; nothing in the file is run.

    Raises:
        CheckpointUnusable: it is missing, cannot be read, is torn, or was not written by `save`.
    """
    import torch

    try:
        filesystem, path = _place(url)
        content = cast("bytes", filesystem.cat_file(path))
        _check_whole(content)
        found: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # torch raises whatever the torn place leads to: RuntimeError, EOFError, UnpicklingError, KeyError, ...
    except Exception as error:
        raise CheckpointUnusable(
            f"expected a checkpoint at {url}, got {type(error).__name__}: "
            f"{error}; train the trial from its start"
        ) from error
    if not isinstance(found, dict) or cast("dict[str, Any]", found).get("format") != _FORMAT:
        raise CheckpointUnusable(
            f"expected a checkpoint of this version at {url}, got a torch file of another "
            "kind; train the trial from its start"
        )
    state = cast("dict[str, Any]", found)
    del state["format"]
    return state


def discard(url: str) -> None:
    """Remove a checkpoint, or a folder and everything in it; return quietly when there is none.

    Raises:
        OSError: it is there and cannot be removed.
    """
    filesystem, path = _place(url)
    try:
        filesystem.rm(path, recursive=True)
    except FileNotFoundError:
        return


def _place(url: str) -> tuple[Any, str]:
    # Fsspec has no stubs.
    return cast("tuple[Any, str]", fsspec.url_to_fs(url))  # pyright: ignore[reportUnknownMemberType]


def _check_whole(content: bytes) -> None:
    # torch reads past a wrong checksum, and a machine that lost power may have left a file of the right
    # length with holes in it.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        hole = archive.testzip()
    if hole is not None:
        raise ValueError(f"{hole} has another checksum than was written")


def _write(path: Path, content: memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
