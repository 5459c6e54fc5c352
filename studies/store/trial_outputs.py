"""The end of what workers print: stored once for each pack, and read by trial."""

__all__ = ["read", "write"]

from collections.abc import Mapping

from sqlalchemy import Connection, delete, exists, func, insert, select

from studies.store import clock, tables
from studies.views import TrialOutput, TrialView

_P, _T = tables.pack_output.c, tables.trial_output.c


def write(
    connection: Connection, study_id: str, pack_id: str, attempts: Mapping[str, int], *, text: str, size: int
) -> None:
    """Store a pack's output as that of its trials, and delete output that no trial refers to any more.

    A trial keeps the output of a later attempt.

    Args:
        connection: a transaction that writes.
        study_id: the study.
        pack_id: the pack.
        attempts: the attempt of each of its trials, by trial id.
        text: the end of the output.
        size: bytes of the whole output.
    """
    t = tables.trial.c
    known = {
        row.id: row
        for row in connection.execute(
            select(t.id, _T.attempt)
            .outerjoin(tables.trial_output, _T.trial_id == t.id)
            .where(t.study_id == study_id, t.id.in_(list(attempts)))
        )
    }
    trial_ids = [id_ for id_, row in known.items() if row.attempt is None or row.attempt <= attempts[id_]]
    if not trial_ids:
        return
    connection.execute(delete(tables.trial_output).where(_T.trial_id.in_(trial_ids)))
    connection.execute(delete(tables.pack_output).where(_P.pack_id == pack_id))
    values = {"pack_id": pack_id, "study_id": study_id, "text": text, "size": size}
    connection.execute(insert(tables.pack_output).values(**values, written_at=clock.now(connection)))
    connection.execute(
        insert(tables.trial_output),
        [{"trial_id": id_, "pack_id": pack_id, "attempt": attempts[id_]} for id_ in trial_ids],
    )
    is_read = exists().where(_T.pack_id == _P.pack_id)
    connection.execute(delete(tables.pack_output).where(_P.study_id == study_id, ~is_read))


def read(connection: Connection, trial: TrialView) -> TrialOutput:
    """Return the end of what a trial's worker printed; it is empty if it printed nothing."""
    row = connection.execute(
        select(_T.trial_id, _T.attempt, _P.pack_id, _P.text, _P.size, _P.written_at)
        .join(tables.pack_output, _P.pack_id == _T.pack_id)
        .where(_T.trial_id == trial.id)
    ).one_or_none()
    if row is None:
        return TrialOutput(
            trial_id=trial.id, attempt=trial.attempt, trials=1, text="", size=0, written_at=None
        )
    trials = connection.scalar(
        select(func.count()).select_from(tables.trial_output).where(_T.pack_id == row.pack_id)
    )
    return TrialOutput(
        trial_id=row.trial_id,
        attempt=row.attempt,
        trials=trials or 1,
        text=row.text,
        size=row.size,
        written_at=row.written_at,
    )
