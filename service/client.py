"""A Python client of the service, which the command line uses too.

    with Client("http://127.0.0.1:8780") as client:
        study = client.submit({"workload": "digits-mlp", "arms": ["adamp", "adamw"], "budget": {"trials_per_arm": 8}})
        for event in client.watch(study.id):
            print(event.kind)

Errors: `ProblemError` is what the service said; `ServiceUnreachable` that it said nothing.
"""

__all__ = ["Client", "ProblemError", "ServiceUnreachable"]

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from http import HTTPStatus
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from service.answers import ArmBest, EventList, Health, Plan, Readiness
from service.errors import PROBLEM_JSON, Fault, Problem
from service.settings import is_loopback
from service.wire import events_of
from studies.catalog import OptimizerCard, WorkloadCard
from studies.errors import TangentError
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, StudyMove, StudyState, TrialFilter, TrialState
from studies.views import ArmView, Curve, EventView, MeasurementView, Page, StudySummary, StudyView, TrialView

_T = TypeVar("_T", bound=BaseModel)
_PAGE_SIZE = 500
_ATTEMPTS = 3
_RETRY_S = 0.5
# Longer than three of the service's heartbeats: silence beyond it means that the line is dead.
_SILENCE_S = 50.0
_MAX_WAIT_S = 5.0
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
        self.errors: tuple[Fault, ...] = problem.errors or ()
        super().__init__(problem.detail)


