"""Copies of finished trials in Optuna's tables in the same database, for Optuna's own tools.

Each trial is written once, in its final state, so that there is never a RUNNING trial of a dead worker.
Tangent's tables stay authoritative: a missing copy is written by the next call. If Optuna's tables have the
schema that `optuna_rows` knows, a batch of copies and their `copy_state` are one transaction; for any other
schema Optuna's public API writes them one by one, many times as slowly. Optuna has no state for a trial that
diverged: it becomes FAIL, as with a NaN in Optuna itself, and the attribute `tangent_state` distinguishes it
from a failure.
"""

__all__ = ["OptunaCopy", "study_name"]

import json
import math
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, create_trial
from sqlalchemy import Connection, Select, event, exists, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from studies.direction import Direction
from studies.distributions import distributions, searched
from studies.resolve import ResolvedArm
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.store import deletions, optuna_rows, study_queries, tables
from studies.store.database import Database

_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.DIVERGED: optuna.trial.TrialState.FAIL,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
}
# `copy_state`: 0 none, 1 done, 2 begun. Copying with the public API takes two steps; after a crash only
# copies that were begun have to be looked up.
_DONE, _BEGUN = 1, 2
# Confirmation runs are not copied: they are not trials of the search.
_IS_MISSING = (
    tables.trial.c.phase == "search",
    tables.trial.c.state.in_([state.value for state in _STATES]),
    tables.trial.c.copy_state != _DONE,
)
_BATCH = 50
_COPIES = text(
    "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) JOIN studies USING (study_id) "
    "WHERE study_name = :name AND key = 'tangent_trial'"
)


def study_name(study_id: str, arm: str) -> str:
    """Return the name of an arm's study in Optuna's storage."""
    return f"tangent/{study_id}/{arm}"


class OptunaCopy:
    """Writes finished trials into Optuna's storage."""

    def __init__(self, database: Database) -> None:
        """Make a copier; Optuna's tables are created with the first copy."""
        self._database = database
        self._storage: RDBStorage | None = None
        self._are_rows_known = False

    def copy_finished(self, study_id: str, *, within_s: float = math.inf) -> int:
        """Copy the study's finished trials that have no copy yet, and return how many were copied.

        Args:
            study_id: the study.
            within_s: start no further batch after this many seconds; the next call copies the rest.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        deadline = time.monotonic() + within_s
        copied = 0
        while batch := self._copy_batch(study_id):
            copied += batch
            if time.monotonic() >= deadline:
                break
        return copied

    def closed_with_missing(self) -> tuple[str, ...]:
        """Return the ids of closed studies that have finished trials without a copy."""
        s, t = tables.study.c, tables.trial.c
        query = (
            select(s.id)
            .where(s.state.in_([state.value for state in CLOSED_STUDY_STATES]))
            .where(exists().where(t.study_id == s.id, *_IS_MISSING))
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query.order_by(s.id)).scalars())

    def remove_deleted(self) -> int:
        """Delete the copies of studies that were deleted, and return of how many arms.

        Raises:
            StoreUnavailable: the database cannot be used.
        """
        names = self._names_of_deleted()
        for study_id, name in names:
            storage = self._open_storage()
            # A run that was still copying may have created the study again.
            with self._database.exclusive(f"optuna/{study_id}"):
                if self._are_rows_known:
                    with self._database.write() as connection:
                        optuna_rows.remove(connection, name)
                else:
                    with self._translated_errors(), suppress(KeyError):
                        optuna.delete_study(study_name=name, storage=storage)
        return len(names)

    def _names_of_deleted(self) -> list[tuple[str, str]]:
        """Return the id of each deleted study with the names of its arms' studies in Optuna's storage."""
        with self._database.read() as connection:
            if not inspect(connection).has_table("studies"):
                return []
            names = connection.scalars(text("SELECT study_name FROM studies")).all()
            by_study = [(name.split("/")[1], name) for name in names if name.startswith("tangent/")]
            deleted = deletions.deleted_ids(connection, {study_id for study_id, _ in by_study})
        return [(study_id, name) for study_id, name in by_study if study_id in deleted]

    def close(self) -> None:
        """Close every connection."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()

    def _copy_batch(self, study_id: str) -> int:
        with self._database.read() as connection:
            if not connection.execute(select(_missing(study_id).exists())).scalar_one():
                return 0
        storage = self._open_storage()
        # A run whose lease has lapsed may still be copying.
        with self._database.exclusive(f"optuna/{study_id}"):
            with self._database.read() as connection:
                t = tables.trial.c
                rows = list(
                    connection.execute(
                        _missing(study_id).order_by(t.ended_at, t.arm, t.number).limit(_BATCH)
                    ).all()
                )
                plan = study_queries.resolved(connection, study_id)
            for arm in plan.arms:
                of_arm = [row for row in rows if row.arm == arm.name]
                if of_arm:
                    self._copy_arm(storage, study_id, arm, direction=plan.workload.direction, rows=of_arm)
        return len(rows)

    def _copy_arm(
        self, storage: RDBStorage, study_id: str, arm: ResolvedArm, *, direction: Direction, rows: list[Any]
    ) -> None:
        ids = [row.id for row in rows]
        name = study_name(study_id, arm.name)
        there = self._already_there(name) if any(row.copy_state == _BEGUN for row in rows) else set[str]()
        measured = self._measured(ids)
        frozen = {row.id: _frozen(arm, row, measured.get(row.id, {})) for row in rows if row.id not in there}
        with self._translated_errors():
            study = optuna.create_study(
                storage=storage, study_name=name, direction=direction, load_if_exists=True
            )
        if self._are_rows_known:
            with self._database.write() as connection:
                # If this run was frozen here and superseded, its successor has written these copies.
                marked = _mark(connection, ids, _DONE)
                optuna_rows.add_finished(
                    connection, name, [trial for trial_id, trial in frozen.items() if trial_id in marked]
                )
            return
        with self._database.write() as connection:
            _mark(connection, ids, _BEGUN)
        with self._translated_errors():
            study.add_trials(frozen.values())
        with self._database.write() as connection:
            _mark(connection, ids, _DONE)

    def _measured(self, ids: list[str]) -> dict[str, dict[int, float]]:
        """Return the validation metric by trial and epoch, where it is finite."""
        m = tables.measurement.c
        query = select(m.trial_id, m.epoch, m.validation_metric).where(
            m.trial_id.in_(ids), m.validation_metric.is_not(None)
        )
        found: dict[str, dict[int, float]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(m.trial_id, m.epoch)):
                found.setdefault(row.trial_id, {})[row.epoch] = row.validation_metric
        return found

    def _already_there(self, name: str) -> set[str]:
        """Return the ids of the trials in an Optuna study; after a crash `copy_state` may lag behind."""
        with self._database.read() as connection:
            return {json.loads(row.value_json) for row in connection.execute(_COPIES, {"name": name})}

    def _open_storage(self) -> RDBStorage:
        if self._storage is None:
            # Optuna creates its tables without checking whether another process is creating them.
            with self._database.exclusive("optuna"), self._translated_errors():
                storage = RDBStorage(self._database.url, engine_kwargs=self._database.engine_arguments)
            if not self._database.is_postgresql:
                # So that the listener applies to all later connections.
                storage.engine.dispose()
                event.listen(storage.engine, "connect", _relax_sync)
            self._storage, self._are_rows_known = storage, storage.get_current_version() == optuna_rows.SCHEMA
        return self._storage

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        with self._database.translated_errors():
            try:
                yield
            except StorageInternalError as error:
                # Optuna wraps its driver's errors.
                if isinstance(error.__cause__, DBAPIError):
                    raise error.__cause__ from error
                raise


