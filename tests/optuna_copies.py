"""Read the copies of studies in Optuna's tables with Optuna's own tools."""

__all__ = ["copies_at", "storage_at"]

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial


@contextmanager
def storage_at(database_url: str) -> Iterator[RDBStorage]:
    """Open a database with Optuna's own storage class."""
    storage = RDBStorage(database_url)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


def copies_at(database_url: str, study_name: str) -> list[FrozenTrial]:
    """Return the trials of an Optuna study; none if the study does not exist yet."""
    with storage_at(database_url) as storage:
        exists = study_name in optuna.get_all_study_names(storage=storage)
        return optuna.load_study(study_name=study_name, storage=storage).trials if exists else []
