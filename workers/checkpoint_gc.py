"""Deletes files that no study needs: old checkpoints, expired files, and everything of deleted studies."""

__all__ = [
    "remove_closed_checkpoints",
    "remove_logs_of_deleted",
    "remove_unkept_files",
    "remove_unkept_files_of",
]

import re
from pathlib import Path
from typing import Final, cast

from studies.errors import StudyNotFound
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from workers.storage import discard, storage_of

_RUN_LOG: Final = re.compile(r"run-([a-z0-9]+)\.log.*")


def remove_closed_checkpoints(store: Store, folder: str) -> int:
    """Delete the checkpoints of closed and deleted studies, and return the number of these studies.

    Folders of studies that this database does not know are left alone.

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
        study_id = _last_part(item)
        try:
            is_over = store.state(study_id) in CLOSED_STUDY_STATES
        except StudyNotFound:
            is_over = _is_deleted(store, study_id)
        if is_over:
            discard(f"{folder}/{study_id}")
            studies += 1
    return studies


def remove_unkept_files(store: Store, folder: str) -> int:
    """Delete the files of closed studies that are not, or no longer, kept, and return their number.

    These are files whose time is over, that others have replaced, whose run was killed before it stored them,
    or whose study was deleted. Folders of studies that are open or unknown to this database are left alone.

    Args:
        store: the database.
        folder: path or URL of the folder that has one folder per study.

    Raises:
        OSError: the folder cannot be read, or something in it cannot be deleted.
        StoreUnavailable: the database is unavailable.
    """
    store.expire_artifacts()
    filesystem, path = storage_of(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(path):
        return 0
    return sum(
        remove_unkept_files_of(store, _last_part(item), f"{folder}/{_last_part(item)}")
        for item in cast("list[str]", filesystem.ls(path, detail=False))
    )


def remove_unkept_files_of(store: Store, study_id: str, folder: str) -> int:
    """Delete the files of a closed or deleted study that are not kept, and return their number.

    Args:
        store: the database.
        study_id: the study; nothing is deleted if it is open or unknown to this database.
        folder: path or URL of the folder of the study's kept files.

    Raises:
        OSError: the folder cannot be read, or something in it cannot be deleted.
        StoreUnavailable: the database is unavailable.
    """
    filesystem, path = storage_of(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(path):
        return 0
    # Before the database is asked: a file that a later run adds is not in this list.
    names = [_last_part(file) for file in cast("list[str]", filesystem.ls(path, detail=False))]
    kept = store.kept_artifact_ids(study_id)
    if kept is None:
        if not _is_deleted(store, study_id):
            return 0
        kept = frozenset[str]()
    unkept = [name for name in names if name not in kept]
    for name in unkept:
        discard(f"{folder}/{name}")
    if len(unkept) == len(names):
        discard(folder)
    return len(unkept)


def remove_logs_of_deleted(store: Store, folder: Path) -> int:
    """Delete the logs of the runs of deleted studies, and return their number.

    Raises:
        OSError: the folder cannot be read, or a log cannot be deleted.
        StoreUnavailable: the database is unavailable.
    """
    logs = [(path, found[1]) for path in folder.glob("run-*") if (found := _RUN_LOG.fullmatch(path.name))]
    deleted = store.deleted_ids({study_id for _, study_id in logs})
    removed = [path for path, study_id in logs if study_id in deleted]
    for path in removed:
        path.unlink(missing_ok=True)
    return len(removed)


def _is_deleted(store: Store, study_id: str) -> bool:
    return bool(store.deleted_ids([study_id]))


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
