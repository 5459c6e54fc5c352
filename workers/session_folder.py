"""The folder of one Ray node: its sessions with their sockets and logs. It is removed when the node ends.

A guardian that is killed leaves its folder behind; the next one on this machine removes it. A lock, which the
system releases when a process ends, shows whether a folder is in use.
"""

__all__ = ["session_folder"]

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

# Short, because the path of a socket may have at most 107 bytes.
_PREFIX = "ray-"
_LOCK = "tangent.lock"


@contextmanager
def session_folder() -> Generator[Path]:
    """Yield a new folder for a Ray node, and remove it at the end, with those that are no longer in use."""
    root = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    _remove_abandoned(root)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    unlocked = folder / f"{_LOCK}.new"
    with unlocked.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now, or a guardian that starts at the same time could take the folder for an abandoned one.
        unlocked.rename(folder / _LOCK)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(root: Path) -> None:
    for file in root.glob(f"{_PREFIX}*/{_LOCK}"):
        # Another user's, in use, or just removed by another guardian.
        with contextlib.suppress(OSError), file.open("r+") as lock:
            if os.fstat(lock.fileno()).st_uid != os.getuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.parent, ignore_errors=True)
