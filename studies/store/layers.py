"""What the layers of trials measured, in JSON of one row for each epoch."""

__all__ = ["Layers", "add", "record_scale_invariance", "scale_invariance"]

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from studies.layers import (
    LayerMeasurement,
    MeasuredLayers,
    StudyLayers,
    TrialLayers,
    mean_over_runs,
)
from studies.space import configuration_key
from studies.states import TrialState
from studies.store import study_queries, tables, trial_queries
from studies.store.database import Database

# The norms of a diverged run would hide those of all others.
_HIDDEN = (TrialState.DIVERGED, TrialState.FAILED, TrialState.CANCELLED)


def add(connection: Connection, measured: Sequence[tuple[str, MeasuredLayers]]) -> None:
    """Store what trials' layers measured after an epoch of which nothing is stored, by trial id."""
    if not measured:
        return
    t = tables.trial_layers
    known = set(
        connection.execute(
            select(t.c.trial_id).where(t.c.trial_id.in_({trial for trial, _ in measured}))
        ).scalars()
    )
    for trial_id, layers in measured:
        if trial_id not in known:
            known.add(trial_id)
            values = {
                "names": [*map(tables.storable, layers.names)],
                "initial_norms": list(layers.initial_norms),
            }
            connection.execute(insert(t).values(trial_id=trial_id, **values))
    rows = [
        {
            "trial_id": trial_id,
            "epoch": layers.measurement.epoch,
            "measured": layers.measurement.model_dump(mode="json", exclude={"epoch"}, exclude_defaults=True),
        }
        for trial_id, layers in measured
    ]
    connection.execute(insert(tables.layer_measurement), rows)


def scale_invariance(connection: Connection, study_id: str) -> dict[str, bool] | None:
    """Return whether each tested layer is scale-invariant, by name; None if that was not tested yet.

    Raises:
        StudyNotFound: the study does not exist.
    """
    return study_queries.study_row(connection, study_id).scale_invariance


def record_scale_invariance(connection: Connection, study_id: str, found: Mapping[str, bool]) -> None:
    """Store whether each tested layer is scale-invariant, by name."""
    values = {tables.storable(name): is_invariant for name, is_invariant in found.items()}
    connection.execute(
        update(tables.study).where(tables.study.c.id == study_id).values(scale_invariance=values)
    )


class Layers:
    """What the layers of trials measured; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def trial_layers(self, trial_id: str) -> TrialLayers:
        """Return what a trial's layers measured; without a layer if it measured none.

        Raises:
            TrialNotFound: the trial does not exist.
        """
        with self._database.read() as connection:
            study_id = trial_queries.trial(connection, trial_id).study_id
            found = _of_trials(connection, study_id, [trial_id])
        nothing = TrialLayers(trial_id=trial_id, names=(), is_scale_invariant=(), initial_norms=(), epochs=())
        return found.get(trial_id, nothing)

    def layers_of(self, study_id: str, trial_ids: Sequence[str]) -> dict[str, TrialLayers]:
        """Return what the layers of some of a study's trials measured, by trial id.

        A trial that measured none is absent.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return _of_trials(connection, study_id, trial_ids)

    def study_layers(self, study_id: str) -> StudyLayers:
        """Return what the layers of each arm's runs measured on average.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return _of_study(connection, study_id)


def _of_trials(connection: Connection, study_id: str, trial_ids: Sequence[str]) -> dict[str, TrialLayers]:
    of, m = tables.trial_layers.c, tables.layer_measurement.c
    invariance = scale_invariance(connection, study_id) or {}
    epochs: dict[str, list[LayerMeasurement]] = {}
    query = (
        select(m.trial_id, m.epoch, m.measured).where(m.trial_id.in_(trial_ids)).order_by(m.trial_id, m.epoch)
    )
    for trial_id, epoch, measured in connection.execute(query):
        # A study may have a million of these numbers, and they were checked when they were stored.
        lists: dict[str, Any] = {name: tuple(values) for name, values in measured.items()}
        epochs.setdefault(trial_id, []).append(LayerMeasurement.model_construct(epoch=epoch, **lists))
    return {
        row.trial_id: TrialLayers(
            trial_id=row.trial_id,
            names=tuple(row.names),
            is_scale_invariant=tuple(map(invariance.get, row.names)),
            initial_norms=tuple(row.initial_norms),
            epochs=tuple(epochs.get(row.trial_id, ())),
        )
        for row in connection.execute(select(tables.trial_layers).where(of.trial_id.in_(trial_ids)))
    }


def _of_study(connection: Connection, study_id: str) -> StudyLayers:
    invariance = scale_invariance(connection, study_id) or {}
    confirmations = trial_queries.every_trial(connection, study_id, phase="confirmation")
    trials = [*confirmations, *trial_queries.defaults(connection, study_id)]
    of = tables.trial_layers.c.trial_id
    shown = [trial for trial in trials if trial.state not in _HIDDEN]
    measured = set(connection.execute(select(of).where(of.in_([trial.id for trial in shown]))).scalars())
    chosen: list[tuple[str, Literal["best", "defaults"], list[str]]] = []
    for arm in study_queries.arms(connection, study_id):
        runs = [trial for trial in shown if trial.arm == arm.name and trial.id in measured]
        best = None if arm.best is None else configuration_key(arm.best.parameters)
        confirmed = [
            trial.id
            for trial in runs
            if trial.phase == "confirmation" and configuration_key(trial.parameters) == best
        ]
        defaults = [trial.id for trial in runs if trial.origin == "default"]
        if confirmed or defaults:
            chosen.append((arm.name, "best" if confirmed else "defaults", confirmed or defaults))
    layers = _of_trials(connection, study_id, [trial_id for _, _, ids in chosen for trial_id in ids])
    found = [
        mean_over_runs(arm, configuration, [layers[each] for each in ids])
        for arm, configuration, ids in chosen
    ]
    return StudyLayers(study_id=study_id, scale_invariance=invariance, arms=tuple(found))
