"""What runs that were killed have left behind: checkpoints of studies that are closed by now."""

__all__ = ["remove_closed_checkpoints"]

from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none

from studies.errors import StudyNotFound
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from workers.checkpoints import discard


def remove_closed_checkpoints(store: Store, folder: str) -> int:
    """Remove the checkpoints of closed studies and return of how many.

    Folders of studies that are not in this store stay as they are.

    Args:
        store: the record.
        folder: path or URL of the folder that has a folder for each study.

    Raises:
        OSError: the folder cannot be read, or something in it cannot be removed.
        StoreUnavailable: the database cannot be reached.
    """
    # Fsspec has no stubs.
    filesystem, path = cast("tuple[Any, str]", fsspec.url_to_fs(folder))  # pyright: ignore[reportUnknownMemberType]
    if not filesystem.isdir(path):
        return 0
    found = 0
    for item in cast("list[str]", filesystem.ls(path, detail=False)):
        study_id = item.rstrip("/").rpartition("/")[2]
        try:
            is_closed = store.study(study_id).state in CLOSED_STUDY_STATES
        except StudyNotFound:
            continue
        if is_closed:
            discard(f"{folder}/{study_id}")
            found += 1
    return found
