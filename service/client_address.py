"""The address that a request came from: the peer's, or the one that a trusted proxy names."""

__all__ = ["client_address", "neighbourhood"]

import ipaddress
from collections.abc import Iterable, Sequence
from functools import cache


def client_address(peer: str | None, forwarded: Iterable[str], *, trusted: Sequence[str]) -> str | None:
    """Return the address of the sender of a request; None if it is unknown.

    That is the last address of `X-Forwarded-For` that does not belong to a trusted proxy. The sender may have
    made up the addresses before it.

    Args:
        peer: the address that connected.
        forwarded: the values of `X-Forwarded-For`, in order.
        trusted: addresses and networks of trusted proxies, such as `10.0.0.0/8`.
    """
    found = None if peer is None else _address(peer)
    if found is None or not _is_among(found, trusted):
        return peer if found is None else str(found)
    for hop in reversed([part.strip() for value in forwarded for part in value.split(",")]):
        previous = _address(hop)
        if previous is None:
            break
        found = previous
        if not _is_among(found, trusted):
            break
    return str(found)


def neighbourhood(address: str | None) -> str:
    """Return the key by which requests of an address are counted.

    For IPv6 it is the /56 network: one subscriber usually has all addresses in it.

    Source: RIPE-690, section 4.2.
    """
    found = None if address is None else _address(address)
    if found is None or found.version == 4:
        return str(found or address)
    return str(ipaddress.ip_network((int(found), 56), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, or None if the text is not one.

    An IPv4 address in IPv6 notation, such as `::ffff:10.0.0.1`, is returned as the IPv4 address. The zone of
    an address, such as `%eth0`, is dropped: it may be any text, and the audit log shows addresses.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if found.version == 6 else found


def _is_among(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[str]) -> bool:
    return any(address in _network(network) for network in networks)


@cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
