"""Checkpoints: one trial's state after an epoch, as a torch file at any URL that fsspec supports.

The URL may lead to a folder, a shared volume or a bucket. A state is streamed through a file, tensor by
tensor, so saving it takes no memory beyond the state itself. A loaded state is a file mapped into memory,
which the system reads when it is needed and drops when memory is scarce. A remote place needs room for one
checkpoint in the temporary folder. torch is imported only to read or write a state: the process that runs a
study names and deletes checkpoints without it.
"""

__all__ = [
    "CheckpointNotSaved",
    "CheckpointUnusable",
    "StateRejected",
    "checkpoint_url",
    "load",
    "not_saved",
    "save",
    "write_state",
]

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from workers.storage import Digest, FileWriter, local_copy, written

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

    Args:
        url: where to save it.
        state: tensors, numbers, strings, and containers of them.

    Raises:
        CheckpointNotSaved: the place cannot be written.
        TypeError: the state holds anything else. `load` would reject it, and its trial would restart for
        ever.
    """
    try:
        with written(url) as part:
            write_state(part, {"format": _FORMAT, **state})
    except StateRejected as error:
        raise error.cause from None
    # Each storage client has exceptions of its own, and not all of them are OSErrors.
    except Exception as error:
        raise CheckpointNotSaved(
            f"expected to save a checkpoint at {url}, got {type(error).__name__}: {error}; make the place "
            "writable, or set another"
        ) from error


def not_saved(url: str, state: Mapping[str, Any]) -> CheckpointNotSaved | None:
    """Save a state, and return the error if it could not be saved, which can be sent to other processes."""
    try:
        save(url, state)
    except CheckpointNotSaved as error:
        return error
    return None


def load(url: str) -> dict[str, Any]:
    """Return the state saved at a URL, its tensors on the CPU; this runs no code from the file.

    The tensors are the file's own bytes, mapped into memory. Copy what is kept: the file may be deleted once
    the trial has another checkpoint, and on a network's file system it cannot be read then. Changing a tensor
    does not change the file.

    Raises:
        CheckpointUnusable: it is missing, cannot be read, is damaged, or was not written by `save`.
    """
    import torch

    try:
        with local_copy(url) as path:
            _check_checksums(path)
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
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


class StateRejected(Exception):
    """A state cannot be saved, wherever that would be; `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def write_state(path: Path, state: Mapping[str, Any], *, digest: Digest | None = None) -> int:
    """Write a state to a local file, and return its size in bytes.

    Args:
        path: the file.
        state: tensors, numbers, strings, and containers of them.
        digest: brought up to date with what is written.

    Raises:
        StateRejected: the state cannot be saved.
        OSError: the file cannot be written.
    """
    import torch

    from workers.tensor_states import saved_as_on_cpu, without_foreign_memory

    with path.open("wb") as file:
        writer = FileWriter(file, digest)
        try:
            with saved_as_on_cpu():
                torch.save(without_foreign_memory(dict(state)), cast("IO[bytes]", writer))
        except Exception as error:
            raise StateRejected(error) from error
        if writer.error is not None:
            raise writer.error
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if foreign:
        raise StateRejected(
            TypeError(
                "expected the state of a model and an optimizer to hold tensors, Python's numbers, strings "
                f"and containers of them, got one that needs {', '.join(foreign)}; convert it in state_dict"
            )
        )
    return writer.size


def _check_checksums(path: Path) -> None:
    # torch ignores a wrong checksum, and a machine that loses power may leave a file of the right length with
    # holes in it.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} does not match its checksum")
