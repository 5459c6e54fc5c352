"""The store's methods for dispatchers: their cards, heartbeats and claims on studies."""

__all__ = ["Dispatching"]

from collections.abc import Collection

from sqlalchemy import Connection

from studies.catalog import Catalog
from studies.cluster_views import MachineView, NodesView
from studies.store import catalog, claims, clock, summaries
from studies.store.catalog import Heartbeat
from studies.store.database import Database
from studies.trials import Claim

# Runs renew their leases within this time once they can.
_RENEWAL_S = 2.0


class Dispatching:
    """Cards, heartbeats and claims of dispatchers.

    Every method is one transaction, except `settle_lapsed_leases`, which first looks without a write lock.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def announce(self, announced: Catalog, *, dispatcher: str) -> None:
        """Store the cards that a dispatcher can run."""
        with self._database.write() as connection:
            catalog.announce(connection, announced, dispatcher=dispatcher)

    def heartbeat(
        self, dispatcher: str, *, problem: str | None = None, machine: MachineView | None = None
    ) -> None:
        """Store a dispatcher's heartbeat, its machine, and why it can start no run, if it cannot."""
        with self._database.write() as connection:
            catalog.heartbeat(connection, dispatcher=dispatcher, problem=problem, machine=machine)

    def report_nodes(self, seen: NodesView, *, cluster: str) -> None:
        """Store what a run sees of the machines of its Ray cluster."""
        with self._database.write() as connection:
            catalog.report_nodes(connection, seen, cluster=cluster)

    def sign_off(self, dispatcher: str) -> None:
        """Delete a dispatcher that has ended; its cards stay."""
        with self._database.write() as connection:
            catalog.sign_off(connection, dispatcher=dispatcher)

    def dispatchers(self) -> dict[str, Heartbeat]:
        """Return each dispatcher's last heartbeat, by this machine's clock."""
        return self._database.look(catalog.dispatchers)

    def claim_next(self, *, dispatcher: str, lease_s: float) -> Claim | None:
        """Claim the first study in the queue, or return None if the queue is empty.

        Studies whose lease has lapsed are recovered first.
        """
        with self._database.write() as connection:
            if self._may_settle(connection):
                claims.settle_lapsed_leases(connection)
            return claims.claim_next(connection, dispatcher=dispatcher, lease_s=lease_s)

    def finished_trials(self, study_id: str) -> int:
        """Return how many trials of a study's search and its confirmation have ended."""
        with self._database.read() as connection:
            return summaries.finished_trials(connection, study_id)

    def settle_lapsed_leases(self) -> None:
        """Requeue running trials of studies whose lease has lapsed; close studies that were being stopped."""
        with self._database.read() as connection:
            # The clock is compared with its last reading even if no lease has lapsed.
            if not self._may_settle(connection) or not claims.has_lapsed_leases(connection):
                return
        with self._database.write() as connection:
            if self._may_settle(connection):
                claims.settle_lapsed_leases(connection)

    def _may_settle(self, connection: Connection) -> bool:
        """Return whether a lapsed lease means that its run is lost.

        It does not if no run could renew its lease until a moment ago, because a process held SQLite's lock,
        or if the clock was just set forward.
        """
        has_jumped = self._database.jumps.has_jumped(clock.now(connection))
        return not has_jumped and not self._database.was_locked(within_s=_RENEWAL_S)

    def overdue_claims(self, held: Collection[Claim], *, closed_for_s: float) -> tuple[Claim, ...]:
        """Return the claims whose runs should have ended.

        Another attempt has the study, its lease has lapsed, or it closed more than `closed_for_s` ago.
        """
        with self._database.read() as connection:
            return claims.overdue_claims(connection, held, closed_for_s=closed_for_s)

    def release(self, claim: Claim, *, failure: str | None = None) -> None:
        """Return a study to the queue after its run has ended or, with a `failure`, close it as failed."""
        with self._database.write() as connection:
            claims.release(connection, claim, failure=failure)
