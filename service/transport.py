"""The client's HTTP transport: safe retries, responses as models, problems as exceptions.

`ProblemError` is an error response of the service. `ServiceUnreachable` means that no service responded.
"""

__all__ = ["ProblemError", "ServiceUnreachable", "Transport", "path_segment"]

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from http import HTTPStatus
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from service.certificates import tls_context
from service.client_arguments import ArgumentInvalid
from service.connection_errors import describe_failure, is_final
from service.errors import ANALYSIS_PENDING, PROBLEM_JSON, STORE_UNAVAILABLE, FieldError, Problem
from service.proxies import proxy_for
from service.service_unreachable import ServiceUnreachable
from studies.errors import TangentError, shown
from studies.formatting import plural

_T = TypeVar("_T", bound=BaseModel)
_ATTEMPTS = 3
_RETRY_S = 0.5
# The service answers each after half a minute.
_ANALYSIS_ATTEMPTS = 10
# How long a submission whose response was lost is retried.
_RETRY_SUBMISSION_S = 30.0
# The longest wait that a service may ask for.
_MAX_RETRY_AFTER_S = 10.0
# More than three heartbeats of the service: after a longer silence the connection is dead.
_STREAM_TIMEOUT_S = 50.0


class ProblemError(TangentError):
    """The service refused a request.

    Attributes:
        status: HTTP status.
        slug: the kind of problem, e.g. `study-not-found`; stable.
        title: a short name of the kind.
        detail: what went wrong.
        errors: each fault in the request, with a pointer to it.
        problem: the complete response.
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
    """The connections to one service.

    Args:
        url: URL of the service, without a slash at the end.
        token: API token; None for a service that needs none.
        timeout_s: longest wait for a response.

    Raises:
        ServiceUnreachable: the URL or the token is not valid, or the environment names a proxy or
            certificates that cannot be used.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        if token is not None and not (str(token).isascii() and str(token).isprintable()):
            raise ServiceUnreachable(
                "the API token has characters that no token has; expected the text "
                "that `tangent token create` printed"
            )
        headers = {
            "accept": "application/json",
            **({} if token is None else {"authorization": f"Bearer {token}"}),
        }
        try:
            self._proxy = proxy_for(self.url)
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=timeout_s,
                proxy=self._proxy.url if self._proxy else None,
                verify=tls_context(self.url),
                # It would send a password from ~/.netrc in place of the token.
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError):
            raise self._invalid_url() from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(
        self,
        model: type[_T],
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> _T:
        """Return the value at a path; parameters that are None are left out."""
        query = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = {} if timeout_s is None else {"timeout": max(timeout_s, self._timeout_s)}
        return self.read(model, self.send("GET", path, params=query, **timeout))

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request and return the response. Retry only if that is safe.

        Raises:
            ArgumentInvalid: the arguments do not make a request.
            ProblemError: the service refused it.
            ServiceUnreachable: no service answers.
        """
        has_key = "idempotency-key" in request.get("headers", {})
        unknown_since: float | None = None
        for attempt in itertools.count(1):
            try:
                response = self._request(method, path, request)
            except httpx.TransportError as error:
                # Without a connection the request was not processed; otherwise that is unknown. A read, or a
                # submission with its key, may be repeated.
                if not is_final(error) and unknown_since is None:
                    unknown_since = time.monotonic()
                # A service that died before its response is usually restarted soon.
                if has_key and unknown_since is not None:
                    if time.monotonic() - unknown_since > _RETRY_SUBMISSION_S:
                        raise self._unknown_outcome(error) from error
                elif is_final(error) or method != "GET" or attempt >= _ATTEMPTS:
                    raise self.unreachable(error) from error
                time.sleep(min(attempt, _ATTEMPTS) * _RETRY_S)
            else:
                if (wait_s := _wait_s(response, attempt, has_key=has_key)) is not None:
                    time.sleep(wait_s)
                    continue
                self.raise_for_problem(response)
                return response
        raise AssertionError("the last attempt returns or raises")

    def _request(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.InvalidURL:
            raise self._invalid_url() from None
        except (httpx.LocalProtocolError, TypeError, ValueError) as error:
            raise ArgumentInvalid(f"the request cannot be sent: {error}") from error

    def read(self, model: type[_T], response: httpx.Response) -> _T:
        """Return the value in a response.

        Raises:
            ServiceUnreachable: the response has another form.
        """
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise self._not_tangent(f"its response has {plural(error.error_count(), 'fault')}") from error

    def stream(self, path: str, *, after: int) -> AbstractContextManager[httpx.Response]:
        """Return a stream of the server-sent events after a known one."""
        headers = {"accept": f"text/event-stream, {PROBLEM_JSON}", "last-event-id": str(after)}
        timeout = httpx.Timeout(self._http.timeout.connect, read=_STREAM_TIMEOUT_S)
        return self._http.stream("GET", path, headers=headers, timeout=timeout)

    def download(self, path: str, into: IO[bytes], *, timeout_s: float) -> None:
        """Write the content at a path into an open file, in pieces.

        Raises:
            ProblemError: the service refused the request.
            ServiceUnreachable: no service answers, or the connection broke.
        """
        for attempt in itertools.count(1):
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
                raise self._invalid_url() from None
            time.sleep(wait_s)

    def read_range(self, path: str, *, start: int, etag: str) -> Iterator[bytes]:
        """Yield the content at a path from a byte on, in pieces.

        Args:
            path: the path.
            start: the first byte.
            etag: ETag of the content that the bytes before belong to.

        Raises:
            ProblemError: the service refused the request.
            ServiceUnreachable: it does not send this range of this content.
            httpx.TransportError: the connection broke.
        """
        headers = {
            "accept": "*/*",
            "accept-encoding": "identity",
            "range": f"bytes={start}-",
            "if-range": etag,
        }
        timeout = max(_STREAM_TIMEOUT_S, self._timeout_s)
        for attempt in itertools.count(1):
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if (wait_s := _wait_s(response, attempt)) is None:
                    self.raise_for_problem(response)
                    if response.headers.get("content-range", "").split("-")[0] != f"bytes {start}":
                        raise self._not_tangent("it sends another range of the file than requested")
                    yield from response.iter_bytes()
                    return
            time.sleep(wait_s)

    def raise_for_problem(self, response: httpx.Response) -> None:
        """Raise the problem in an error response.

        Raises:
            ProblemError: the service refused the request.
            ServiceUnreachable: the response is not from a Tangent service.
        """
        if response.is_success:
            return
        with suppress(ValidationError):
            raise ProblemError(Problem.model_validate_json(response.read()))
        if response.has_redirect_location:
            target = urlsplit(str(response.url.join(response.headers["location"])))
            raise ServiceUnreachable(
                f"{self.url} redirects to {target.scheme}://{target.netloc}{target.path}; "
                "use the URL of the service itself"
            )
        answer = f"it answered {response.status_code} {response.reason_phrase}".rstrip()
        # What a server that expects TLS answers to plain HTTP.
        is_tls_needed = response.status_code == HTTPStatus.BAD_REQUEST and response.url.scheme == "http"
        raise self._not_tangent(
            f"{answer}; if it uses TLS, write https:// in the URL" if is_tls_needed else answer
        )

    def unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        """Return the exception for a transport error."""
        if isinstance(error, httpx.UnsupportedProtocol):
            return self._invalid_url()
        return ServiceUnreachable(describe_failure(error, self.url, self._proxy))

    def _unknown_outcome(self, error: httpx.TransportError) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.unreachable(error)}; the study may have been submitted: look for it before you submit it "
            "again"
        )

    def _not_tangent(self, reason: str) -> ServiceUnreachable:
        proxy = f"; a proxy may have answered: {self._proxy}; {self._proxy.advice}" if self._proxy else ""
        return ServiceUnreachable(
            f"{self.url} is not a Tangent service, or runs an incompatible version: {reason}{proxy}"
        )

    def _invalid_url(self) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.url!r} is not a valid URL of a service; expected one such as http://127.0.0.1:8780"
        )


def path_segment(name: str) -> str:
    """Return a name quoted as one segment of a path.

    Raises:
        ArgumentInvalid: the name is not a string.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] # callers may not check types
        raise ArgumentInvalid(f"expected an id or a name as a string, got {shown(name)}")
    quoted = quote(name, safe="") or "-"
    # A segment of dots would lead up the path.
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _wait_s(response: httpx.Response, attempt: int, *, has_key: bool = False) -> float | None:
    """Return how long to wait before a retry; None for no retry.

    A request over the rate limit was not processed, so any may be repeated. While the database is away the
    outcome is unknown, so only a submission with a key may be. An analysis that is being computed is awaited.
    """
    wait = response.headers.get("retry-after", "")
    wait_s = min(_MAX_RETRY_AFTER_S, float(wait)) if wait.isascii() and wait.isdecimal() else _RETRY_S
    is_unavailable = response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    # A response that is streamed has not been read yet.
    text = response.read().decode("utf-8", "replace") if is_unavailable else ""
    if ANALYSIS_PENDING.slug in text:
        return wait_s if attempt < _ANALYSIS_ATTEMPTS else None
    is_rate_limited = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    is_database_down = has_key and STORE_UNAVAILABLE.slug in text
    return wait_s if (is_rate_limited or is_database_down) and attempt < _ATTEMPTS else None
