"""Which dispatchers there are, what they offer, and which of them answers for which study."""

__all__ = ["Dispatching"]

from collections.abc import Collection
from datetime import datetime

from studies.catalog import Catalog
from studies.store import catalog, claims, summaries
from studies.store.engine import Database
from studies.trials import Claim


class Dispatching:
    """The part of the store that dispatchers speak to.

    Every method is one transaction, but for `settle_lapsed_leases`, which looks first.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def announce(self, announced: Catalog, *, dispatcher: str) -> None:
        """Offer cards in the name of a dispatcher."""
        with self._database.write() as connection:
            catalog.announce(connection, announced, dispatcher=dispatcher)

    def heartbeat(self, dispatcher: str) -> None:
        """Note that a dispatcher lives."""
        with self._database.write() as connection:
            catalog.heartbeat(connection, dispatcher=dispatcher)

    def sign_off(self, dispatcher: str) -> None:
        """Note that a dispatcher has ended."""
        with self._database.write() as connection:
            catalog.sign_off(connection, dispatcher=dispatcher)

    def dispatchers(self) -> dict[str, datetime]:
        """Return when each dispatcher was last heard of, by this machine's clock."""
        with self._database.read() as connection:
            return catalog.dispatchers(connection)

    def claim_next(self, *, dispatcher: str, lease_s: float) -> Claim | None:
        """Claim the study whose turn it is; None when none waits for a run."""
        with self._database.write() as connection:
            return claims.claim_next(connection, dispatcher=dispatcher, lease_s=lease_s)

    def finished_trials(self, study_id: str) -> int:
        """Return how many trials of a study's search and its confirmation have ended."""
        with self._database.read() as connection:
            return summaries.finished_trials(connection, study_id)

    def settle_lapsed_leases(self) -> None:
        """Settle the studies whose lease has lapsed.

        Nothing in them stays running, and what was to end is ended.
        """
        with self._database.read() as connection:
            if not claims.has_lapsed_leases(connection):
                return
        with self._database.write() as connection:
            claims.settle_lapsed_leases(connection)

    def overdue_claims(self, held: Collection[Claim], *, closed_for_s: float) -> tuple[Claim, ...]:
        """Return those of some claims whose runs should have ended.

        Another attempt has the study, none may have it, or it was closed so long ago.
        """
        with self._database.read() as connection:
            return claims.overdue_claims(connection, held, closed_for_s=closed_for_s)

    def release(self, claim: Claim, *, failure: str | None = None) -> None:
        """Give a study back after its run has ended, or close it as failed."""
        with self._database.write() as connection:
            claims.release(connection, claim, failure=failure)
