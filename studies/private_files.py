"""Files and folders that only their owner may use, whatever the umask.

They hold secrets of webhooks, hashes of tokens, and the data of studies.
"""

__all__ = ["create_private_folder", "make_home_private", "make_private", "open_privately"]

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def create_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents for their owner only; existing folders stay as they are.

    Raises:
        OSError: a folder cannot be created.
    """
    if not folder.is_dir():
        create_private_folder(folder.parent)
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)


def make_private(path: Path) -> None:
    """Take all access to a file or folder from other users.

    It stays as it is if it is missing, belongs to another user, is a folder that users share, such as /tmp,
    or if its file system keeps no modes or is read-only.
    """
    with contextlib.suppress(OSError):
        found = path.stat()
        if found.st_mode & _OTHERS and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)


def open_privately(path: str, flags: int) -> int:
    """Open a file for its owner only; the `opener` of `open`."""
    descriptor = os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)
    make_private(Path(path))
    return descriptor


def make_home_private(home: Path) -> None:
    """Make the home folder of a service or a dispatcher private, with its logs and checkpoints."""
    if home != Path.home():
        make_private(home)
    for folder in (home / "logs", home / "checkpoints"):
        for path in _tree(folder):
            make_private(path)


def _tree(folder: Path) -> Iterable[Path]:
    if folder.is_dir():
        yield folder
        for parent, folders, files in os.walk(folder):
            yield from (Path(parent) / name for name in (*folders, *files))
