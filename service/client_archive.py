"""The client's methods for labelling, archiving and deleting studies."""

__all__ = ["ArchiveRequests"]

from service.client_arguments import version_header
from service.transport import Transport, path_segment
from studies.deletion import StudyContents
from studies.views import StudyView


class ArchiveRequests:
    """Labelling studies, and archiving and deleting closed ones."""

    _transport: Transport

    def label(self, study_id: str, suite: str | None, *, if_version: int | None = None) -> StudyView:
        """Put a study into a suite, or with None out of its suite.

        Raises:
            ProblemError: `version-conflict` if the study has changed.
        """
        path, body = f"/v1/studies/{path_segment(study_id)}:label", {"suite": suite}
        headers = version_header(if_version)
        return self._transport.read(StudyView, self._transport.send("POST", path, json=body, headers=headers))

    def archive(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Hide a closed study from the list of studies; everything is kept.

        Raises:
            ProblemError: `illegal-move` if the study is open, `version-conflict` if it has changed.
        """
        return self._archive(study_id, "archive", if_version)

    def unarchive(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Show an archived study in the list of studies again."""
        return self._archive(study_id, "unarchive", if_version)

    def contents(self, study_id: str) -> StudyContents:
        """Return what deleting a study would remove."""
        return self._transport.get(StudyContents, f"/v1/studies/{path_segment(study_id)}/contents")

    def delete(self, study_id: str, *, if_version: int | None = None) -> StudyContents:
        """Delete a closed study with everything in it for good, and return what was removed.

        Raises:
            ProblemError: `illegal-move` if the study is open, `version-conflict` if it has changed,
                `study-not-found` if it does not exist, for example because it was deleted before.
        """
        path = f"/v1/studies/{path_segment(study_id)}"
        return self._transport.read(
            StudyContents, self._transport.send("DELETE", path, headers=version_header(if_version))
        )

    def _archive(self, study_id: str, verb: str, if_version: int | None) -> StudyView:
        path = f"/v1/studies/{path_segment(study_id)}:{verb}"
        return self._transport.read(
            StudyView, self._transport.send("POST", path, headers=version_header(if_version))
        )
