"""The notes of studies, of which every version is kept."""

__all__ = ["Notes"]

from sqlalchemy import Connection, func, insert, select, update

from studies.actors import OPERATOR, Actor
from studies.errors import NotFound, StudyNotFound, VersionConflict
from studies.notes import MOST_LISTED, NotesVersion, StudyNotes, parse_notes
from studies.store import audit, clock, events, submissions, tables
from studies.store.database import Database

_N = tables.notes.c


class Notes:
    """The notes of studies; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def notes(self, study_id: str, *, version: int | None = None) -> StudyNotes:
        """Return a study's notes with their history.

        Args:
            study_id: the study.
            version: the version whose text is returned; by default the current one.

        Raises:
            StudyNotFound: the study does not exist.
            NotFound: the notes do not have this version.
        """
        with self._database.read() as connection:
            return _read(connection, study_id, version)

    def set_notes(
        self, study_id: str, text: str, *, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyNotes:
        """Replace a study's notes, in any state of the study, and return them; the same text changes nothing.

        Args:
            study_id: the study.
            text: the new notes, in Markdown; empty to remove them.
            by: who writes them.
            if_version: the version of the notes that the writer has read; None to replace any.

        Raises:
            NotesInvalid: the text is too long.
            StudyNotFound: the study does not exist.
            Unauthenticated, Forbidden, NotOwner: the actor may not change the study.
            VersionConflict: the notes changed since `if_version`.
        """
        text = tables.storable(parse_notes({"text": text}))
        with self._database.write() as connection:
            row = submissions.lock_version(connection, study_id, by=by, if_version=None)
            before = _read(connection, study_id, None)
            if if_version is not None and before.version != if_version:
                raise VersionConflict(
                    f"the notes of study {study_id!r} are at version {before.version}, not {if_version}; "
                    "read them again, then retry"
                )
            if text == before.text:
                return before
            number = row.notes_version + 1
            written = {
                "study_id": study_id,
                "version": number,
                "text": text,
                "author": by.name,
                "at": clock.now(connection),
            }
            connection.execute(insert(tables.notes).values(written))
            connection.execute(
                update(tables.study).where(tables.study.c.id == study_id).values(notes_version=number)
            )
            data = {"version": number, "by": by.name, "characters": len(text)}
            events.append(connection, study_id, [("study.noted", data)])
            audit.record(connection, by, "note", study_id=study_id)
            return _read(connection, study_id, None)


def _read(connection: Connection, study_id: str, version: int | None) -> StudyNotes:
    """Return a study's notes, with the text of a version or of the current one.

    Raises:
        StudyNotFound: the study does not exist.
        NotFound: the notes do not have this version.
    """
    s = tables.study.c
    newest = connection.execute(select(s.notes_version).where(s.id == study_id)).scalar_one_or_none()
    if newest is None:
        raise StudyNotFound(study_id)
    wanted = newest if version is None else version
    text = connection.execute(
        select(_N.text).where(_N.study_id == study_id, _N.version == wanted)
    ).scalar_one_or_none()
    if text is None and wanted != 0:
        has = f"versions 1 to {newest}" if newest else "no version"
        raise NotFound(f"the notes of study {study_id!r} have no version {wanted}; they have {has}")
    listed = (
        select(_N.version, _N.author, _N.at, func.length(_N.text).label("characters"))
        .where(_N.study_id == study_id)
        .order_by(_N.version.desc())
        .limit(MOST_LISTED)
    )
    history = tuple(
        NotesVersion(version=row.version, by=row.author, at=row.at, characters=row.characters)
        for row in connection.execute(listed)
    )
    return StudyNotes(study_id=study_id, version=wanted, text=text or "", history=history)
