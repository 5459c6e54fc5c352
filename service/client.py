"""The Python client of the service, which the command line uses too.

    spec = {"workload": "digits-mlp", "arms": ["adamp", "adamw"], "budget": {"trials_per_arm": 8}}
    with Client("http://127.0.0.1:8780") as client:
        study = client.submit(spec)
        for event in client.watch(study.id):
            print(event.kind)

A study, an extension or a patch is a mapping, the path of a file, or text in JSON or YAML; numbers may be
numpy's.

Methods raise `ProblemError` if the service refuses a request, `ServiceUnreachable` if it does not answer, and
other subclasses of `TangentError` if the arguments make no request.
"""

__all__ = ["ArgumentInvalid", "Client", "ProblemError", "ServiceUnreachable"]

import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, Self

import httpx

from service.client_analyses import AnalysisRequests
from service.client_archive import ArchiveRequests
from service.client_arguments import ArgumentInvalid, checked_verb, key_header, version_header
from service.client_artifacts import ArtifactRequests
from service.client_layers import LayerRequests
from service.client_lists import StudyListRequests, every_item
from service.client_notes import NotesRequests
from service.client_webhooks import WebhookRequests
from service.documents import Document, to_document
from service.schemas import Account, ArmBest, EventList, Health, Readiness, StudyPlan
from service.settings import service_url
from service.sse import parse_events
from service.transport import ProblemError, ServiceUnreachable, Transport, path_segment
from studies.catalog import BrokenPackage, OptimizerCard, WorkloadCard
from studies.extension import Extension
from studies.spec import StudySpec
from studies.states import CLOSED_STUDY_STATES, StudyMove, TrialFilter, TrialState
from studies.trials import Measurement
from studies.views import (
    ArmView,
    AuditVerb,
    AuditView,
    Curve,
    EventView,
    Page,
    StudyView,
    TrialOutput,
    TrialView,
)

_PAGE_SIZE = 500
_RETRY_S = 0.5
_MAX_WAIT_S = 5.0


