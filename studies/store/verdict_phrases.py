"""The verdicts of closed studies in a phrase, so that a restarted service need not analyse every study."""

__all__ = ["Phrases"]

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from studies.states import CLOSED_STUDY_STATES
from studies.store import tables
from studies.store.database import Database

_S, _P = tables.study.c, tables.verdict_phrase.c


class Phrases:
    """The verdicts of closed studies in a phrase; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def verdict_phrases(self, study_ids: Sequence[str], *, program: str) -> dict[str, str]:
        """Return the phrases that are stored of studies that have not changed since, by id.

        Args:
            study_ids: the studies.
            program: version of the phrases; another may word them differently.
        """
        query = (
            select(_P.study_id, _P.text)
            .join(tables.study, _S.id == _P.study_id)
            .where(
                _P.study_id.in_(study_ids),
                _P.program == program,
                _P.events_without_notes == _S.last_event - _S.notes_version,
            )
        )
        return self._database.look(
            lambda connection: {row.study_id: row.text for row in connection.execute(query)}
        )

    def store_verdict_phrase(
        self, study_id: str, text: str, *, events_without_notes: int, program: str
    ) -> None:
        """Store the phrase of a study, unless the study is open, has changed or does not exist any more.

        Args:
            study_id: the study.
            text: the phrase; empty if it has no verdict.
            events_without_notes: the number of events of the study when it was analysed, not counting
                `study.noted`, as `change_stamps` returns it.
            program: version of the phrases that it was written with.
        """
        values = {
            "text": tables.storable(text),
            "events_without_notes": events_without_notes,
            "program": program,
        }
        states = [state.value for state in CLOSED_STUDY_STATES]
        is_same = (_S.state.in_(states), _S.last_event - _S.notes_version == events_without_notes)
        # Locked until the end, so that the study is not deleted meanwhile.
        found = select(_S.id).where(_S.id == study_id, *is_same)
        with self._database.write() as connection:
            if connection.execute(found.with_for_update(read=True, key_share=True)).one_or_none() is None:
                return
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            row = insert(tables.verdict_phrase).values(study_id=study_id, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["study_id"], set_=values))
