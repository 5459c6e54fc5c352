"""The store's methods for watching what studies and machines do, and what machines found out."""

__all__ = ["Watching"]

from studies.cluster_views import ClusterView
from studies.live_views import LiveStudy
from studies.store import cluster_queries, live_queries, stack_widths, workload_checks
from studies.store.database import Database
from studies.workload_records import WorkloadRecord


class Watching:
    """What studies do at the moment, and what machines found out; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def live(self, study_id: str) -> LiveStudy:
        """Return what a study does at the moment.

        Raises:
            StudyNotFound: the study does not exist.
        """
        with self._database.read() as connection:
            return live_queries.live(connection, study_id)

    def cluster(self) -> ClusterView:
        """Return what trains at the moment, and what waits."""
        with self._database.read() as connection:
            return cluster_queries.cluster(connection)

    def workload_record(self, workload: str) -> WorkloadRecord:
        """Return what machines found out about a workload; nothing of an unknown one."""
        with self._database.read() as connection:
            return WorkloadRecord(
                checks=workload_checks.of_workload(connection, workload),
                stack_widths=stack_widths.read(connection, workload),
            )
