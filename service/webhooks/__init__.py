"""Sending what webhooks are told: to addresses that may be called, signed, and again until it is taken."""

__all__: list[str] = []
