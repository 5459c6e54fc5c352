"""Finished trials as rows of Optuna's own tables: a batch in one transaction and a handful of statements.

Optuna's public API adds trials one by one, each with some forty statements, most of which look for rows that
cannot exist yet. This module makes the same rows with Optuna's own models. That works for one revision of its
schema; for any other, callers use the public API.
"""

__all__ = ["SCHEMA", "add_finished", "remove"]

import json
from collections.abc import Sequence
from typing import Any, Final

from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.orm import Session

SCHEMA = "v3.2.0.a"
"""The revision of Optuna's schema that this module writes."""

# The session holds no objects that a deletion would have to be compared with.
_UNTRACKED: Final = {"synchronize_session": False}


def add_finished(connection: Connection, name: str, trials: Sequence[FrozenTrial]) -> None:
    """Add finished trials to an Optuna study in this order, with the study's next numbers.

    Args:
        connection: an open write transaction.
        name: the name of the study, which must exist and have one objective.
        trials: the trials, as Optuna's `create_trial` makes them, without system attributes.
    """
    # Locked as Optuna does it, because the next number is a count.
    study = select(models.StudyModel.study_id).where(models.StudyModel.study_name == name).with_for_update()
    with Session(connection) as session:
        study_id = session.execute(study).scalar_one()
        count = session.execute(
            select(func.count()).where(models.TrialModel.study_id == study_id)
        ).scalar_one()
        rows: list[Any] = [
            models.TrialModel(
                study_id=study_id,
                number=number,
                state=trial.state,
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
            )
            for number, trial in enumerate(trials, start=count)
        ]
        session.add_all(rows)
        session.flush()
        added = [(row.trial_id, trial) for row, trial in zip(rows, trials, strict=True)]
        for model, values in (
            (
                models.TrialValueModel,
                [_value(trial_id, trial.value) for trial_id, trial in added if trial.value is not None],
            ),
            (
                models.TrialParamModel,
                [_param(trial_id, trial, of) for trial_id, trial in added for of in trial.params],
            ),
            (
                models.TrialUserAttributeModel,
                [_attribute(trial_id, *of) for trial_id, trial in added for of in trial.user_attrs.items()],
            ),
            (
                models.TrialIntermediateValueModel,
                [
                    _step(trial_id, *of)
                    for trial_id, trial in added
                    for of in trial.intermediate_values.items()
                ],
            ),
        ):
            if values:
                session.execute(insert(model), values)


def remove(connection: Connection, name: str) -> None:
    """Delete an Optuna study with all its trials, if there is one of this name.

    Args:
        connection: an open write transaction.
        name: the name of the study.
    """
    study = select(models.StudyModel.study_id).where(models.StudyModel.study_name == name)
    with Session(connection) as session:
        study_id = session.execute(study.with_for_update()).scalar_one_or_none()
        trials = select(models.TrialModel.trial_id).where(models.TrialModel.study_id == study_id)
        for model in (
            models.TrialIntermediateValueModel,
            models.TrialUserAttributeModel,
            models.TrialSystemAttributeModel,
            models.TrialParamModel,
            models.TrialValueModel,
            models.TrialHeartbeatModel,
        ):
            session.execute(delete(model).where(model.trial_id.in_(trials)), execution_options=_UNTRACKED)
        for model in (
            models.TrialModel,
            models.StudyUserAttributeModel,
            models.StudySystemAttributeModel,
            models.StudyDirectionModel,
            models.StudyModel,
        ):
            session.execute(delete(model).where(model.study_id == study_id), execution_options=_UNTRACKED)


def _value(trial_id: int, value: float) -> dict[str, object]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": 0, "value": stored, "value_type": kind}


def _param(trial_id: int, trial: FrozenTrial, name: str) -> dict[str, object]:
    distribution = trial.distributions[name]
    return {
        "trial_id": trial_id,
        "param_name": name,
        "param_value": distribution.to_internal_repr(trial.params[name]),
        "distribution_json": distribution_to_json(distribution),
    }


def _attribute(trial_id: int, key: str, value: object) -> dict[str, object]:
    return {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _step(trial_id: int, step: int, value: float) -> dict[str, object]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
