"""Webhook deliveries: checked addresses, signed requests, and retries."""

__all__: list[str] = []
