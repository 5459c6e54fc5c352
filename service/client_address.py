"""Where a request came from.

The address that connected, or, where that is a proxy which is trusted, the one that the proxy names.
"""

__all__ = ["client_address", "neighbourhood"]

import ipaddress
from collections.abc import Iterable, Sequence
from functools import cache


def client_address(peer: str | None, forwarded: Iterable[str], *, trusted: Sequence[str]) -> str | None:
    """Return the address of whoever sent a request; None where nothing is known of it.

    The last address of `X-Forwarded-For` that is no trusted proxy's: what stands before it the sender may
    have made up.

    Args:
        peer: the address that connected.
        forwarded: the values of `X-Forwarded-For`, in their order.
        trusted: addresses and networks of proxies, as `10.0.0.0/8`.
    """
    found = None if peer is None else _address(peer)
    if found is None or not _is_among(found, trusted):
        return peer if found is None else str(found)
    for hop in reversed([part.strip() for value in forwarded for part in value.split(",")]):
        further = _address(hop)
        if further is None:
            break
        found = further
        if not _is_among(found, trusted):
            break
    return str(found)


def neighbourhood(address: str | None) -> str:
    """Return what an address counts as where callers are counted.

    Of IPv6 its /64, for whoever has one address there has all of them.
    """
    found = None if address is None else _address(address)
    if found is None or found.version == 4:
        return str(found or address)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, or None for any other text.

    One of IPv4 that a socket of IPv6 tells of, such as `::ffff:10.0.0.1`, is returned as what it is.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if found.version == 6 else found


def _is_among(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[str]) -> bool:
    return any(address in _network(network) for network in networks)


@cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
