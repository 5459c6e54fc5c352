"""The client's methods for the notes of studies."""

__all__ = ["NotesRequests"]

from service.client_arguments import version_header
from service.transport import Transport, path_segment
from studies.notes import StudyNotes


class NotesRequests:
    """Reading and writing the notes of studies."""

    _transport: Transport

    def notes(self, study_id: str, *, version: int | None = None) -> StudyNotes:
        """Return a study's notes in Markdown with their history.

        Args:
            study_id: the study.
            version: the version whose text is returned; by default the current one.

        Raises:
            ProblemError: `study-not-found`, or `not-found` if the notes do not have this version.
        """
        path = f"/v1/studies/{path_segment(study_id)}/notes"
        return self._transport.get(StudyNotes, path, {"version": version})

    def set_notes(self, study_id: str, text: str, *, if_version: int | None = None) -> StudyNotes:
        """Replace a study's notes, and return them.

        Args:
            study_id: the study.
            text: the new notes, in Markdown; empty to remove them.
            if_version: the version of the notes that was read; by default any is replaced.

        Raises:
            ProblemError: `notes-invalid` if the text is too long, `version-conflict` if the notes have
                changed.
        """
        path = f"/v1/studies/{path_segment(study_id)}/notes"
        headers = version_header(if_version)
        return self._transport.read(
            StudyNotes, self._transport.send("PUT", path, json={"text": text}, headers=headers)
        )
