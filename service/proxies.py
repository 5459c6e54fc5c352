"""The proxy that the environment names for a URL (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`)."""

__all__ = ["Proxy", "proxy_for"]

import ipaddress
import os
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

import httpx

from service.service_unreachable import ServiceUnreachable
from service.settings import is_loopback


@dataclass(frozen=True)
class Proxy:
    """A proxy for one service.

    Attributes:
        variable: the environment variable that names it.
        url: its URL, which may contain a password.
        host: the service's host.
    """

    variable: str
    url: str
    host: str

    def __str__(self) -> str:
        """Return its URL without user name and password, and the variable."""
        return f"{self.shown_url} (set by {self.variable})"

    @property
    def shown_url(self) -> str:
        """Its URL without user name and password."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    @property
    def advice(self) -> str:
        """What a user whose proxy does not work can do."""
        return f"correct or unset {self.variable}, or add {self.host} to NO_PROXY"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for a URL, or None if requests go straight to the service.

    A proxy cannot reach this machine's loopback address, so none is used there.

    Raises:
        ServiceUnreachable: the environment names something else than the URL of a usable proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or _is_exempt(host, parts.port):
        return None
    # Includes the system's own settings on macOS and Windows.
    found = urllib.request.getproxies()
    scheme = next((scheme for scheme in (parts.scheme, "all") if found.get(scheme)), None)
    if scheme is None:
        return None
    named = found[scheme]
    proxy = Proxy(_variable(scheme), named if "://" in named else f"http://{named}", host)
    _check(proxy)
    return proxy


def _is_exempt(host: str, port: int | None) -> bool:
    entries = [entry.strip() for entry in urllib.request.getproxies().get("no", "").split(",")]
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        for entry in entries:
            # Networks, such as 10.0.0.0/8, which the standard library does not know.
            with suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
    return "*" in entries or bool(urllib.request.proxy_bypass(f"{host}:{port}" if port else host))


def _variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "the system's settings")


def _check(proxy: Proxy) -> None:
    try:
        is_valid = bool(httpx.Proxy(proxy.url).url.host)
    except (httpx.InvalidURL, ValueError):
        is_valid = False
    if not is_valid:
        raise ServiceUnreachable(
            f"{proxy.variable}: expected the URL of a proxy, such as http://proxy.lab:3128, got "
            f"{proxy.shown_url!r}; {proxy.advice}"
        )
    if proxy.url.startswith("socks") and find_spec("socksio") is None:
        raise ServiceUnreachable(
            f"{proxy.variable} names a SOCKS proxy, which needs the package socksio; install it with "
            f"`pip install 'httpx[socks]'`, or {proxy.advice.partition(', or ')[2]}"
        )
