"""The client's requests about webhooks."""

__all__ = ["WebhookRequests"]


from service.documents import Document, to_document
from service.transport import Transport, path_segment
from studies.views import Page
from studies.webhooks import DeliveryView, WebhookDetail, WebhookSpec, WebhookView, WebhookWithSecret


class WebhookRequests:
    """The methods of the client that manage webhooks."""

    _transport: Transport

    def create_webhook(self, spec: WebhookSpec | Document) -> WebhookWithSecret:
        """Create a webhook and return it with its secret, which cannot be read again.

        Raises:
            ProblemError: the service refused it; `errors` lists every fault.
        """
        body = to_document(spec, expected="a webhook")
        return self._transport.read(
            WebhookWithSecret, self._transport.send("POST", "/v1/webhooks", json=body)
        )

    def webhooks(self, *, page_size: int = 50, page_token: str | None = None) -> Page[WebhookView]:
        """Return a page of the caller's webhooks, or of all webhooks for an admin, newest first."""
        return self._transport.get(
            Page[WebhookView], "/v1/webhooks", {"page_size": page_size, "page_token": page_token}
        )

    def webhook(self, webhook_id: str) -> WebhookDetail:
        """Return a webhook with its newest deliveries."""
        return self._transport.get(WebhookDetail, f"/v1/webhooks/{path_segment(webhook_id)}")

    def test_webhook(self, webhook_id: str) -> DeliveryView:
        """Send a ping and return its delivery; the outcome will be among the webhook's deliveries."""
        return self._transport.read(
            DeliveryView, self._transport.send("POST", f"/v1/webhooks/{path_segment(webhook_id)}:test")
        )

    def enable_webhook(self, webhook_id: str) -> WebhookView:
        """Enable a disabled webhook, which then receives events from now on."""
        return self._transport.read(
            WebhookView, self._transport.send("POST", f"/v1/webhooks/{path_segment(webhook_id)}:enable")
        )

    def remove_webhook(self, webhook_id: str) -> None:
        """Remove a webhook and its pending deliveries."""
        self._transport.send("DELETE", f"/v1/webhooks/{path_segment(webhook_id)}")
