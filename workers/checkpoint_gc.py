"""Deletes checkpoints that killed runs have left: those of studies that are closed by now."""

__all__ = ["remove_closed_checkpoints"]

from typing import cast

from studies.errors import StudyNotFound
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from workers.checkpoints import discard, storage_of


def remove_closed_checkpoints(store: Store, folder: str) -> int:
    """Delete the checkpoints of closed studies, and return the number of these studies.

    Folders of studies that are not in this database are left alone.

    Args:
        store: the database.
        folder: path or URL of the folder that has one folder per study.

    Raises:
        OSError: the folder cannot be read, or something in it cannot be deleted.
        StoreUnavailable: the database is unavailable.
    """
    filesystem, path = storage_of(folder)
    if not filesystem.isdir(path):
        return 0
    studies = 0
    for item in cast("list[str]", filesystem.ls(path, detail=False)):
        study_id = item.rstrip("/").rpartition("/")[2]
        try:
            is_closed = store.study(study_id).state in CLOSED_STUDY_STATES
        except StudyNotFound:
            continue
        if is_closed:
            discard(f"{folder}/{study_id}")
            studies += 1
    return studies