def _missing(study_id: str) -> Select[Any]:
    t = tables.trial.c
    return select(tables.trial).where(t.study_id == study_id, *_IS_MISSING)


def _mark(connection: Connection, ids: list[str], state: int) -> set[str]:
    """Set `copy_state` of some trials, and return the ids of those that were not done before."""
    t = tables.trial.c
    change = update(tables.trial).where(t.id.in_(ids), t.copy_state != _DONE).values(copy_state=state)
    return set(connection.execute(change.returning(t.id)).scalars())


def _frozen(arm: ResolvedArm, row: Any, intermediate: dict[int, float]) -> FrozenTrial:
    """Return a trial in Optuna's form, with the validation metric of every epoch."""
    params = searched(arm.space, arm.conditions, row.parameters)
    known = distributions(arm.space)
    state = TrialState(row.state)
    # As in Optuna, the value of a pruned trial is its last intermediate value.
    values = {
        TrialState.COMPLETED: row.value,
        TrialState.PRUNED: intermediate[max(intermediate)] if intermediate else None,
    }
    trial = create_trial(
        state=_STATES[state],
        value=values.get(state),
        params=dict(params),
        distributions={name: known[name] for name in params},
        intermediate_values=intermediate,
        user_attrs={
            "tangent_trial": row.id,
            "tangent_state": row.state,
            "tangent_replicate": row.replicate,
            **({} if row.pair_index is None else {"tangent_pair_index": row.pair_index}),
            "parameters": row.parameters,
            "test_value": row.test_value,
            **({"reason": row.reason} if row.reason else {}),
        },
    )
    trial.datetime_start, trial.datetime_complete = (
        _local(row.started_at or row.ended_at),
        _local(row.ended_at),
    )
    return trial


def _local(at: datetime | None) -> datetime | None:
    """Return a time as Optuna stores it: in local time, without a zone."""
    return None if at is None else at.astimezone().replace(tzinfo=None)


def _relax_sync(connection: Any, _record: Any) -> None:
    """Set SQLite's `synchronous` to NORMAL for a connection of Optuna's.

    With the write-ahead log nothing is lost when a process dies, and a copy takes 71 ms instead of 423.
    """
    connection.execute("PRAGMA synchronous=NORMAL")
