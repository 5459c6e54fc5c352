"""One attempt at a delivery: resolve the host, check its addresses, sign, send, and read the result.

An attempt takes ten seconds at most and never raises.
"""

__all__ = ["Sender"]

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Self

import anyio
import anyio.to_thread
import httpx
from standardwebhooks.webhooks import Webhook

from service.webhooks.addresses import AddressRefused, is_literal, permitted_addresses
from studies.webhooks import AttemptResult, Delivery

_CONNECT_S = 3.0
# Of an attempt's time: long enough for a resolver whose first name server does not answer.
_LOOKUP_SHARE = 0.6
_MAX_ADDRESSES = 3
# The receiver's response body is of no use. A little is read before the connection is closed, so that the
# receiver does not log an error.
_READ_BYTES = 4096
_READ_S = 0.5
_MAX_RETRY_AFTER_S = 10**6


class Sender:
    """Sends deliveries, each over a new connection.

    It does not use proxies from the environment, because addresses behind a proxy cannot be checked.

    Args:
        allow: networks besides the internet that may be called.
        version: version of the service, for the user agent.
        lookups: the most host names that are resolved at once.
        timeout_s: how long an attempt may take.
    """

    def __init__(self, *, allow: Sequence[str], version: str, lookups: int, timeout_s: float = 10.0) -> None:
        self._allow = tuple(allow)
        self._timeout_s = timeout_s
        self._lookup_s = _LOOKUP_SHARE * timeout_s
        self._lookups = anyio.CapacityLimiter(lookups)
        self._user_agent = f"Tangent/{version} (webhooks)"
        # A pooled connection is identified by its address: another receiver at the same address but with
        # another name would get its requests over it.
        self._limits = httpx.Limits(max_keepalive_connections=0)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Open the HTTP client."""
        # In a thread, because it reads a few hundred certificates.
        tls = await anyio.to_thread.run_sync(httpx.create_ssl_context)
        timeout = httpx.Timeout(self._timeout_s, connect=_CONNECT_S)
        self._client = httpx.AsyncClient(
            verify=tls, trust_env=False, limits=self._limits, timeout=timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close the HTTP client."""
        assert self._client is not None, "entered"
        await self._client.aclose()

    async def send(self, delivery: Delivery) -> AttemptResult:
        """Send a delivery once and return the result."""
        try:
            with anyio.fail_after(self._timeout_s):
                return await self._send(delivery)
        except TimeoutError:
            return AttemptResult(error=f"no answer within {self._timeout_s:g} s")
        except AddressRefused as error:
            return AttemptResult(error=str(error))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return AttemptResult(error=f"cannot connect: {_message(error)}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return AttemptResult(error=f"the connection failed before a response came: {_message(error)}")

    async def _send(self, delivery: Delivery) -> AttemptResult:
        url = httpx.URL(delivery.url)
        is_tls = url.scheme == "https"
        port = url.port or (443 if is_tls else 80)
        host = url.raw_host.decode("ascii")
        addresses = await self._look_up(host, port, is_tls=is_tls)
        *others, last = addresses[:_MAX_ADDRESSES]
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._post(delivery, url, host, address)
        return await self._post(delivery, url, host, last)

    async def _look_up(self, host: str, port: int, *, is_tls: bool) -> tuple[str, ...]:
        """Return the addresses of a host that may be called.

        A host that does not exist, one whose addresses are refused, and one whose name server does not answer
        all have the same result after the same time, or webhooks would reveal the host names of the
        service's own network.

        Raises:
            AddressRefused: there is none.
        """
        look_up = partial(permitted_addresses, host, port, is_tls=is_tls, allow=self._allow)
        ends_at = anyio.current_time() + self._lookup_s
        with anyio.move_on_after(self._lookup_s), suppress(AddressRefused):
            # A name server that does not answer must delay only this attempt.
            return await anyio.to_thread.run_sync(look_up, limiter=self._lookups, abandon_on_cancel=True)
        if not is_literal(host):
            await anyio.sleep_until(ends_at)
        raise AddressRefused(host)

    async def _post(self, delivery: Delivery, url: httpx.URL, host: str, address: str) -> AttemptResult:
        """Send a delivery to one address of its host."""
        assert self._client is not None, "entered"
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": self._user_agent,
            "connection": "close",
            **_signed_headers(delivery, datetime.now(UTC)),
        }
        # The certificate must be valid for the host, whatever its address.
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            headers=headers,
            content=delivery.body.encode(),
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        # The receiver has answered; a timeout at this moment must not discard the result.
        with anyio.move_on_after(_READ_S, shield=True):
            await _drain(response)
        return _result(response)


def _signed_headers(delivery: Delivery, at: datetime) -> dict[str, str]:
    """Return the headers of Standard Webhooks 1.0.0.

    The id is the same for every attempt, so that a receiver can drop duplicates; the timestamp is the
    attempt's, because receivers refuse an old one as a replay.
    """
    return {
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(delivery.secret).sign(delivery.id, at, delivery.body),
    }


async def _drain(response: httpx.Response) -> None:
    """Read a little of a response and close the connection."""
    try:
        read = 0
        with suppress(httpx.HTTPError):
            async for piece in response.aiter_raw(_READ_BYTES):
                read += len(piece)
                if read >= _READ_BYTES:
                    return
    finally:
        await response.aclose()


def _result(response: httpx.Response) -> AttemptResult:
    status = response.status_code
    retry_after_s = _retry_after_s(response.headers.get("retry-after", ""))
    answer = AttemptResult(status_code=status, retry_after_s=retry_after_s)
    if answer.is_delivered:
        return answer
    error = f"the receiver answered {status} {_phrase(status)}".rstrip()
    if response.has_redirect_location:
        error += "; redirects are not followed: create a webhook with the address that it redirects to"
    return AttemptResult(status_code=status, error=error, retry_after_s=retry_after_s)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _retry_after_s(text: str) -> float:
    """Return the seconds of a `Retry-After` header; 0 if it is missing, a date or not valid."""
    return (
        float(min(int(text), _MAX_RETRY_AFTER_S))
        if text.isascii() and text.isdecimal() and len(text) < 18
        else 0.0
    )


def _message(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
