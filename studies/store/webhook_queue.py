"""Who is told of what happens to studies: webhooks, and what is on its way to them."""

__all__ = ["WebhookQueue"]

from collections.abc import Collection
from datetime import timedelta

from studies.actors import OPERATOR, Actor
from studies.store import outbox, webhooks
from studies.store.engine import Database
from studies.views import Page
from studies.webhooks import (
    Answer,
    Delivery,
    DeliveryView,
    Settlement,
    WebhookDetail,
    WebhookMade,
    WebhookSpec,
    WebhookView,
)


class WebhookQueue:
    """The part of the store that knows webhooks.

    Every method is one transaction, but for `claim_deliveries`, which looks first.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def create_webhook(self, spec: WebhookSpec, *, by: Actor = OPERATOR) -> WebhookMade:
        """Make a webhook of the actor's and return it with its secret, this once.

        Raises:
            Forbidden: the actor is a viewer, or no admin and asks for everybody's studies.
            QuotaExceeded: the actor has as many as one may have.
        """
        with self._database.write() as connection:
            return webhooks.create(connection, spec, by=by)

    def webhooks(
        self,
        *,
        by: Actor = OPERATOR,
        only_own: bool = False,
        page_size: int = 50,
        page_token: str | None = None,
    ) -> Page[WebhookView]:
        """Return a page of the actor's webhooks, newest first.

        For an admin it is of all, unless only their own are asked for.

        Raises:
            SpecInvalid: the page token is none of ours.
        """
        with self._database.read() as connection:
            return webhooks.listed(
                connection, by=by, only_own=only_own, page_size=page_size, page_token=page_token
            )

    def webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> WebhookDetail:
        """Return a webhook with its newest deliveries.

        Raises:
            WebhookNotFound: there is none, or it is another's.
        """
        with self._database.read() as connection:
            return webhooks.detail(connection, webhook_id, by=by)

    def ping_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> DeliveryView:
        """Have a ping sent, once, and return it; one that is still on its way is returned instead.

        Raises:
            WebhookNotFound: there is none, or it is another's.
            Conflict: it is disabled.
        """
        with self._database.write() as connection:
            return webhooks.ping(connection, webhook_id, by=by)

    def enable_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> WebhookView:
        """Tell a webhook again what happens from now on, and return it.

        Raises:
            WebhookNotFound: there is none, or it is another's.
            Conflict: the token that made it is revoked.
        """
        with self._database.write() as connection:
            return webhooks.enable(connection, webhook_id, by=by)

    def remove_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> None:
        """Remove a webhook, and what it was still to be told.

        Raises:
            WebhookNotFound: there is none, or it is another's.
        """
        with self._database.write() as connection:
            webhooks.remove(connection, webhook_id, by=by)

    def claim_deliveries(
        self, *, lease_s: float, most: int = 64, most_each: int = 2, busy: Collection[str] = ()
    ) -> tuple[Delivery, ...]:
        """Take on deliveries that are due; nobody else does so until the lease ends.

        Args:
            lease_s: how long an attempt, and noting what came of it, can take at most.
            most: how many to take on.
            most_each: the same of one webhook's.
            busy: webhooks of which none are to be taken on.
        """
        with self._database.read() as connection:
            if not outbox.is_any_due(connection, busy=busy):
                return ()
        with self._database.write() as connection:
            return outbox.claim(connection, lease_s=lease_s, most=most, most_each=most_each, busy=busy)

    def settle_delivery(self, claimed: Delivery, answer: Answer) -> Settlement:
        """Note what came of an attempt, and return what became of the delivery.

        It is tried again later, or that was all.
        """
        with self._database.write() as connection:
            return outbox.settle(connection, claimed, answer)

    def release_delivery(self, claimed: Delivery) -> None:
        """Give back a delivery of which nothing is known, because this service ends."""
        with self._database.write() as connection:
            outbox.release(connection, claimed)

    def delete_settled_deliveries(self, *, older_than: timedelta) -> int:
        """Remove deliveries that were settled longer ago; return how many."""
        with self._database.write() as connection:
            return outbox.forget(connection, older_than=older_than)
