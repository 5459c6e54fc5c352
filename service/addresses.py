"""Where a request came from: the address that connected, or, where that is a proxy which is trusted, the one that the proxy names."""

__all__ = ["client_address"]

import ipaddress
from collections.abc import Iterable, Sequence


def client_address(peer: str | None, forwarded: Iterable[str], *, trusted: Sequence[str]) -> str | None:
    """Return the address of whoever sent a request; None where nothing is known of it.

    The last address of `X-Forwarded-For` that is no trusted proxy's: what stands before it the sender may have made up.

    Args:
        peer: the address that connected.
        forwarded: the values of `X-Forwarded-For`, in their order.
        trusted: addresses and networks of proxies, as `10.0.0.0/8`.
    """
    if peer is None or not _is_among(peer, trusted):
        return peer
    found = peer
    for hop in reversed([part.strip() for value in forwarded for part in value.split(",")]):
        if not _is_address(hop):
            return found
        found = hop
        if not _is_among(hop, trusted):
            return found
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_among(address: str, networks: Sequence[str]) -> bool:
    return _is_address(address) and any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)