class Client:
    """Talks to one service. Keep it open: it reuses its connections. Not to be shared between threads while one watches.

    Args:
        url: where the service listens, e.g. `http://127.0.0.1:8780`.
        token: API token; None for a service that needs none.
        timeout_s: longest wait for an answer.

    Raises:
        ServiceUnreachable: the URL is no address.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        headers = {"accept": "application/json", **({} if token is None else {"authorization": f"Bearer {token}"})}
        try:
            # A proxy of the environment cannot reach this machine's own address.
            trusts_proxies = not is_loopback(urlsplit(self.url).hostname or "")
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=trusts_proxies)
        except (httpx.InvalidURL, ValueError):
            raise self._no_address() from None

    def __enter__(self) -> Self:
        """Return the client; leaving closes it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def submit(self, spec: StudySpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> StudyView:
        """Return the study that was made of this spec; asked again over a broken line, it is made once all the same.

        Args:
            spec: what to run; a mapping may use the shorthands.
            idempotency_key: names this submission; the same key with the same spec returns the same study. By default a new one.

        Raises:
            ProblemError: the service refused it; `errors` names every fault.
            ServiceUnreachable: no service answers.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, StudySpec) else dict(spec)
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return self._read(StudyView, self._send("POST", "/v1/studies", json=body, headers=headers))

    def validate(self, spec: StudySpec | Mapping[str, Any]) -> Plan:
        """Return what a study would do; nothing is stored.

        Raises:
            ProblemError: it cannot be run as written; `errors` names every fault.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, StudySpec) else dict(spec)
        return self._read(Plan, self._send("POST", "/v1/studies", json=body, params={"validate_only": "true"}))

    def study(self, study_id: str) -> StudyView:
        """Return a study."""
        return self._get(StudyView, f"/v1/studies/{_part(study_id)}")

    def studies(
        self, *, state: StudyState | None = None, workload: str | None = None, page_size: int = 50, page_token: str | None = None
    ) -> Page[StudySummary]:
        """Return a page of studies, newest first."""
        asked = {"state": state, "workload": workload, "page_size": page_size, "page_token": page_token}
        return self._get(Page[StudySummary], "/v1/studies", asked)

    def every_study(self, *, state: StudyState | None = None, workload: str | None = None) -> Iterator[StudySummary]:
        """Yield all studies, newest first; pages are fetched as they are needed."""
        token: str | None = None
        while True:
            page = self.studies(state=state, workload=workload, page_size=_PAGE_SIZE, page_token=token)
            yield from page.items
            token = page.next_page_token
            if token is None:
                return

    def arms(self, study_id: str) -> tuple[ArmView, ...]:
        """Return a study's arms in their order."""
        return self._get(Page[ArmView], f"/v1/studies/{_part(study_id)}/arms").items

    def best(self, study_id: str) -> tuple[ArmBest, ...]:
        """Return the best configuration of each arm."""
        return self._get(Page[ArmBest], f"/v1/studies/{_part(study_id)}/best").items

    def curves(self, study_id: str) -> tuple[Curve, ...]:
        """Return each arm's best value so far."""
        return self._get(Page[Curve], f"/v1/studies/{_part(study_id)}/curves").items

    def trials(
        self,
        study_id: str,
        *,
        arm: str | None = None,
        state: TrialState | TrialFilter | None = None,
        order: str = "created",
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[TrialView]:
        """Return a page of a study's trials; `order` is created, number, value (best first), cost or ended, with `-` before it for the reverse.

        With `TrialFilter.WAITING` as `state` those that wait at a rung, which are queued.
        """
        asked = {"arm": arm, "state": state, "order": order, "page_size": page_size, "page_token": page_token}
        return self._get(Page[TrialView], f"/v1/studies/{_part(study_id)}/trials", asked)

    def every_trial(
        self, study_id: str, *, arm: str | None = None, state: TrialState | TrialFilter | None = None, order: str = "created"
    ) -> Iterator[TrialView]:
        """Yield all of a study's trials; pages are fetched as they are needed."""
        token: str | None = None
        while True:
            page = self.trials(study_id, arm=arm, state=state, order=order, page_size=_PAGE_SIZE, page_token=token)
            yield from page.items
            token = page.next_page_token
            if token is None:
                return

    def trial(self, trial_id: str) -> TrialView:
        """Return a trial."""
        return self._get(TrialView, f"/v1/trials/{_part(trial_id)}")

    def measurements(self, trial_id: str) -> tuple[MeasurementView, ...]:
        """Return what a trial measured, epoch by epoch."""
        return self._get(Page[MeasurementView], f"/v1/trials/{_part(trial_id)}/measurements").items

    def optimizers(self) -> dict[str, OptimizerCard]:
        """Return the cards of the optimizers on offer, by name."""
        return {card.name: card for card in self._get(Page[OptimizerCard], "/v1/optimizers").items}

    def workloads(self) -> dict[str, WorkloadCard]:
        """Return the cards of the workloads on offer, by name."""
        return {card.name: card for card in self._get(Page[WorkloadCard], "/v1/workloads").items}

    def move(self, study_id: str, verb: StudyMove, *, if_version: int | None = None) -> StudyView:
        """Pause, resume, stop or cancel a study.

        Args:
            study_id: the study.
            verb: what to do with it.
            if_version: do it only if its state has not changed since this version.

        Raises:
            ProblemError: `illegal-move` when its state does not allow it, `version-conflict` when it changed.
        """
        headers = {} if if_version is None else {"if-match": f'"{if_version}"'}
        return self._read(StudyView, self._send("POST", f"/v1/studies/{_part(study_id)}:{verb.value}", headers=headers))

    def pause(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Start no more of a study's trials; those being trained are finished. With `if_version`, only if its state has not changed since."""
        return self.move(study_id, StudyMove.PAUSE, if_version=if_version)

    def resume(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Go on with a paused study."""
        return self.move(study_id, StudyMove.RESUME, if_version=if_version)

    def stop(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """End a study's trials now; it is completed with what it has."""
        return self.move(study_id, StudyMove.STOP, if_version=if_version)

    def cancel(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """End a study's trials now; it is cancelled."""
        return self.move(study_id, StudyMove.CANCEL, if_version=if_version)

    def health(self) -> Health:
        """Return that the process is up."""
        return self._get(Health, "/healthz")

    def readiness(self) -> Readiness:
        """Return that studies can be run.

        Raises:
            ProblemError: they cannot; its `problem.missing` says what is missing.
        """
        return self._get(Readiness, "/readyz")

    def events(self, study_id: str, *, after: int = 0) -> EventList:
        """Return those of a study's events that stand there now, numbered above `after`, at most 500."""
        return self._get(EventList, f"/v1/studies/{_part(study_id)}/events", {"after": after})

    def watch(self, study_id: str, *, after: int = 0, patience_s: float = 60.0) -> Iterator[EventView]:
        """Yield a study's events as they happen, none twice and none missing, until it is closed.

        A cut line is taken up again where it broke.

        Args:
            study_id: the study.
            after: number of the last event already known.
            patience_s: how long to go on trying once the service has stopped answering.

        Raises:
            ProblemError: the service refused.
            ServiceUnreachable: it did not answer at first, or not again for `patience_s`.
        """
        lost_at: float | None = None
        has_begun = False
        wait_s = _RETRY_S
        while True:
            try:
                with self._stream(study_id, after) as response:
                    has_begun, lost_at = True, None
                    if response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    self._raise_for_problem(response)
                    for event in events_of(response.iter_lines()):
                        wait_s, after = _RETRY_S, event.id
                        yield event
                        if event.kind == "study.state" and event.data.get("to") in CLOSED_STUDY_STATES:
                            return
            except httpx.TransportError as error:
                lost_at = time.monotonic() if lost_at is None else lost_at
                if not has_begun or time.monotonic() - lost_at > patience_s:
                    raise self._unreachable(error) from error
            except ProblemError as error:
                # A service that restarts, or whose database does, says so with a 503.
                lost_at = time.monotonic() if lost_at is None else lost_at
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() - lost_at > patience_s:
                    raise
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _MAX_WAIT_S)

    def _stream(self, study_id: str, after: int) -> AbstractContextManager[httpx.Response]:
        headers = {"accept": f"text/event-stream, {PROBLEM_JSON}", "last-event-id": str(after)}
        timeout = httpx.Timeout(self._http.timeout.connect, read=_SILENCE_S)
        return self._http.stream("GET", f"/v1/studies/{_part(study_id)}/events", headers=headers, timeout=timeout)

    def _get(self, model: type[_T], path: str, params: Mapping[str, Any] | None = None) -> _T:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return self._read(model, self._send("GET", path, params=given))

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                # Whether the request was done is unknown unless nothing answered; reading, or a submission with its key, may be sent again.
                may_repeat = method == "GET" or "idempotency-key" in request.get("headers", {})
                if isinstance(error, _NOTHING_THERE) or not may_repeat or attempt == _ATTEMPTS:
                    raise self._unreachable(error) from error
                time.sleep(attempt * _RETRY_S)
            except httpx.InvalidURL:
                raise self._no_address() from None
            else:
                self._raise_for_problem(response)
                return response
        raise AssertionError("the last attempt returns or raises")

    def _read(self, model: type[_T], response: httpx.Response) -> _T:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise ServiceUnreachable(f"what answers at {self.url} is no Tangent, or one of another version: {error.error_count()} faults") from error

    def _raise_for_problem(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        with suppress(ValidationError):
            raise ProblemError(Problem.model_validate_json(response.read()))
        raise ServiceUnreachable(f"what answers at {self.url} is no Tangent: it said {response.status_code} {response.reason_phrase}")

    def _unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return ServiceUnreachable(f"no service answers at {self.url}; start one with `tangent up`")
            case httpx.UnsupportedProtocol():
                return self._no_address()
            case httpx.TimeoutException():
                return ServiceUnreachable(f"the service at {self.url} did not answer in time")
            case _:
                return ServiceUnreachable(f"the line to {self.url} broke: {error}")

    def _no_address(self) -> ServiceUnreachable:
        return ServiceUnreachable(f"{self.url!r} is no address of a service; expected one such as http://127.0.0.1:8780")


def _part(name: str) -> str:
    """Return a name as one part of a path, whatever is in it."""
    return quote(name, safe="") or "-"
