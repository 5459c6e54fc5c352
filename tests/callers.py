"""Those who ask a service that has tokens."""

__all__ = ["bearer"]


def bearer(secret: str) -> dict[str, str]:
    """Return the header with which the holder of a token asks."""
    return {"authorization": f"Bearer {secret}"}
