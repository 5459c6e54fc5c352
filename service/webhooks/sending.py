"""One attempt to deliver: looked up, judged, signed and sent, and what came of it.

It takes ten seconds at most and never raises.
"""

__all__ = ["Sender"]

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Self

import anyio
import anyio.to_thread
import httpx

from service.webhooks.addresses import AddressRefused, permitted_addresses
from service.webhooks.signing import signed_headers
from studies.webhooks import AttemptResult, Delivery

_CONNECT_S = 3.0
_MOST_ADDRESSES = 3
# Nothing that a receiver says is of use; it may say so much before the line is cut, so that its own log shows
# no fault.
_READ_BYTES = 4096
_READ_S = 0.5
_LONGEST_WAIT_SAID_S = 10**6


class Sender:
    """Sends deliveries, each over a line of its own.

    Proxies of the environment are not used: what lies behind one cannot be judged.

    Args:
        allow: networks besides the internet that may be called.
        version: version of the service, for its name.
        lookups: at most so many names are looked up at once.
        whole_s: how long an attempt may take.
    """

    def __init__(self, *, allow: Sequence[str], version: str, lookups: int, whole_s: float = 10.0) -> None:
        self._allow = tuple(allow)
        self._whole_s = whole_s
        self._lookups = anyio.CapacityLimiter(lookups)
        self._agent = f"Tangent/{version} (webhooks)"
        # A line that is kept is known by its address: the next receiver there, of another name, would be
        # spoken to over it.
        self._limits = httpx.Limits(max_keepalive_connections=0)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Return the sender, ready to send."""
        # Reads a few hundred certificates.
        tls = await anyio.to_thread.run_sync(httpx.create_ssl_context)
        timeout = httpx.Timeout(self._whole_s, connect=_CONNECT_S)
        self._client = httpx.AsyncClient(
            verify=tls, trust_env=False, limits=self._limits, timeout=timeout, follow_redirects=False
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close every line."""
        assert self._client is not None, "entered"
        await self._client.aclose()

    async def send(self, delivery: Delivery) -> AttemptResult:
        """Return what came of sending a delivery once."""
        try:
            with anyio.fail_after(self._whole_s):
                return await self._send(delivery)
        except TimeoutError:
            return AttemptResult(error=f"no answer within {self._whole_s:g} s")
        except AddressRefused as error:
            return AttemptResult(error=str(error))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return AttemptResult(error=f"cannot connect: {_said(error)}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return AttemptResult(error=f"the line broke before an answer came: {_said(error)}")

    async def _send(self, delivery: Delivery) -> AttemptResult:
        url = httpx.URL(delivery.url)
        is_tls = url.scheme == "https"
        port = url.port or (443 if is_tls else 80)
        host = url.raw_host.decode("ascii")
        look_up = partial(permitted_addresses, host, port, is_tls=is_tls, allow=self._allow)
        # A name server that does not answer must hold up no more than this attempt.
        addresses = await anyio.to_thread.run_sync(look_up, limiter=self._lookups, abandon_on_cancel=True)
        *others, last = addresses[:_MOST_ADDRESSES]
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._post(delivery, url, host, address)
        return await self._post(delivery, url, host, last)

    async def _post(self, delivery: Delivery, url: httpx.URL, host: str, address: str) -> AttemptResult:
        """Send a delivery to one address of its host, in the host's name."""
        assert self._client is not None, "entered"
        body = delivery.body.encode()
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": self._agent,
            "connection": "close",
            **signed_headers(delivery.secret, message_id=delivery.id, timestamp=int(time.time()), body=body),
        }
        # The certificate has to be the host's, whatever address it has.
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            headers=headers,
            content=body,
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        # It has answered, and its time being over just now must not make that undone.
        with anyio.move_on_after(_READ_S, shield=True):
            await _read_on(response)
        return _answer(response)


async def _read_on(response: httpx.Response) -> None:
    """Read a little of what a receiver says, and close the line."""
    try:
        read = 0
        with suppress(httpx.HTTPError):
            async for piece in response.aiter_raw(_READ_BYTES):
                read += len(piece)
                if read >= _READ_BYTES:
                    return
    finally:
        await response.aclose()


def _answer(response: httpx.Response) -> AttemptResult:
    status = response.status_code
    answer = AttemptResult(
        status_code=status, retry_after_s=_seconds(response.headers.get("retry-after", ""))
    )
    if answer.is_delivered:
        return answer
    error = f"the receiver answered {status} {_phrase(status)}".rstrip()
    if response.has_redirect_location:
        error += "; redirects are not followed: make a webhook of the address that it leads to"
    return AttemptResult(status_code=status, error=error, retry_after_s=answer.retry_after_s)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _seconds(text: str) -> float:
    """Return the seconds that `Retry-After` names; 0 where it names none, or a date."""
    return (
        float(min(int(text), _LONGEST_WAIT_SAID_S))
        if text.isascii() and text.isdecimal() and len(text) < 18
        else 0.0
    )


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
