"""Webhooks: have what happens to studies sent to an address of one's own."""

__all__ = ["WebhookId", "WebhookQuery", "describe_payloads", "webhook_router"]

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import errors
from service.api.bodies import WebhookBody
from service.api.openapi import problem_responses
from service.api.studies import PageToken
from service.auth import CurrentActor
from service.settings import ServiceSettings
from service.webhooks.addresses import check_url
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

WebhookId = Annotated[
    str, Path(pattern=r"^[a-z0-9]{1,16}$", description="Id of a webhook.", examples=["w7k3f9x2"])
]
_LOCATION = {"Location": {"description": "Path of the webhook.", "schema": {"type": "string"}}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Where to send what.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/WebhookSpec-Input"},
                "examples": {
                    "all": {
                        "summary": "Everything of one's own studies",
                        "value": {"url": "https://hooks.example/tangent"},
                    },
                    "ends": {
                        "summary": "How the studies of a suite end",
                        "value": {
                            "url": "https://hooks.example/tangent",
                            "events": ["study.completed", "study.failed", "study.cancelled"],
                            "suite": "small-vision",
                        },
                    },
                },
            }
        },
    }
}


class WebhookQuery(BaseModel):
    """Which webhooks to list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page_size: int = Field(default=50, ge=1, le=500, description="At most so many.")
    page_token: PageToken = None


def webhook_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["webhooks"])
    _add_making(router)
    # Before the reads: a verb's path would also fit theirs.
    _add_verbs(router)
    _add_reads(router)
    return router


def _add_making(router: APIRouter) -> None:
    @router.post(
        "/webhooks",
        status_code=201,
        response_model=WebhookWithSecret,
        summary="Make a webhook",
        response_description="The webhook with its secret, which is shown this once; `Location` is its path.",
        openapi_extra=_BODY,
        responses={
            201: {"headers": _LOCATION},
            **problem_responses(
                errors.NOT_JSON,
                errors.BODY_TOO_LARGE,
                errors.UNSUPPORTED_MEDIA_TYPE,
                errors.WEBHOOK_INVALID,
                errors.QUOTA_EXCEEDED,
                errors.CROSS_SITE,
            ),
        },
    )
    def create_webhook(request: Request, caller: CurrentActor, spec: WebhookBody) -> Response:
        """Have what happens to studies sent to a URL from now on.

        A POST for each event, signed as Standard Webhooks has it, until it is taken.

        A receiver takes one with any status from 200 to 299 within ten seconds. Else it is sent again, ten
        times within about a day. One may be sent twice: its `webhook-id` stays the same.
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
        response_description="The ping, on its way; what came of it stands among the webhook's deliveries.",
        responses=answers,
    )
    def test_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> DeliveryView:
        """Send a ping (`webhook.ping`), once. One that is still on its way is returned instead."""
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
        """Send again what happens from now on, after the webhook was disabled.

        Its receiver had answered 410, or taken nothing for five days.
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
        """Return a page of the webhooks of whoever asks, or for an admin of all."""
        store: Store = request.app.state.store
        return store.webhooks(by=caller, page_size=query.page_size, page_token=query.page_token)

    @router.get(
        "/webhooks/{webhook_id}",
        response_model=WebhookDetail,
        summary="One webhook and its deliveries",
        responses=problem_responses(errors.WEBHOOK_NOT_FOUND),
    )
    def get_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> WebhookDetail:
        """Return a webhook with its newest deliveries: what came of each, and when it is tried again."""
        store: Store = request.app.state.store
        return store.webhook(webhook_id, by=caller)

    @router.delete(
        "/webhooks/{webhook_id}",
        status_code=204,
        summary="Remove a webhook",
        response_description="It is gone, and with it what was still to be sent.",
        responses=problem_responses(errors.WEBHOOK_NOT_FOUND, errors.CROSS_SITE),
    )
    def remove_webhook(request: Request, caller: CurrentActor, webhook_id: WebhookId) -> None:
        """Remove a webhook; what is on its way at this moment may still arrive."""
        store: Store = request.app.state.store
        store.remove_webhook(webhook_id, by=caller)

    _ = list_webhooks, get_webhook, remove_webhook


_Id = Annotated[
    str, Header(alias="webhook-id", description="Id of the message: the same at every attempt to deliver it.")
]
_Timestamp = Annotated[
    int, Header(alias="webhook-timestamp", description="Seconds since 1970 of this attempt.")
]
_Signature = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description=(
            "`v1,` and the HMAC-SHA256 in base64 of id, timestamp and body with full stops between them."
        ),
    ),
]


def describe_payloads(app: FastAPI) -> None:
    """Describe in the app's OpenAPI what webhooks are sent."""
    taken = {
        "description": (
            "The receiver has taken it; with any other status, or none within ten seconds, it is sent again."
        )
    }

    @app.webhooks.post(
        "study",
        operation_id="study_changed",
        summary="A study came into another state",
        tags=["webhooks"],
        responses={200: taken},
    )
    def study_changed(
        body: WebhookPayload, message: _Id, timestamp: _Timestamp, signature: _Signature
    ) -> None:
        """Tell that a study came into a state in which it can stay; `type` names it, as `study.completed`."""
        del body, message, timestamp, signature

    @app.webhooks.post(
        "ping",
        operation_id="webhook_tested",
        summary="A webhook is tried out",
        tags=["webhooks"],
        responses={200: taken},
    )
    def webhook_tested(body: PingPayload, message: _Id, timestamp: _Timestamp, signature: _Signature) -> None:
        """Tell nothing, so that a receiver can be tried out."""
        del body, message, timestamp, signature

    _ = study_changed, webhook_tested
