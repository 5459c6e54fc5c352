"""Webhooks: what users can subscribe to, the payloads that are sent, and the backoff between retries.

The payload, the form of secrets and the retry policy follow Standard Webhooks 1.0.0
(https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).
"""

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_WEBHOOKS_PER_OWNER",
    "PING",
    "AttemptOutcome",
    "AttemptResult",
    "Delivery",
    "DeliveryEvent",
    "DeliveryState",
    "DeliveryView",
    "PingData",
    "PingPayload",
    "StudyEventData",
    "WebhookDetail",
    "WebhookEvent",
    "WebhookPayload",
    "WebhookSpec",
    "WebhookView",
    "WebhookWithSecret",
    "backoff_s",
    "is_subscribed",
    "new_secret",
    "parse_webhook",
]

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, ValidationError

from studies.errors import SpecProblem, WebhookInvalid, shown
from studies.frozen_model import FrozenModel
from studies.states import StudyState
from studies.validation_errors import problems_of

WebhookEvent = Literal[
    "study.*",
    "study.queued",
    "study.running",
    "study.paused",
    "study.completed",
    "study.cancelled",
    "study.failed",
    "study.noted",
]
"""The events that a webhook can subscribe to: a study enters a stable state, or its notes change.

`study.*` subscribes to all of them, including those that later versions add.
"""

DeliveryEvent = Literal[
    "study.queued",
    "study.running",
    "study.paused",
    "study.completed",
    "study.cancelled",
    "study.failed",
    "study.noted",
    "webhook.ping",
]
DeliveryState = Literal["pending", "delivered", "failed"]
AttemptOutcome = Literal["delivered", "retried", "given_up", "disabled", "superseded"]
"""The outcome of one delivery attempt.

`superseded`: another service has claimed the delivery, or it was deleted, so nothing was stored.
"""

PING: Final = "webhook.ping"
"""The event that tests a webhook; it is never retried."""

MAX_ATTEMPTS: Final = 10
MAX_WEBHOOKS_PER_OWNER: Final = 20
_FIRST_WAIT_S = 5.0
_GROWTH = 4.0
_LONGEST_WAIT_S = 8 * 3600.0
_JITTER = 0.2
_SECRET_BYTES = 32
_LONGEST_URL = 2000
_URL = re.compile(r"[\x21-\x7e]+")


def _valid_url(url: str) -> str:
    """Return the URL if a webhook may have it; else raise ValueError."""
    if not _URL.fullmatch(url):
        raise ValueError(
            "expected a URL of printable ASCII characters, as copied from a browser's address bar, got "
            f"{shown(url)}"
        )
    if "#" in url:
        raise ValueError("expected a URL without a fragment (#...), because fragments are never sent")
    parts = _parts(url)
    if not url.startswith(("https://", "http://")) or not parts.hostname:
        raise ValueError(f"expected a URL such as https://hooks.example/tangent, got {shown(url)}")
    if "@" in parts.netloc:
        # Lists would show it, and every delivery would send it.
        raise ValueError(
            "expected a URL without a user name or password; the receiver can check the signature instead"
        )
    return url


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Reading the port validates it.
        if parts.port != 0:
            return parts
    except ValueError:
        pass
    raise ValueError(f"expected a URL such as https://hooks.example/tangent, got {shown(url)}")


def _each_once(events: tuple[WebhookEvent, ...]) -> tuple[WebhookEvent, ...]:
    return tuple(dict.fromkeys(events))


Url = Annotated[str, AfterValidator(_valid_url)]


class WebhookSpec(FrozenModel):
    """The events that a webhook subscribes to, and the URL to which they are sent."""

    url: Url = Field(
        min_length=1,
        max_length=_LONGEST_URL,
        # The pattern is an approximation; the error messages say more.
        json_schema_extra={"pattern": r"^https?://[\x21\x22\x24-\x7e]+$"},
        description=(
            "The URL that receives deliveries by POST: an https:// address on the internet, or an http:// or "
            "https:// address in a network that the operator allows (TANGENT_WEBHOOK_ALLOW)."
        ),
        examples=["https://hooks.example/tangent"],
    )
    events: Annotated[tuple[WebhookEvent, ...], AfterValidator(_each_once)] = Field(
        default=("study.*",),
        min_length=1,
        max_length=16,
        description="The events to deliver; by default all of them.",
        examples=[["study.completed", "study.failed"]],
    )
    studies: Literal["own", "all"] = Field(
        default="own",
        description=(
            "Whose studies it covers: those of the token that created it (on an open service, studies "
            "without an owner), or, for an admin, all."
        ),
    )
    suite: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="Only studies with this label.",
        examples=["small-vision"],
    )


class WebhookView(WebhookSpec):
    """A webhook, without its secret."""

    id: str = Field(description="The webhook's id.")
    owner: str | None = Field(description="Name of the token that created it; none on an open service.")
    created_at: datetime = Field(description="When it was created.")
    delivered_at: datetime | None = Field(
        description="When its receiver last accepted a delivery; none if never."
    )
    failing_since: datetime | None = Field(
        description="Since when every delivery has failed; none if the last one succeeded."
    )
    disabled_at: datetime | None = Field(description="When it was disabled; none while it is enabled.")
    disabled_reason: str | None = Field(description="Why it was disabled.")

    @property
    def standing(self) -> str:
        """Its status in words: enabled, failing or disabled."""
        if self.disabled_at is not None:
            return f"disabled: {self.disabled_reason}"
        return (
            "enabled"
            if self.failing_since is None
            else f"failing since {self.failing_since:%Y-%m-%d %H:%M:%S} UTC"
        )


