"""The addresses that webhooks may call: the internet, and networks that the operator has allowed.

A submitter names a URL, and the service calls it. Without this check they could reach every machine of the
service's network, services that listen only to its own machine, and a cloud's metadata with its keys. So the
name is looked up once, each of its addresses is checked, and the connection goes to an address that passed:
a later change of the name (DNS rebinding) has no effect.
"""

__all__ = ["AddressRefused", "check_url", "is_literal", "is_permitted", "permitted_addresses"]

import ipaddress
import socket
from collections.abc import Sequence

import httpx

from studies.errors import SpecProblem, WebhookInvalid

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The only part of IPv6 that is assigned to the internet; the rest is special or embeds an IPv4 address in
# some way.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# The parts of IANA's special-purpose registries that Python counts as global, or did in an earlier release,
# and the metadata service of Azure. An anycast address leads to a machine of the service's own network if
# that network announces one.
# Source: https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",
        "192.0.0.0/24",  # Protocol assignments, among them the metadata service of Oracle.
        "192.31.196.0/24",  # AS112, and below its direct delegation.
        "192.175.48.0/24",
        "192.52.193.0/24",  # AMT relays.
        "192.88.99.0/24",  # 6to4 relays.
        "2001::/23",  # Protocol assignments: Teredo, AMT, AS112, ORCHID, DRIP.
        "2001:db8::/32",  # Documentation, and below its newer range.
        "3fff::/20",
        "2002::/16",  # 6to4, which embeds any IPv4 address.
        "2620:4f:8000::/48",  # AS112.
    )
)
_ADVICE = "the operator of the service can allow its network (TANGENT_WEBHOOK_ALLOW)"


class AddressRefused(Exception):
    """A host is unknown or has no address that may be called: the message does not reveal which."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} cannot be called: the name does not exist, or it has no address that a webhook may "
            "call, which is a public one with https://, or one in a network that the operator of the service "
            "allows (TANGENT_WEBHOOK_ALLOW)"
        )


def is_permitted(address: str, *, is_tls: bool, allow: Sequence[str]) -> bool:
    """Return whether an IP address may be called: any address of the internet with TLS, or an allowed one.

    Args:
        address: IPv4 or IPv6.
        is_tls: whether the connection is encrypted.
        allow: addresses and networks that are allowed with and without TLS, such as `10.0.0.0/8`.
    """
    found = _plain(address)
    if any(found in ipaddress.ip_network(network) for network in allow):
        return True
    return is_tls and _is_public(found)


def _plain(address: str) -> _Address:
    # A link-local address may name its interface. An IPv4 address may be written as an IPv6 address and then
    # leads to the same machine.
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _is_public(address: _Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_IPV6:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    )


def is_literal(host: str) -> bool:
    """Return whether a host is an address, not a name that must be looked up."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def check_url(url: str, *, allow: Sequence[str]) -> None:
    """Raise WebhookInvalid if a URL can never be called, as far as that is known without looking its host up.

    Raises:
        WebhookInvalid: the URL is not valid, does not use https outside the allowed networks, or names an
            address that may not be called.
    """
    try:
        parsed = httpx.URL(url)
        host, is_tls = parsed.host, parsed.scheme == "https"
    except httpx.InvalidURL:
        raise _invalid(
            "expected a URL such as https://hooks.example/tangent; its host is not a valid name"
        ) from None
    if not is_tls and not allow:
        raise _invalid(f"expected https://; http:// may only call allowed networks, and {_ADVICE}")
    try:
        is_refused = not is_permitted(host, is_tls=is_tls, allow=allow)
    except ValueError:
        # A name: its addresses are checked at each delivery.
        is_refused = host.lower().rstrip(".") in {"localhost", "localhost.localdomain"} and not allow
    if is_refused:
        raise _invalid(f"{host} is not an address that a webhook may call; {_ADVICE}")


def _invalid(message: str) -> WebhookInvalid:
    return WebhookInvalid([SpecProblem("/url", message)])


def permitted_addresses(host: str, port: int, *, is_tls: bool, allow: Sequence[str]) -> tuple[str, ...]:
    """Look a host up and return those of its addresses that may be called, at least one.

    Raises:
        AddressRefused: the host has no address, or none that may be called.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        raise AddressRefused(host) from None
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    permitted = tuple(address for address in addresses if is_permitted(address, is_tls=is_tls, allow=allow))
    if not permitted:
        raise AddressRefused(host)
    return permitted
