"""Why a client's request failed, in one sentence with the cause and the fix."""

__all__ = ["describe_failure", "is_final"]

import os
import socket
import ssl
from typing import Final

import httpx

from service.proxies import Proxy
from studies.errors import causes

# OpenSSL's numbers for reasons not to trust a certificate.
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_NO_AUTHORITY: Final = frozenset({18, 19, 20, 21})
_ANOTHER_NAME: Final = frozenset({62, 64})
# What OpenSSL reads in an answer that is not TLS.
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}
)

# The connection failed before the service received anything, or there is nothing to connect to.
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def is_final(error: httpx.TransportError) -> bool:
    """Return whether the same request would fail again, so that it need not be repeated."""
    return isinstance(error, _NOT_SENT) or _is_not_http(error)


def _is_not_http(error: httpx.TransportError) -> bool:
    return isinstance(error, httpx.RemoteProtocolError) and "illegal" in str(error)


def describe_failure(error: httpx.TransportError, url: str, proxy: Proxy | None) -> str:
    """Return why no response came, and what to do, in one sentence.

    Args:
        error: the failure.
        url: the service's URL.
        proxy: the proxy that was used.
    """
    for cause in causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _describe_certificate(cause, url)
            case ssl.SSLError():
                return _describe_tls(cause, url)
            case socket.gaierror() if proxy is None:
                return f"the host of {url} is unknown; check the URL, and whether this machine's DNS knows it"
            case _:
                pass
    match error:
        case httpx.ProxyError():
            return f"the proxy {proxy} refused the request: {_words(error)}; {proxy.advice if proxy else ''}"
        case httpx.ConnectError() | httpx.ConnectTimeout() if proxy is not None:
            return f"the proxy {proxy} does not answer; {proxy.advice}"
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return f"no service answers at {url}; start one with `tangent up`"
        case httpx.TimeoutException():
            return f"the service at {url} did not answer in time{_through(proxy)}"
        case _ if _is_not_http(error):
            return f"{url} does not answer with HTTP; if the service uses TLS, write https:// in its URL"
        case _:
            return f"the connection to {url} broke: {_words(error)}{_through(proxy)}"


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _through(proxy: Proxy | None) -> str:
    return f"; the request went through the proxy {proxy}" if proxy else ""


def _describe_certificate(error: ssl.SSLCertVerificationError, url: str) -> str:
    reason = error.verify_message
    if error.verify_code in _NO_AUTHORITY:
        file = os.environ.get("SSL_CERT_FILE")
        known = f"; the authorities in SSL_CERT_FILE, {file}, did not sign it" if file else ""
        advice = "set SSL_CERT_FILE to a file with the certificate of the authority that signed it"
    elif error.verify_code in _ANOTHER_NAME:
        known, advice = "", "use a host name in the URL that the certificate is for"
    elif error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        known, advice = "", "renew the certificate of the service, and check this machine's clock"
    else:
        known, advice = "", "renew the certificate of the service"
    return f"the certificate of {url} is not trusted: {reason}{known}; {advice}"


def _describe_tls(error: ssl.SSLError, url: str) -> str:
    if error.reason in _NOT_TLS:
        return f"{url} does not answer with TLS; if the service speaks plain HTTP, write http:// in its URL"
    return f"{url} ended the TLS handshake: {(error.reason or _words(error)).replace('_', ' ').lower()}"