class WebhookWithSecret(WebhookView):
    """A new webhook with its secret, which is shown only once."""

    secret: str = Field(
        description=("The signing secret: `whsec_` and 32 random bytes in base64. It cannot be read again.")
    )


class DeliveryView(FrozenModel):
    """One event that was or will be sent to a webhook."""

    id: str = Field(description="The `webhook-id` header, the same at every attempt.")
    event: DeliveryEvent = Field(description="The event.")
    study_id: str | None = Field(description="Id of the study; none for a ping.")
    state: DeliveryState = Field(
        description="`pending`, `delivered` (the receiver answered 2xx) or `failed` (given up)."
    )
    attempts: int = Field(description="Number of attempts started.")
    status_code: int | None = Field(
        description="HTTP status of the last attempt; none if there was no response."
    )
    error: str | None = Field(description="Error of the last attempt; none if it succeeded.")
    created_at: datetime = Field(description="When the event happened.")
    due_at: datetime | None = Field(
        description=(
            "When the next attempt starts; during an attempt, when that attempt counts as lost. None after "
            "the delivery succeeded or was given up."
        )
    )
    ended_at: datetime | None = Field(description="When it was delivered or given up; none before.")


class WebhookDetail(WebhookView):
    """A webhook with its newest deliveries."""

    deliveries: tuple[DeliveryView, ...] = Field(
        description="The 20 newest deliveries of the last 30 days, newest first."
    )


class StudyEventData(FrozenModel):
    """The study's part of a payload; receivers read the rest through the API with a token."""

    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Its title.")
    workload: str = Field(description="Name of its workload.")
    suite: str | None = Field(description="Label of the suite that it belongs to.")
    owner: str | None = Field(description="Name of the token it was submitted with; none on an open service.")
    state_before: StudyState | None = Field(
        description="The previous state; none for a new study, and the same as `state` for `study.noted`."
    )
    state: StudyState = Field(description="The state after the event.")
    state_reason: str | None = Field(description="The reason for this state, if there is one.")
    event: int = Field(
        description=(
            "Number of this event in its study, because deliveries may arrive out of order. The event stream "
            "can be read from this number on."
        )
    )
    path: str = Field(description="Path of the study on this service.")


class WebhookPayload(FrozenModel):
    """The body of a delivery about a study."""

    type: DeliveryEvent = Field(description="The event.")
    timestamp: datetime = Field(
        description="When the event happened; the header `webhook-timestamp` is the time of the attempt."
    )
    data: StudyEventData = Field(description="The study.")


class PingData(FrozenModel):
    """The webhook's part of a ping payload."""

    webhook_id: str = Field(description="Id of the webhook that is tested.")


class PingPayload(FrozenModel):
    """The body of a ping."""

    type: Literal["webhook.ping"] = Field(default=PING, description="Always `webhook.ping`.")
    timestamp: datetime = Field(description="When the test was requested.")
    data: PingData = Field(description="The webhook.")


@dataclass(frozen=True)
class Delivery:
    """One delivery attempt that this process has claimed.

    Attributes:
        id: id of the message, the same at every attempt.
        webhook_id: the webhook.
        study_id: the study; None for a ping.
        event: the event's type.
        url: where it is sent.
        secret: the signing secret.
        body: the payload as JSON.
        attempt: number of the attempt, from 1; results of earlier attempts are rejected.
    """

    id: str
    webhook_id: str
    study_id: str | None
    event: str
    url: str = field(repr=False)
    secret: str = field(repr=False)
    body: str = field(repr=False)
    attempt: int


@dataclass(frozen=True)
class AttemptResult:
    """The result of one delivery attempt.

    Attributes:
        status_code: HTTP status of the response; None if there was none.
        error: what went wrong, in one sentence; None if the receiver accepted the delivery.
        retry_after_s: the receiver's Retry-After, in seconds.
    """

    status_code: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted the delivery, with any 2xx status."""
        return self.status_code is not None and 200 <= self.status_code < 300


def parse_webhook(data: Any) -> WebhookSpec:
    """Parse plain data into a webhook.

    Raises:
        WebhookInvalid: the data is not a webhook; carries every fault with its JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise WebhookInvalid([SpecProblem("", f"expected an object with a url, got {shown(data)}")])
    try:
        return WebhookSpec.model_validate(data)
    except ValidationError as error:
        raise WebhookInvalid(problems_of(error, data, of=WebhookSpec)) from None


def is_subscribed(event: str, events: Sequence[str]) -> bool:
    """Return whether a webhook that subscribes to `events` receives `event`."""
    return event in events or (event.startswith("study.") and "study.*" in events)


def new_secret() -> str:
    """Return a new signing secret: `whsec_` and 32 random bytes in base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def backoff_s(attempts: int, *, luck: float) -> float:
    """Return the seconds to wait after a number of failed attempts: 5, 20, 80 and so on up to 8 hours, ±20 %.

    The tenth and last attempt comes about a day after the first.

    Args:
        attempts: failed attempts so far, at least 1.
        luck: a uniform random number in [0, 1) that spreads out retries of deliveries that failed together.
    """
    wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * _GROWTH ** min(attempts - 1, 30))
    return wait * (1.0 + _JITTER * (2.0 * luck - 1.0))
