"""The store's methods for labelling, archiving and deleting studies."""

__all__ = ["Archive"]

from collections.abc import Collection, Sequence
from datetime import datetime

from studies.actors import OPERATOR, Actor
from studies.deletion import StudyContents
from studies.store import deletions, study_queries, suites
from studies.store.database import Database
from studies.views import StudyView


class Archive:
    """Labelled, archived and deleted studies; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def archive(
        self, study_id: str, *, is_archived: bool = True, by: Actor = OPERATOR, if_version: int | None = None
    ) -> StudyView:
        """Hide a closed study from the list of studies, or show it there again; nothing else changes.

        Raises:
            StudyNotFound: the study does not exist.
            Forbidden, NotOwner: the actor may not change the study.
            IllegalMove: the study is open.
            VersionConflict: the study changed since `if_version`.
        """
        with self._database.write() as connection:
            deletions.set_archived(
                connection, study_id, is_archived=is_archived, by=by, if_version=if_version
            )
            return study_queries.study(connection, study_id)

    def label(
        self,
        study_ids: Sequence[str],
        suite: str | None,
        *,
        by: Actor = OPERATOR,
        if_version: int | None = None,
    ) -> None:
        """Put studies into a suite, or out of any; all of them, or none if one is refused.

        Args:
            study_ids: the studies, in any state.
            suite: label of the suite; None for none.
            by: who asks for it.
            if_version: the version that each of them must have.

        Raises:
            StudyNotFound: a study does not exist.
            Forbidden, NotOwner: the actor may not change a study.
            VersionConflict: a study changed since `if_version`.
        """
        with self._database.write() as connection:
            # Sorted, so that two requests for the same studies do not wait for each other.
            for study_id in sorted(set(study_ids)):
                suites.set_suite(connection, study_id, suite, by=by, if_version=if_version)

    def contents(self, study_id: str) -> StudyContents:
        """Return what deleting a study would remove.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return deletions.contents(connection, study_id)

    def delete(self, study_id: str, *, by: Actor = OPERATOR, if_version: int | None = None) -> StudyContents:
        """Delete a closed study for good, and return what it was.

        A dispatcher deletes its files, and copies of its trials in Optuna's tables (`remove_deleted_copies`).

        Raises:
            StudyNotFound, Forbidden, NotOwner, IllegalMove, VersionConflict: as `archive`.
        """
        with self._database.write() as connection:
            return deletions.remove(connection, study_id, by=by, if_version=if_version)

    def deleted_ids(self, study_ids: Collection[str]) -> frozenset[str]:
        """Return which of these studies were deleted."""
        with self._database.read() as connection:
            return deletions.deleted_ids(connection, study_ids)

    def last_deleted_at(self) -> datetime | None:
        """Return the time of the newest deletion; None without one."""
        with self._database.read() as connection:
            return deletions.newest(connection)
