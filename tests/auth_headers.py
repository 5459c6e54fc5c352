"""Authorization headers for requests."""

__all__ = ["bearer"]


def bearer(secret: str) -> dict[str, str]:
    """Return the authorization header for a token."""
    return {"authorization": f"Bearer {secret}"}
