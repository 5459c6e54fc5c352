"""Artifacts in the database: which files of trials are kept, and where they are."""

__all__ = ["expire", "insert_all", "kept_ids", "location", "read", "weights_kept"]

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from studies.artifacts import ArtifactKind, ArtifactView, NewArtifact
from studies.errors import ArtifactNotFound
from studies.space import ConfigurationKey, configuration_key
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES
from studies.store import clock, tables

_A, _T, _S = tables.artifact.c, tables.trial.c, tables.study.c
_COLUMNS = (
    _A.id,
    _A.study_id,
    _A.trial_id,
    _A.kind,
    _A.weights_of,
    _A.name,
    _A.size,
    _A.sha256,
    _A.reason,
    _A.created_at,
)


def insert_all(connection: Connection, study_id: str, new: Sequence[tuple[str, NewArtifact]]) -> None:
    """Store artifacts of a study's trials. An arm keeps one file of weights of each kind of configuration.

    Of runs of the same configuration, the weights of the one with the lowest number stay: the first seed.
    Weights of another configuration take the place of those before them.

    Args:
        connection: a transaction that writes.
        study_id: the study.
        new: the id of the trial of each, and the artifact.
    """
    known = set(connection.scalars(select(_A.id).where(_A.id.in_([artifact.id for _, artifact in new]))))
    now = clock.now(connection)
    for trial_id, artifact in new:
        if artifact.id in known or (
            artifact.kind == "weights" and not _takes_place(connection, study_id, trial_id, artifact)
        ):
            continue
        values = {
            "id": artifact.id,
            "study_id": study_id,
            "trial_id": trial_id,
            "kind": artifact.kind,
            "weights_of": artifact.weights_of,
            "name": tables.storable(artifact.name)[:255],
            "size": artifact.size,
            "sha256": artifact.sha256,
            "url": artifact.url,
            "reason": None if artifact.reason is None else tables.storable(artifact.reason),
            "created_at": now,
        }
        connection.execute(insert(tables.artifact).values(**values))


def _takes_place(connection: Connection, study_id: str, trial_id: str, new: NewArtifact) -> bool:
    """Return whether weights are kept, and delete the weights that they replace."""
    mine = connection.execute(select(_T.arm, _T.number, _T.parameters).where(_T.id == trial_id)).one()
    older = connection.execute(
        select(_A.id, _T.number, _T.parameters, _A.url)
        .join(tables.trial, _T.id == _A.trial_id)
        .where(
            _A.study_id == study_id,
            _A.kind == "weights",
            _A.weights_of == new.weights_of,
            _T.arm == mine.arm,
        )
    ).all()
    key = configuration_key(mine.parameters)
    if any(
        configuration_key(row.parameters) == key
        and (row.number < mine.number or new.url is None)
        and row.url is not None
        for row in older
    ):
        return False
    connection.execute(delete(tables.artifact).where(_A.id.in_([row.id for row in older])))
    return True


def weights_kept(connection: Connection, study_id: str) -> dict[str, set[ConfigurationKey]]:
    """Return the configurations whose weights are kept, by arm."""
    rows = connection.execute(
        select(_T.arm, _T.parameters)
        .join(tables.artifact, _A.trial_id == _T.id)
        .where(_A.study_id == study_id, _A.kind == "weights", _A.url.is_not(None))
    )
    kept: dict[str, set[ConfigurationKey]] = {}
    for row in rows:
        kept.setdefault(row.arm, set()).add(configuration_key(row.parameters))
    return kept


def read(
    connection: Connection,
    *,
    study_id: str | None = None,
    trial_id: str | None = None,
    kind: ArtifactKind | None = None,
    most: int | None = None,
) -> tuple[ArtifactView, ...]:
    """Return the artifacts of a study or of a trial, in the order of arms, kinds and names.

    Args:
        connection: the database.
        study_id: the study.
        trial_id: the trial, instead of a study.
        kind: only those of this kind.
        most: only this many.
    """
    query = select(*_COLUMNS, _A.url, _T.arm).join(tables.trial, _T.id == _A.trial_id)
    query = query.where(_A.study_id == study_id) if trial_id is None else query.where(_A.trial_id == trial_id)
    if kind is not None:
        query = query.where(_A.kind == kind)
    rows = connection.execute(
        query.order_by(_T.arm, _A.kind.desc(), _A.weights_of, _A.name, _A.id).limit(most)
    )
    return tuple(_view(row) for row in rows)


def location(connection: Connection, artifact_id: str) -> tuple[ArtifactView, str]:
    """Return an artifact and the URL of its file.

    Raises:
        ArtifactNotFound: it does not exist, or was not kept.
    """
    row = connection.execute(
        select(*_COLUMNS, _A.url, _T.arm).join(tables.trial, _T.id == _A.trial_id).where(_A.id == artifact_id)
    ).one_or_none()
    if row is None:
        raise ArtifactNotFound(artifact_id)
    if row.url is None:
        raise ArtifactNotFound(artifact_id, reason=row.reason)
    return _view(row), row.url


def kept_ids(connection: Connection, study_id: str) -> frozenset[str] | None:
    """Return the ids of a closed study's artifacts; None if the study is open or not in this database."""
    state = connection.scalar(select(_S.state).where(_S.id == study_id))
    if state not in {closed.value for closed in CLOSED_STUDY_STATES}:
        return None
    return frozenset(connection.scalars(select(_A.id).where(_A.study_id == study_id)))


def expire(connection: Connection) -> int:
    """Delete the artifacts whose study has ended long enough ago, and return their number.

    Their files are deleted by a dispatcher.
    """
    closed = [state.value for state in CLOSED_STUDY_STATES]
    with_artifacts = select(_A.study_id).distinct().scalar_subquery()
    now, deleted = clock.now(connection), 0
    for row in connection.execute(
        select(_S.id, _S.spec, _S.ended_at).where(_S.id.in_(with_artifacts), _S.state.in_(closed))
    ).all():
        days = StudySpec.model_validate(row.spec).keep.days
        if days is not None and row.ended_at is not None and row.ended_at + timedelta(days=days) <= now:
            deleted += connection.execute(delete(tables.artifact).where(_A.study_id == row.id)).rowcount
    return deleted


def _view(row: Any) -> ArtifactView:
    return ArtifactView(
        arm=row.arm,
        is_kept=row.url is not None,
        **{column.name: getattr(row, column.name) for column in _COLUMNS},
    )
