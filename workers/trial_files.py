"""A trial's own folder on the worker, and the files in it that its study keeps."""

__all__ = ["TrialFolder"]

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

from studies.control_characters import escape_controls
from workers.pack_protocol import Keeping, KeptFile
from workers.storage import written

_MAX_FILES: Final = 200
_MAX_NAME: Final = 255
_LOG: Final = "log.jsonl"
# What an integration passes to its program or library, and what checkpoints hold anyway; not the user's.
_PASSED: Final = ("trial.json", "state.pt", "restored", "lightning.ckpt", "transformers/checkpoint-*/*")
_READ_BYTES: Final = 1 << 20


class TrialFolder:
    """A local folder, made on first use and removed by `remove`.

    Args:
        path: the folder, if another process has made it; that process removes it.

    Attributes:
        parent: where this process makes its trials' folders; None: with other temporary files. A worker that
            is killed leaves its folders behind, so on a node this is a folder that is removed with the node.
    """

    parent: ClassVar[Path | None] = None

    def __init__(self, path: Path | None = None) -> None:
        self._folder = None if path is None else str(path)

    @property
    def path(self) -> Path:
        """The folder."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="tangent-trial-", dir=self.parent)
        return Path(self._folder)

    def log(self, **values: object) -> None:
        """Append a line to `log.jsonl` in the folder: the time and the values, as JSON.

        Args:
            values: by name; what JSON cannot hold is written as text.
        """
        line = json.dumps({"time": time.time(), **values}, default=_plain)
        with (self.path / _LOG).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def keep(self, keeping: Keeping, *, from_epoch: int) -> tuple[KeptFile, ...]:
        """Copy the files in the folder to the study's, and return what was kept and what could not be.

        Links, pipes and devices are left out. Nothing that goes wrong here fails the trial.

        Args:
            keeping: where to, and how much.
            from_epoch: epochs that the trial had done before this folder was made; files of a trial that
                continues are named after its first epoch.
        """
        if self._folder is None:
            return ()
        prefix = f"from-epoch-{from_epoch + 1}/" if from_epoch else ""
        left, kept = keeping.max_files_bytes, list[KeptFile]()
        for path in _regular_files(self.path):
            relative = path.relative_to(self.path)
            if any(relative.match(pattern) for pattern in _PASSED) and len(relative.parts) in {1, 3}:
                continue
            name = prefix + escape_controls(relative.as_posix(), multiline=False)
            if len(kept) == _MAX_FILES or len(name) > _MAX_NAME:
                break
            file = _kept(path, name, keeping=keeping, left=left)
            left -= file.size if file.sha256 is not None else 0
            kept.append(file)
        return tuple(kept)

    def remove(self) -> None:
        """Remove the folder, if there is one."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _regular_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _kept(path: Path, name: str, *, keeping: Keeping, left: int) -> KeptFile:
    file = KeptFile(id=uuid.uuid4().hex, kind="file", name=name, size=path.lstat().st_size)
    if file.size > left:
        limit = keeping.max_files_bytes
        reason = f"the trial's files exceed the limit of {limit} bytes (`keep.max_files_mb`)"
        return file.model_copy(update={"reason": reason})
    digest, size = hashlib.sha256(), 0
    try:
        # A process that the trial has left behind may replace it by a link meanwhile.
        with (
            os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source,
            written(f"{keeping.folder}/{file.id}") as part,
            part.open("wb") as target,
        ):
            # No more than it had at first: it may still grow.
            while size < file.size and (piece := source.read(min(_READ_BYTES, file.size - size))):
                target.write(piece)
                digest.update(piece)
                size += len(piece)
    # Each storage client has exceptions of its own, and not all of them are OSErrors.
    except Exception as error:  # noqa: BLE001
        return file.model_copy(update={"reason": f"it could not be copied: {error}"[:500]})
    return file.model_copy(update={"size": size, "sha256": digest.hexdigest()})


def _plain(value: object) -> object:
    """Return a number of numpy or torch as Python's own, and anything else as text."""
    item = getattr(value, "item", None)
    try:
        return item() if callable(item) else str(value)
    # A tensor with several elements has no single item.
    except (RuntimeError, ValueError):
        return str(value)
