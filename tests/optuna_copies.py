"""Optuna's copies of studies, read as Optuna's own tools read them."""

__all__ = ["copies_at", "storage_at"]

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial


@contextmanager
def storage_at(database_url: str) -> Iterator[RDBStorage]:
    """Yield a database as Optuna's own tools open it."""
    storage = RDBStorage(database_url)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def copies_at(database_url: str, study_name: str) -> list[FrozenTrial]:
    """Return the trials of one of Optuna's studies; none where there is no such study yet."""
    with storage_at(database_url) as storage:
        is_there = study_name in optuna.get_all_study_names(storage=storage)
        return optuna.load_study(study_name=study_name, storage=storage).trials if is_there else []