class Client(
    AnalysisRequests,
    ArchiveRequests,
    ArtifactRequests,
    LayerRequests,
    NotesRequests,
    StudyListRequests,
    WebhookRequests,
):
    """A client of one service. Keep it open, because it reuses its connections.

    Do not share it between threads while one of them watches a study.

    Args:
        url: URL of the service, e.g. `http://127.0.0.1:8780`.
        token: API token; None for a service that needs none.
        timeout_s: longest wait for a response.

    Raises:
        ServiceUnreachable: the URL or the token is not valid.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        self.url = service_url(str(url))
        self._transport = Transport(self.url, token, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        """Return the client; leaving closes it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def submit(self, spec: StudySpec | Document, *, idempotency_key: str | None = None) -> StudyView:
        """Submit a study and return it.

        The request is retried if the connection breaks, and the study is created only once.

        Args:
            spec: the study; all but a StudySpec may use the shorthands.
            idempotency_key: identifies this submission: the same key with the same spec returns the same
                study. By default a new key.

        Raises:
            ProblemError: the service refused the study; `errors` lists every fault.
            ServiceUnreachable: no service answers.
        """
        body, headers = to_document(spec, expected="a study"), key_header(idempotency_key)
        return self._transport.read(
            StudyView, self._transport.send("POST", "/v1/studies", json=body, headers=headers)
        )

    def validate(self, spec: StudySpec | Document) -> StudyPlan:
        """Return what a study would do; nothing is stored.

        Raises:
            ProblemError: the study cannot be run as written; `errors` lists every fault.
        """
        return self._transport.read(
            StudyPlan,
            self._transport.send(
                "POST",
                "/v1/studies",
                json=to_document(spec, expected="a study"),
                params={"validate_only": "true"},
            ),
        )

    def study(self, study_id: str) -> StudyView:
        """Return a study."""
        return self._transport.get(StudyView, f"/v1/studies/{path_segment(study_id)}")

    def account(self) -> Account:
        """Return the caller's role, token and quotas."""
        return self._transport.get(Account, "/v1/account")

    def audit(
        self,
        *,
        actor: str | None = None,
        verb: AuditVerb | None = None,
        study_id: str | None = None,
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[AuditView]:
        """Return a page of the audit log, newest first; only for admins."""
        query = {
            "actor": actor,
            "verb": verb,
            "study_id": study_id,
            "page_size": page_size,
            "page_token": page_token,
        }
        return self._transport.get(Page[AuditView], "/v1/audit", query)

    def arms(self, study_id: str) -> tuple[ArmView, ...]:
        """Return a study's arms in order."""
        return self._transport.get(Page[ArmView], f"/v1/studies/{path_segment(study_id)}/arms").items

    def best(self, study_id: str) -> tuple[ArmBest, ...]:
        """Return the best configuration of each arm."""
        return self._transport.get(Page[ArmBest], f"/v1/studies/{path_segment(study_id)}/best").items

    def curves(self, study_id: str) -> tuple[Curve, ...]:
        """Return each arm's best value so far."""
        return self._transport.get(Page[Curve], f"/v1/studies/{path_segment(study_id)}/curves").items

    def trials(
        self,
        study_id: str,
        *,
        arm: str | None = None,
        state: TrialState | TrialFilter | None = None,
        phase: str = "search",
        order: str = "created",
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[TrialView]:
        """Return a page of a study's trials.

        Args:
            study_id: the study.
            arm: only trials of this arm.
            state: only trials in this state; `TrialFilter.WAITING` selects queued trials that wait at a rung.
            phase: search, confirmation or all.
            order: created, number, value (best first), cost or ended; a leading `-` reverses the order.
            page_size: most trials on the page.
            page_token: the `next_page_token` of the previous page.
        """
        query = {
            "arm": arm,
            "state": state,
            "phase": phase,
            "order": order,
            "page_size": page_size,
            "page_token": page_token,
        }
        return self._transport.get(Page[TrialView], f"/v1/studies/{path_segment(study_id)}/trials", query)

    def every_trial(
        self,
        study_id: str,
        *,
        arm: str | None = None,
        state: TrialState | TrialFilter | None = None,
        phase: str = "search",
        order: str = "created",
    ) -> Iterator[TrialView]:
        """Return all of a study's trials; fetch pages as needed."""
        filters: dict[str, Any] = {"arm": arm, "state": state, "phase": phase, "order": order}
        return every_item(partial(self.trials, study_id, **filters, page_size=_PAGE_SIZE))

    def trial(self, trial_id: str) -> TrialView:
        """Return a trial."""
        return self._transport.get(TrialView, f"/v1/trials/{path_segment(trial_id)}")

    def measurements(self, trial_id: str) -> tuple[Measurement, ...]:
        """Return a trial's measurements, one for each epoch."""
        return self._transport.get(
            Page[Measurement], f"/v1/trials/{path_segment(trial_id)}/measurements"
        ).items

    def trial_output(self, trial_id: str) -> TrialOutput:
        """Return the end of what a trial's worker printed."""
        return self._transport.get(TrialOutput, f"/v1/trials/{path_segment(trial_id)}/output")

    def optimizers(self) -> dict[str, OptimizerCard]:
        """Return the cards of the optimizers in the catalogue, by name."""
        return {card.name: card for card in self._transport.get(Page[OptimizerCard], "/v1/optimizers").items}

    def workloads(self) -> dict[str, WorkloadCard]:
        """Return the cards of the workloads in the catalogue, by name."""
        return {card.name: card for card in self._transport.get(Page[WorkloadCard], "/v1/workloads").items}

    def broken_packages(self) -> tuple[BrokenPackage, ...]:
        """Return the installed packages whose optimizers or workloads could not be loaded."""
        return self._transport.get(Page[BrokenPackage], "/v1/broken-packages").items

    def move(self, study_id: str, verb: StudyMove, *, if_version: int | None = None) -> StudyView:
        """Pause, resume, stop or cancel a study.

        Args:
            study_id: the study.
            verb: the change.
            if_version: change the study only if its state has not changed since this version.

        Raises:
            ProblemError: `illegal-move` if its state does not allow the change, `version-conflict` if its
                state has changed.
        """
        return self._transport.read(
            StudyView,
            self._transport.send(
                "POST",
                f"/v1/studies/{path_segment(study_id)}:{checked_verb(verb)}",
                headers=version_header(if_version),
            ),
        )

    def pause(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Start no more of a study's trials; running trials are finished.

        With `if_version`, only if its state has not changed since then.
        """
        return self.move(study_id, StudyMove.PAUSE, if_version=if_version)

    def resume(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """Continue a paused study."""
        return self.move(study_id, StudyMove.RESUME, if_version=if_version)

    def stop(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """End a study's trials now; it is completed with what it has."""
        return self.move(study_id, StudyMove.STOP, if_version=if_version)

    def cancel(self, study_id: str, *, if_version: int | None = None) -> StudyView:
        """End a study's trials now; it is cancelled."""
        return self.move(study_id, StudyMove.CANCEL, if_version=if_version)

    def extend(
        self, study_id: str, extension: Extension | Document, *, if_version: int | None = None
    ) -> StudyView:
        """Add arms, trials, replicates or seeds to a completed study, which continues where it ended.

        Args:
            study_id: the study.
            extension: what the study should have in total; all but an Extension may use the shorthands.
            if_version: extend it only if its state has not changed since this version.

        Raises:
            ProblemError: `spec-invalid` lists every fault; `illegal-move` if its state does not allow it,
                `version-conflict` if its state has changed.
        """
        path = f"/v1/studies/{path_segment(study_id)}:extend"
        return self._transport.read(
            StudyView,
            self._transport.send(
                "POST",
                path,
                json=to_document(extension, expected="an extension"),
                headers=version_header(if_version),
            ),
        )

    def validate_extension(self, study_id: str, extension: Extension | Document) -> StudyPlan:
        """Return what a study would do in total once extended; nothing is stored.

        Raises:
            ProblemError: the study cannot be extended this way.
        """
        path = f"/v1/studies/{path_segment(study_id)}:extend"
        return self._transport.read(
            StudyPlan,
            self._transport.send(
                "POST",
                path,
                json=to_document(extension, expected="an extension"),
                params={"validate_only": "true"},
            ),
        )

    def confirm(self, study_id: str, *, seeds: int | None = None, if_version: int | None = None) -> StudyView:
        """Train each arm's best and default configurations on more fresh seeds.

        `seeds` is the total number, by default five more than now.

        Raises:
            ProblemError: as for `extend`.
        """
        path = f"/v1/studies/{path_segment(study_id)}:confirm"
        return self._transport.read(
            StudyView,
            self._transport.send(
                "POST",
                path,
                json=to_document({"seeds": seeds}, expected="seeds"),
                headers=version_header(if_version),
            ),
        )

    def clone(
        self, study_id: str, patch: Document | None = None, *, idempotency_key: str | None = None
    ) -> StudyView:
        """Submit the spec of another study again and return the new study.

        Args:
            study_id: the study to clone.
            patch: the changes, as a JSON merge patch: fields to set, and None for fields to remove.
            idempotency_key: as for `submit`.

        Raises:
            ProblemError: the service refused the study; `errors` lists every fault.
        """
        headers = key_header(idempotency_key)
        path = f"/v1/studies/{path_segment(study_id)}:clone"
        return self._transport.read(
            StudyView,
            self._transport.send(
                "POST",
                path,
                json=to_document({} if patch is None else patch, expected="a patch"),
                headers=headers,
            ),
        )

    def validate_clone(self, study_id: str, patch: Document | None = None) -> StudyPlan:
        """Return what a clone would do; nothing is stored.

        Raises:
            ProblemError: the clone cannot be run; `errors` lists every fault.
        """
        path = f"/v1/studies/{path_segment(study_id)}:clone"
        return self._transport.read(
            StudyPlan,
            self._transport.send(
                "POST",
                path,
                json=to_document({} if patch is None else patch, expected="a patch"),
                params={"validate_only": "true"},
            ),
        )

    def health(self) -> Health:
        """Return the state of a process that is up."""
        return self._transport.get(Health, "/healthz")

    def readiness(self) -> Readiness:
        """Return the state of a service that is ready to run studies.

        Raises:
            ProblemError: the service is not ready; its `problem.missing` lists what is missing.
        """
        return self._transport.get(Readiness, "/readyz")

    def events(self, study_id: str, *, after: int = 0) -> EventList:
        """Return a study's events so far, numbered above `after`, at most 500."""
        return self._transport.get(
            EventList, f"/v1/studies/{path_segment(study_id)}/events", {"after": after}
        )

    def watch(self, study_id: str, *, after: int = 0, patience_s: float = 60.0) -> Iterator[EventView]:
        """Yield a study's events as they happen, each exactly once, until the study is closed.

        After a disconnect the stream continues with the next event.

        Args:
            study_id: the study.
            after: number of the last event already known.
            patience_s: how long to try to reconnect after the service has stopped answering.

        Raises:
            ProblemError: the service refused the request.
            ServiceUnreachable: the service did not answer at first, or did not answer again within
                `patience_s`.
        """
        lost_at: float | None = None
        has_begun = is_closed = False
        wait_s = _RETRY_S
        while True:
            try:
                with self._transport.stream(
                    f"/v1/studies/{path_segment(study_id)}/events", after=after
                ) as response:
                    has_begun, lost_at = True, None
                    if response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    self._transport.raise_for_problem(response)
                    for event in parse_events(response.iter_lines()):
                        wait_s, after = _RETRY_S, event.id
                        yield event
                        if event.kind == "study.state":
                            is_closed = event.data.get("to") in CLOSED_STUDY_STATES
                # Not at the event itself: an extended study has earlier events of its completion.
                if is_closed:
                    return
            except httpx.TransportError as error:
                lost_at = time.monotonic() if lost_at is None else lost_at
                if not has_begun or time.monotonic() - lost_at > patience_s:
                    raise self._transport.unreachable(error) from error
            except ProblemError as error:
                # A restart of the service or its database causes a 503, and the rate limit a 429.
                lost_at = time.monotonic() if lost_at is None else lost_at
                if (
                    error.status not in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
                    or time.monotonic() - lost_at > patience_s
                ):
                    raise
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _MAX_WAIT_S)
