"""The exception of a client that cannot talk to a service."""

__all__ = ["ServiceUnreachable"]

from studies.errors import TangentError


class ServiceUnreachable(TangentError):
    """No service answers at the URL, or it is not a Tangent service, or the way to it is blocked."""
