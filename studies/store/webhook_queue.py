"""The store's methods for webhooks and their deliveries."""

__all__ = ["WebhookQueue"]

from collections.abc import Collection
from datetime import timedelta

from studies.actors import OPERATOR, Actor
from studies.store import outbox, webhooks
from studies.store.database import Database
from studies.views import Page
from studies.webhooks import (
    AttemptOutcome,
    AttemptResult,
    Delivery,
    DeliveryView,
    WebhookDetail,
    WebhookSpec,
    WebhookView,
    WebhookWithSecret,
)


class WebhookQueue:
    """Webhooks and their deliveries.

    Every method is one transaction, except `claim_deliveries`, which first looks without a write lock.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def create_webhook(self, spec: WebhookSpec, *, by: Actor = OPERATOR) -> WebhookWithSecret:
        """Create a webhook for the actor and return it with its secret, which cannot be read again.

        Raises:
            Forbidden: the actor is a viewer, or asks for all users' studies without being an admin.
            QuotaExceeded: the actor has the largest number of webhooks already.
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
        """Return a page of the actor's webhooks, newest first; an admin sees all unless `only_own` is set.

        Raises:
            SpecInvalid: the page token is invalid or belongs to another query.
        """
        with self._database.read() as connection:
            return webhooks.listed(
                connection, by=by, only_own=only_own, page_size=page_size, page_token=page_token
            )

    def webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> WebhookDetail:
        """Return a webhook with its newest deliveries.

        Raises:
            WebhookNotFound: the webhook does not exist or belongs to another user.
        """
        with self._database.read() as connection:
            return webhooks.detail(connection, webhook_id, by=by)

    def ping_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> DeliveryView:
        """Queue a ping and return it; if one is pending already, return that one.

        Raises:
            WebhookNotFound: the webhook does not exist or belongs to another user.
            Conflict: the webhook is disabled.
        """
        with self._database.write() as connection:
            return webhooks.ping(connection, webhook_id, by=by)

    def enable_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> WebhookView:
        """Enable a webhook for events from now on, and return it.

        Raises:
            WebhookNotFound: the webhook does not exist or belongs to another user.
            Conflict: the token that created it is revoked.
        """
        with self._database.write() as connection:
            return webhooks.enable(connection, webhook_id, by=by)

    def remove_webhook(self, webhook_id: str, *, by: Actor = OPERATOR) -> None:
        """Delete a webhook and its pending deliveries.

        Raises:
            WebhookNotFound: the webhook does not exist or belongs to another user.
        """
        with self._database.write() as connection:
            webhooks.remove(connection, webhook_id, by=by)

    def claim_deliveries(
        self, *, lease_s: float, limit: int = 64, limit_per_webhook: int = 2, busy: Collection[str] = ()
    ) -> tuple[Delivery, ...]:
        """Claim deliveries that are due; no other service can claim them until the lease ends.

        Args:
            lease_s: the longest time that an attempt and recording its result can take.
            limit: the largest number of deliveries to claim.
            limit_per_webhook: the same for each webhook.
            busy: ids of webhooks whose deliveries are left alone.
        """
        with self._database.read() as connection:
            if not outbox.is_any_due(connection, busy=busy):
                return ()
        with self._database.write() as connection:
            return outbox.claim(
                connection, lease_s=lease_s, limit=limit, limit_per_webhook=limit_per_webhook, busy=busy
            )

    def settle_delivery(self, claimed: Delivery, answer: AttemptResult) -> AttemptOutcome:
        """Record the result of an attempt, and return what becomes of the delivery."""
        with self._database.write() as connection:
            return outbox.settle(connection, claimed, answer)

    def release_delivery(self, claimed: Delivery) -> None:
        """Release a claimed delivery whose result is unknown, because this service is shutting down."""
        with self._database.write() as connection:
            outbox.release(connection, claimed)

    def delete_settled_deliveries(self, *, older_than: timedelta) -> int:
        """Delete deliveries that ended longer ago than this, and return how many."""
        with self._database.write() as connection:
            return outbox.delete_settled(connection, older_than=older_than)
