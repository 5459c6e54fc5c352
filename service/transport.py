"""The line between the client and a service.

Requests that are repeated where that is safe, answers read as models, refusals raised.

`ProblemError` is what the service said; `ServiceUnreachable` that it said nothing.
"""

__all__ = ["ProblemError", "ServiceUnreachable", "Transport", "path_segment"]

import itertools
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from http import HTTPStatus
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from service.errors import PROBLEM_JSON, STORE_UNAVAILABLE, FieldError, Problem
from service.settings import is_loopback
from studies.errors import TangentError

_T = TypeVar("_T", bound=BaseModel)
_ATTEMPTS = 3
_RETRY_S = 0.5
# For so long a submission whose answer was lost is sent again.
_UNKNOWN_S = 30.0
# A service that is asked too much says for how long to wait.
_MOST_PATIENCE_S = 10.0
# Longer than three of the service's heartbeats: silence beyond it means that the line is dead.
_SILENCE_S = 50.0
_NOTHING_THERE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class ServiceUnreachable(TangentError):
    """No service answers at the URL, or what answers is none of ours."""


class ProblemError(TangentError):
    """The service refused a request.

    Attributes:
        status: HTTP status.
        slug: the kind of problem, e.g. `study-not-found`; stable.
        title: the kind, in a few words.
        detail: what happened this time.
        errors: each fault in the request, with a pointer to it.
        problem: everything the service said.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.status = problem.status
        self.slug = problem.type.rpartition("/")[2]
        self.title = problem.title
        self.detail = problem.detail
        self.errors: tuple[FieldError, ...] = problem.errors or ()
        super().__init__(problem.detail)


class Transport:
    """A line to one service.

    Args:
        url: where the service listens, without a slash at the end.
        token: API token; None for a service that needs none.
        timeout_s: longest wait for an answer.

    Raises:
        ServiceUnreachable: the URL is no address, or the token no token.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ServiceUnreachable(
                "the API token holds what no token can; expected the text that `tangent token create` printed"
            )
        headers = {
            "accept": "application/json",
            **({} if token is None else {"authorization": f"Bearer {token}"}),
        }
        try:
            # A proxy of the environment cannot reach this machine's own address.
            trusts_proxies = not is_loopback(urlsplit(self.url).hostname or "")
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout_s, trust_env=trusts_proxies
            )
        except (httpx.InvalidURL, ValueError):
            raise self._no_address() from None

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(
        self,
        model: type[_T],
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> _T:
        """Return what stands under a path; parameters that are None are left out."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        patience = {} if timeout_s is None else {"timeout": max(timeout_s, self._timeout_s)}
        return self.read(model, self.send("GET", path, params=given, **patience))

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Return the answer to a request, which is sent again only where that can do no harm.

        Raises:
            ProblemError: the service refused it.
            ServiceUnreachable: no service answers.
        """
        has_key = "idempotency-key" in request.get("headers", {})
        unknown_since: float | None = None
        for attempt in itertools.count(1):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                # Whether the request was done is unknown unless nothing answered; reading, or a submission
                # with its key, may be sent again.
                if not isinstance(error, _NOTHING_THERE) and unknown_since is None:
                    unknown_since = time.monotonic()
                # A service that died before its answer is soon started again.
                if has_key and unknown_since is not None:
                    if time.monotonic() - unknown_since > _UNKNOWN_S:
                        raise self._unknown(error) from error
                elif isinstance(error, _NOTHING_THERE) or method != "GET" or attempt >= _ATTEMPTS:
                    raise self.unreachable(error) from error
                time.sleep(min(attempt, _ATTEMPTS) * _RETRY_S)
            except httpx.InvalidURL:
                raise self._no_address() from None
            else:
                if (wait_s := _wait_s(response, attempt, has_key=has_key)) is not None:
                    time.sleep(wait_s)
                    continue
                self.raise_for_problem(response)
                return response
        raise AssertionError("the last attempt returns or raises")

    def read(self, model: type[_T], response: httpx.Response) -> _T:
        """Return the value in an answer.

        Raises:
            ServiceUnreachable: it is no such value.
        """
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise ServiceUnreachable(
                f"what answers at {self.url} is no Tangent, or one of another "
                f"version: {error.error_count()} faults"
            ) from error

    def stream(self, path: str, *, after: int) -> AbstractContextManager[httpx.Response]:
        """Return a stream of server-sent events from behind the last one that is known."""
        headers = {"accept": f"text/event-stream, {PROBLEM_JSON}", "last-event-id": str(after)}
        timeout = httpx.Timeout(self._http.timeout.connect, read=_SILENCE_S)
        return self._http.stream("GET", path, headers=headers, timeout=timeout)

    def download(self, path: str, into: IO[bytes], *, timeout_s: float) -> None:
        """Write what stands under a path into an open file, piece by piece.

        Raises:
            ProblemError: the service refused it.
            ServiceUnreachable: no service answers, or the line broke on the way.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._http.stream(
                    "GET", path, headers={"accept": "*/*"}, timeout=max(timeout_s, self._timeout_s)
                ) as response:
                    if (wait_s := _wait_s(response, attempt)) is None:
                        self.raise_for_problem(response)
                        for piece in response.iter_bytes():
                            into.write(piece)
                        return
            except httpx.TransportError as error:
                raise self.unreachable(error) from error
            except httpx.InvalidURL:
                raise self._no_address() from None
            time.sleep(wait_s)

    def raise_for_problem(self, response: httpx.Response) -> None:
        """Return when the service did what it was asked.

        Raises:
            ProblemError: it refused.
            ServiceUnreachable: what answered is no Tangent.
        """
        if response.is_success:
            return
        with suppress(ValidationError):
            raise ProblemError(Problem.model_validate_json(response.read()))
        raise ServiceUnreachable(
            f"what answers at {self.url} is no Tangent: it said "
            f"{response.status_code} {response.reason_phrase}"
        )

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        """Return what a broken line means."""
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return ServiceUnreachable(f"no service answers at {self.url}; start one with `tangent up`")
            case httpx.UnsupportedProtocol():
                return self._no_address()
            case httpx.TimeoutException():
                return ServiceUnreachable(f"the service at {self.url} did not answer in time")
            case _:
                return ServiceUnreachable(f"the line to {self.url} broke: {error}")

    def _unknown(self, error: httpx.TransportError) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.unreachable(error)}; whether it took the study before is unknown: look "
            "for it before you submit it again"
        )

    def _no_address(self) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.url!r} is no address of a service; expected one such as http://127.0.0.1:8780"
        )


def path_segment(name: str) -> str:
    """Return a name as one part of a path, whatever is in it."""
    quoted = quote(name, safe="") or "-"
    # Dots alone would lead up the path.
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _wait_s(response: httpx.Response, attempt: int, *, has_key: bool = False) -> float | None:
    """Return for how long to wait before a request is sent again; None where it is not.

    One that came too soon was not done, whatever it is. While the database is away nobody knows; a key makes
    that no matter.
    """
    is_too_soon = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    is_away = (
        has_key
        and response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        and STORE_UNAVAILABLE.slug in response.text
    )
    if not (is_too_soon or is_away) or attempt >= _ATTEMPTS:
        return None
    said = response.headers.get("retry-after", "")
    return min(_MOST_PATIENCE_S, float(said)) if said.isascii() and said.isdecimal() else _RETRY_S
