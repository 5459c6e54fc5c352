"""Where a webhook may lead: to the internet, and to what the operator has allowed.

To nothing else that this machine can reach.

Whoever may submit studies names an address, and the service calls it. Without a fence that would be a way to
every machine of the network behind it, to services that only listen to this machine, and to what a cloud
tells its machines of their own keys. So a name is looked up once, each address that it has is judged, and the
connection goes to an address that was found good: what the name stands for a moment later does not matter.
"""

__all__ = ["AddressRefused", "check_url", "is_permitted", "permitted_addresses"]

import ipaddress
import socket
from collections.abc import Sequence

import httpx

from studies.errors import SpecProblem, WebhookInvalid

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Of IPv6 only this is handed out to the internet; all else is special, or carries an IPv4 address in a way of
# its own.
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
# These look like any others: where Azure's machines, and Oracle's, ask for what concerns themselves; and
# relays into other networks.
_SPECIAL = tuple(
    ipaddress.ip_network(network) for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")
)
_ADVICE = "whoever runs the service can allow its network (TANGENT_WEBHOOK_ALLOW)"


class AddressRefused(Exception):
    """This address may not be called, or there is none; the message says why, and not what it is.

    That is not everybody's to know.
    """


def is_permitted(address: str, *, is_tls: bool, allow: Sequence[str]) -> bool:
    """Return whether an IP address may be called.

    One of the internet by TLS, one in an allowed network in any way.

    Args:
        address: IPv4 or IPv6.
        is_tls: whether what is sent can be read and changed by nobody on its way.
        allow: addresses and networks, as `10.0.0.0/8`.
    """
    found = _plain(address)
    if any(found in ipaddress.ip_network(network) for network in allow):
        return True
    return is_tls and _is_public(found)


def _plain(address: str) -> _Address:
    # A link-local address may name its interface; an IPv4 address may be written as an IPv6 one, and leads to
    # the same machine.
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.sixtofour
        if (
            address not in _GLOBAL_IPV6
            or address.teredo is not None
            or (embedded is not None and not _is_public(embedded))
        ):
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    )


def check_url(url: str, *, allow: Sequence[str]) -> None:
    """Return when a webhook of this URL could be delivered.

    That is as far as that can be told without looking its host up.

    Raises:
        WebhookInvalid: the URL is no address, is not https where that is needed, or names an address that may
            not be called.
    """
    try:
        parsed = httpx.URL(url)
        host, is_tls = parsed.host, parsed.scheme == "https"
    except httpx.InvalidURL:
        raise WebhookInvalid(
            [SpecProblem("/url", "expected a URL such as https://hooks.example/tangent; its host is no name")]
        ) from None
    if not is_tls and not allow:
        raise WebhookInvalid(
            [
                SpecProblem(
                    "/url", f"expected https://; http:// only leads into allowed networks, and {_ADVICE}"
                )
            ]
        )
    try:
        is_refused = not is_permitted(host, is_tls=is_tls, allow=allow)
    except ValueError:
        # A name: what it stands for is judged whenever something is sent.
        is_refused = host.lower().rstrip(".") in {"localhost", "localhost.localdomain"} and not allow
    if is_refused:
        raise WebhookInvalid(
            [SpecProblem("/url", f"{host} is no address of the internet that can be called so; {_ADVICE}")]
        )


def permitted_addresses(host: str, port: int, *, is_tls: bool, allow: Sequence[str]) -> tuple[str, ...]:
    """Return those of a host's addresses that may be called, at least one.

    Waits for the name to be looked up.

    Raises:
        AddressRefused: it has none, or none that may be called.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        raise AddressRefused(f"the name {host} cannot be looked up") from None
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    permitted = tuple(address for address in addresses if is_permitted(address, is_tls=is_tls, allow=allow))
    if permitted:
        return permitted
    if not is_tls and any(is_permitted(address, is_tls=True, allow=allow) for address in addresses):
        raise AddressRefused(f"{host} is outside the allowed networks, where only https:// is sent")
    raise AddressRefused(f"{host} is no host of the internet; {_ADVICE}")
