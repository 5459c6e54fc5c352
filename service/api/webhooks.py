"""Webhooks: send events of studies to a URL."""

__all__ = ["WebhookId", "WebhookQuery", "describe_payloads", "webhook_router"]

from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from pydantic import Field

from service import errors
from service.api.bodies import WebhookBody
from service.api.openapi import body_description, problem_responses
from service.api.parameters import STUDY_ID, PageToken
from service.auth import CurrentActor
from service.settings import ServiceSettings
from service.webhooks.addresses import check_url
from service.write_threads import WriteRoute
from studies.frozen_model import FrozenModel
from studies.store import Store
from studies.views import Page
from studies.webhooks import (
    DeliveryView,
    PingPayload,
    WebhookDetail,
    WebhookPayload,
    WebhookView,
    WebhookWithSecret,
)

WebhookId = Annotated[str, Path(pattern=STUDY_ID, description="Id of a webhook.", examples=["w7k3f9x2"])]
_LOCATION = {"Location": {"description": "Path of the webhook.", "schema": {"type": "string"}}}
_BODY = body_description(
    "The URL and the events to send.",
    {"$ref": "#/components/schemas/WebhookSpec-Input"},
    {
        "all": ("All events of your own studies", {"url": "https://hooks.example/tangent"}),
        "ends": (
            "The end of each study of a suite",
            {
                "url": "https://hooks.example/tangent",
                "events": ["study.completed", "study.failed", "study.cancelled"],
                "suite": "small-vision",
            },
        ),
    },
    is_required=True,
)


class WebhookQuery(FrozenModel):
    """Which webhooks to list."""

    page_size: int = Field(default=50, ge=1, le=500, description="Most webhooks on the page.")
    page_token: PageToken = None


def webhook_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["webhooks"], route_class=WriteRoute)
    _add_create(router)
    # Before the reads, because the path of a verb also matches theirs.
    _add_verbs(router)
    _add_reads(router)
    return router


def _add_create(router: APIRouter) -> None:
    @router.post(
        "/webhooks",
        status_code=201,
        response_model=WebhookWithSecret,
        summary="Create a webhook",
        response_description="The webhook with its secret, which is shown only now; `Location` is its path.",
        openapi_extra=_BODY,
        responses={
            201: {"headers": _LOCATION},
            **problem_responses(
                errors.NOT_JSON,
                errors.NOT_YAML,
                errors.BODY_TOO_LARGE,
                errors.TOO_MANY_BODIES,
                errors.UNSUPPORTED_MEDIA_TYPE,
                errors.WEBHOOK_INVALID,
                errors.QUOTA_EXCEEDED,
                errors.CROSS_SITE,
            ),
        },
    )
    def create_webhook(request: Request, caller: CurrentActor, spec: WebhookBody) -> Response:
        """Send events of studies to a URL from now on.

        Each event is a POST request, signed according to Standard Webhooks.

        A receiver accepts a delivery with a status from 200 to 299 within ten seconds. Otherwise the delivery
        is retried, up to ten attempts within about a day. A delivery may arrive twice, with the same
        `webhook-id`.
        """
        store: Store = request.app.state.store
        settings: ServiceSettings = request.app.state.settings
        check_url(spec.url, allow=settings.webhook_allow)
        made = store.create_webhook(spec, by=caller)
        headers = {"location": f"/v1/webhooks/{made.id}", "cache-control": "no-store"}
        return Response(
            made.model_dump_json(), status_code=201, media_type="application/json", headers=headers
        )

    _ = create_webhook


def _add_verbs(router: APIRouter) -> None:
    answers = problem_responses(errors.WEBHOOK_NOT_FOUND, errors.CONFLICT, errors.CROSS_SITE)

    @router.post(
        "/webhooks/{webhook_id}:test",
        status_code=202,
        response_model=DeliveryView,
        summary="Send a ping to a webhook",
        response_description="The ping; its outcome will be among the webhook's deliveries.",
        responses=answers,
    )
    def test_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> DeliveryView:
        """Send a ping (`webhook.ping`) without retries. A ping that is still pending is returned instead."""
        store: Store = request.app.state.store
        return store.ping_webhook(webhook_id, by=caller)

    @router.post(
        "/webhooks/{webhook_id}:enable",
        response_model=WebhookView,
        summary="Enable a webhook again",
        response_description="The webhook, enabled.",
        responses=answers,
    )
    def enable_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> WebhookView:
        """Send events from now on to a webhook that was disabled.

        A webhook is disabled when its receiver responds with 410, or accepts no delivery for five days.
        """
        store: Store = request.app.state.store
        return store.enable_webhook(webhook_id, by=caller)

    _ = test_webhook, enable_webhook


def _add_reads(router: APIRouter) -> None:
    @router.get(
        "/webhooks",
        response_model=Page[WebhookView],
        summary="Webhooks, newest first",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_webhooks(
        request: Request, caller: CurrentActor, query: Annotated[WebhookQuery, Query()]
    ) -> Page[WebhookView]:
        """Return a page of the caller's webhooks, or of all webhooks for an admin."""
        store: Store = request.app.state.store
        return store.webhooks(by=caller, page_size=query.page_size, page_token=query.page_token)

    @router.get(
        "/webhooks/{webhook_id}",
        response_model=WebhookDetail,
        summary="One webhook and its deliveries",
        responses=problem_responses(errors.WEBHOOK_NOT_FOUND),
    )
    def get_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> WebhookDetail:
        """Return a webhook with its newest deliveries, their outcomes and the times of the next attempts."""
        store: Store = request.app.state.store
        return store.webhook(webhook_id, by=caller)

    @router.delete(
        "/webhooks/{webhook_id}",
        status_code=204,
        summary="Remove a webhook",
        response_description="The webhook and its pending deliveries are removed.",
        responses=problem_responses(errors.WEBHOOK_NOT_FOUND, errors.CROSS_SITE),
    )
    def remove_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> None:
        """Remove a webhook. A delivery that is being sent at this moment may still arrive."""
        store: Store = request.app.state.store
        store.remove_webhook(webhook_id, by=caller)

    _ = list_webhooks, get_webhook, remove_webhook


_Id = Annotated[
    str, Header(alias="webhook-id", description="Id of the delivery; the same for every attempt.")
]
_Timestamp = Annotated[
    int, Header(alias="webhook-timestamp", description="Unix time of this attempt, in seconds.")
]
_Signature = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description=(
            "`v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body, joined with full stops."
        ),
    ),
]


def describe_payloads(app: FastAPI) -> None:
    """Describe the requests that webhooks receive in the OpenAPI description."""
    accepted = {
        "description": (
            "The receiver accepts the delivery. It is retried after any other status, or none within 10 s."
        )
    }

    @app.webhooks.post(
        "study",
        operation_id="study_changed",
        summary="A study entered another state",
        tags=["webhooks"],
        responses={200: accepted},
    )
    def study_changed(
        body: WebhookPayload, message: _Id, timestamp: _Timestamp, signature: _Signature
    ) -> None:
        """Report that a study entered a state; `type` names the state, for example `study.completed`."""
        del body, message, timestamp, signature

    @app.webhooks.post(
        "ping",
        operation_id="webhook_tested",
        summary="A webhook is tested",
        tags=["webhooks"],
        responses={200: accepted},
    )
    def webhook_tested(body: PingPayload, message: _Id, timestamp: _Timestamp, signature: _Signature) -> None:
        """Report nothing; for testing a receiver."""
        del body, message, timestamp, signature

    _ = study_changed, webhook_tested
