"""Checkpoints: one trial's state after an epoch, as a torch file at any URL that fsspec supports.

The URL may lead to a folder, a shared volume or a bucket. A state is streamed through a file, so saving or
loading it takes no memory beyond the state itself. A remote place needs room for one checkpoint in the
temporary folder. torch is imported only to read or write a state: the process that runs a study names and
deletes checkpoints without it.
"""

__all__ = [
    "CheckpointNotSaved",
    "CheckpointUnusable",
    "checkpoint_url",
    "discard",
    "load",
    "save",
    "storage_of",
]

import os
import tempfile
import uuid
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none

# Fsspec ships none.
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

from studies.private_files import create_private_folder

_FORMAT = "tangent member 1"
"""The format that every checkpoint names; it changes with the layout."""


class CheckpointUnusable(Exception):
    """A checkpoint is missing, damaged or not of this trial; the trial starts over."""


class CheckpointNotSaved(Exception):
    """A checkpoint could not be written: the disk is full, or the place cannot be reached or written to."""


def checkpoint_url(folder: str, *, trial_id: str, attempt: int, epoch: int) -> str:
    """Return where a trial's state after an epoch is saved in a folder.

    Each attempt has names of its own, so that none overwrites another's.
    """
    return f"{folder.rstrip('/')}/{trial_id}-attempt{attempt}-epoch{epoch}.pt"


def save(url: str, state: Mapping[str, Any]) -> None:
    """Save a state completely or not at all, creating missing folders.

    On a local disk it is written under a temporary name and renamed. Elsewhere it is written to a temporary
    file and sent in one upload, which only takes effect as a whole.

    Args:
        url: where to save it.
        state: tensors, numbers, strings, and containers of them.

    Raises:
        CheckpointNotSaved: the place cannot be written.
        TypeError: the state holds anything else. `load` would reject it, and its trial would restart for
        ever.
    """
    try:
        filesystem, path = storage_of(url)
        if isinstance(filesystem, LocalFileSystem):
            target = Path(path)
            create_private_folder(target.parent)
            part = target.with_name(f"{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
            with _removed_at_the_end(part):
                part.touch(mode=0o600)
                _write(part, state)
                part.replace(target)
        else:
            with _temporary_file() as part:
                _write(part, state)
                filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                filesystem.put_file(str(part), path)
    except _StateRejected as error:
        raise error.cause from None
    # Each storage client has exceptions of its own, and not all of them are OSErrors.
    except Exception as error:
        raise CheckpointNotSaved(
            f"expected to save a checkpoint at {url}, got {type(error).__name__}: {error}; make the place "
            "writable, or set another"
        ) from error


def load(url: str) -> dict[str, Any]:
    """Return the state saved at a URL, its tensors on the CPU; this runs no code from the file.

    Raises:
        CheckpointUnusable: it is missing, cannot be read, is damaged, or was not written by `save`.
    """
    import torch

    try:
        with _local_copy(url) as path:
            _check_checksums(path)
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    # For a damaged file torch may raise anything: RuntimeError, EOFError, UnpicklingError, KeyError, ...
    except Exception as error:
        raise CheckpointUnusable(
            f"expected a checkpoint at {url}, got {type(error).__name__}: {error}; train the trial from its "
            "start"
        ) from error
    if not isinstance(found, dict) or cast("dict[str, Any]", found).get("format") != _FORMAT:
        raise CheckpointUnusable(
            f"expected a checkpoint of this version at {url}, got another kind of torch file; train the "
            "trial from its start"
        )
    state = cast("dict[str, Any]", found)
    del state["format"]
    return state


def discard(url: str) -> None:
    """Delete a checkpoint, or a folder with everything in it, if it exists.

    Raises:
        OSError: it exists and cannot be deleted.
    """
    filesystem, path = storage_of(url)
    try:
        filesystem.rm(path, recursive=True)
    except FileNotFoundError:
        return


class _StateRejected(Exception):
    """A state cannot be saved, wherever that would be; `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Writer:
    """Passes on what torch writes until the file fails, and keeps that error.

    torch calls it from C++ code that does not survive an exception.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""


def _write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state to a local file.

    Raises:
        _StateRejected: the state cannot be saved.
        OSError: the file cannot be written.
    """
    import torch

    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save({"format": _FORMAT, **state}, cast("IO[bytes]", writer))
        except Exception as error:
            raise _StateRejected(error) from error
        if writer.error is not None:
            raise writer.error
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if foreign:
        raise _StateRejected(
            TypeError(
                "expected the state of a model and an optimizer to hold tensors, Python's numbers, strings "
                f"and containers of them, got one that needs {', '.join(foreign)}; convert it in state_dict"
            )
        )


def storage_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or absolute path, and the path in it."""
    # fsspec gives `::` in a path a meaning of its own.
    if url.startswith("/"):
        return LocalFileSystem(), url
    # Fsspec has no stubs.
    return cast("tuple[Any, str]", fsspec.url_to_fs(url))  # pyright: ignore[reportUnknownMemberType]


@contextmanager
def _local_copy(url: str) -> Generator[Path]:
    """Yield a local file with what is at a URL: the file itself, or a temporary copy."""
    filesystem, path = storage_of(url)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(path)
        return
    with _temporary_file() as copy:
        filesystem.get_file(path, str(copy))
        yield copy


@contextmanager
def _temporary_file() -> Generator[Path]:
    # It has no name in the temporary folder, so a worker that is killed during a transfer leaves no file.
    with tempfile.TemporaryFile(prefix="tangent-") as file:
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


@contextmanager
def _removed_at_the_end(path: Path) -> Generator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _check_checksums(path: Path) -> None:
    # torch ignores a wrong checksum, and a machine that loses power may leave a file of the right length with
    # holes in it.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} does not match its checksum")
