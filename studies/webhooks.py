"""Webhooks: what is told of studies to an address that somebody named.

Also in which words, and when a telling that failed is tried again.

What is sent follows Standard Webhooks 1.0.0 (https://github.com/standard-webhooks/standard-webhooks,
spec/standard-webhooks.md): its payload, its form of secrets, its advice on when to try again and when to give
up.
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

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from studies.errors import SpecProblem, WebhookInvalid, shown
from studies.spec import problems_of
from studies.states import StudyState

WebhookEvent = Literal[
    "study.*",
    "study.queued",
    "study.running",
    "study.paused",
    "study.completed",
    "study.cancelled",
    "study.failed",
]
"""What can be asked for: that a study has come into a state in which it stays, or `study.*`.

The latter is for all of them, those of later versions too.
"""

DeliveryEvent = Literal[
    "study.queued",
    "study.running",
    "study.paused",
    "study.completed",
    "study.cancelled",
    "study.failed",
    "webhook.ping",
]
DeliveryState = Literal["pending", "delivered", "failed"]
AttemptOutcome = Literal["delivered", "retried", "given_up", "disabled", "superseded"]
"""What became of one attempt; superseded.

Somebody else has the delivery by now, or it is gone, and nothing was stored.
"""

PING: Final = "webhook.ping"
"""What is sent to try a webhook out; it is tried once."""

MAX_ATTEMPTS: Final = 10
MAX_WEBHOOKS_PER_OWNER: Final = 20
_FIRST_WAIT_S = 5.0
_GROWTH = 4.0
_LONGEST_WAIT_S = 8 * 3600.0
_JITTER = 0.2
_SECRET_BYTES = 32
_LONGEST_URL = 2000
_URL = re.compile(r"[\x21-\x7e]+")


def _callable(url: str) -> str:
    """Return the URL, when it is one that a webhook can have."""
    if not _URL.fullmatch(url):
        raise ValueError(
            "expected a URL of printable ASCII characters, as a browser's address "
            f"line gives it, got {shown(url)}"
        )
    if "#" in url:
        raise ValueError("expected a URL without a fragment (#...), which is never sent")
    parts = _parts(url)
    if not url.startswith(("https://", "http://")) or not parts.hostname:
        raise ValueError(f"expected a URL such as https://hooks.example/tangent, got {shown(url)}")
    if "@" in parts.netloc:
        # It would stand in lists, and be sent along with every delivery.
        raise ValueError(
            "expected a URL without a user's name or password; the signature tells the receiver who sends"
        )
    return url


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        if parts.port != 0:
            return parts
    except ValueError:
        pass
    raise ValueError(f"expected a URL such as https://hooks.example/tangent, got {shown(url)}")


def _each_once(events: tuple[WebhookEvent, ...]) -> tuple[WebhookEvent, ...]:
    return tuple(dict.fromkeys(events))


Url = Annotated[str, AfterValidator(_callable)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookSpec(_Value):
    """What is to be told, and where."""

    url: Url = Field(
        min_length=1,
        max_length=_LONGEST_URL,
        # As far as a pattern can say it; whoever gets it wrong is told more than the pattern.
        json_schema_extra={"pattern": r"^https?://[\x21\x22\x24-\x7e]+$"},
        description=(
            "Where it is sent, by POST: an https:// address on the internet, or any address in a network "
            "that the operator has allowed (TANGENT_WEBHOOK_ALLOW), by http:// too."
        ),
        examples=["https://hooks.example/tangent"],
    )
    events: Annotated[tuple[WebhookEvent, ...], AfterValidator(_each_once)] = Field(
        default=("study.*",),
        min_length=1,
        max_length=16,
        description="Of which states of a study it tells; by default of all in which one can stay.",
        examples=[["study.completed", "study.failed"]],
    )
    studies: Literal["own", "all"] = Field(
        default="own",
        description=(
            "Of whose studies it tells: its maker's own (on an open service "
            "nobody's), or, for an admin, everybody's."
        ),
    )
    suite: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
        description="Only of studies with this label.",
        examples=["small-vision"],
    )


class WebhookView(WebhookSpec):
    """A webhook, without its secret."""

    id: str = Field(description="Its id, made with it.")
    owner: str | None = Field(description="Name of the token that made it; none on an open service.")
    created_at: datetime = Field(description="When it was made.")
    delivered_at: datetime | None = Field(description="When its receiver last took something; none if never.")
    failing_since: datetime | None = Field(
        description="Since when nothing has been taken that was sent; none while all is well."
    )
    disabled_at: datetime | None = Field(
        description="Since when nothing is sent any more; none while it is enabled."
    )
    disabled_reason: str | None = Field(description="Why nothing is sent any more.")

    @property
    def standing(self) -> str:
        """How it fares, in words."""
        if self.disabled_at is not None:
            return f"disabled: {self.disabled_reason}"
        return (
            "enabled"
            if self.failing_since is None
            else f"failing since {self.failing_since:%Y-%m-%d %H:%M:%S} UTC"
        )


class WebhookWithSecret(WebhookView):
    """A new webhook with its secret, which is shown this once."""

    secret: str = Field(
        description=(
            "What the signature is made with: `whsec_` and 32 random bytes in "
            "base64. It cannot be read again."
        )
    )


class DeliveryView(_Value):
    """Something that a webhook has told, or is to tell."""

    id: str = Field(description="The `webhook-id` that it is sent with, the same at every attempt.")
    event: DeliveryEvent = Field(description="What it tells.")
    study_id: str | None = Field(description="Of which study; none for a ping.")
    state: DeliveryState = Field(
        description="Still to be taken, taken by the receiver (any 2xx), or given up."
    )
    attempts: int = Field(description="How many attempts were begun.")
    status_code: int | None = Field(
        description="What the receiver answered to the last of them; none if it did not."
    )
    error: str | None = Field(description="What was wrong with the last of them; none if nothing was.")
    created_at: datetime = Field(description="When there was something to tell.")
    due_at: datetime | None = Field(
        description=(
            "When it is sent next; while an attempt is under way, when that counts "
            "as lost. None once it is settled."
        )
    )
    ended_at: datetime | None = Field(description="When it was taken or given up; none before.")


class WebhookDetail(WebhookView):
    """A webhook with its newest deliveries."""

    deliveries: tuple[DeliveryView, ...] = Field(
        description="The newest twenty of the last thirty days, newest first."
    )


class StudyEventData(_Value):
    """What a delivery says of a study; the rest is read with a token."""

    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Its title for people.")
    workload: str = Field(description="Name of its workload.")
    suite: str | None = Field(description="Label of the suite that it belongs to.")
    owner: str | None = Field(description="Name of the token it was submitted with; none on an open service.")
    state_before: StudyState | None = Field(
        description="The state that it left; none for a study that was just submitted."
    )
    state: StudyState = Field(description="The state that it has come into.")
    state_reason: str | None = Field(description="Why, when there is something to say.")
    event: int = Field(
        description=(
            "Number of this event in the study: deliveries may arrive in another order. "
            "Its events can be read from here."
        )
    )
    path: str = Field(description="Path of the study on this service.")


class WebhookPayload(_Value):
    """The body of a delivery."""

    type: DeliveryEvent = Field(description="What happened.")
    timestamp: datetime = Field(
        description="When it happened; each attempt to tell it has a time of its own, in `webhook-timestamp`."
    )
    data: StudyEventData = Field(description="To which study.")


class PingData(_Value):
    """What a ping says."""

    webhook_id: str = Field(description="Id of the webhook that is tried out.")


class PingPayload(_Value):
    """The body of a ping."""

    type: Literal["webhook.ping"] = Field(default=PING, description="Always `webhook.ping`.")
    timestamp: datetime = Field(description="When it was asked for.")
    data: PingData = Field(description="What it is about.")


@dataclass(frozen=True)
class Delivery:
    """One attempt to deliver that this process has taken on.

    Attributes:
        id: the message's, the same at every attempt.
        webhook_id: whose it is.
        study_id: the study that it is about; None for a ping.
        event: what it tells.
        url: where it is sent.
        secret: what it is signed with.
        body: what is sent.
        attempt: which attempt this is, from 1; what an earlier one still says is refused.
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
    """What came of an attempt.

    Attributes:
        status_code: what the receiver answered; None if it did not.
        error: what was wrong, in a sentence; None if the receiver took it.
        retry_after_s: how long the receiver asked to be left alone.
    """

    status_code: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status_code is not None and 200 <= self.status_code < 300


def parse_webhook(data: Any) -> WebhookSpec:
    """Return the webhook that plain data describes.

    Raises:
        WebhookInvalid: with every fault found, each with a JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise WebhookInvalid([SpecProblem("", f"expected an object with a url, got {shown(data)}")])
    try:
        return WebhookSpec.model_validate(data)
    except ValidationError as error:
        raise WebhookInvalid(problems_of(error, data, of=WebhookSpec)) from None


def is_subscribed(event: str, events: Sequence[str]) -> bool:
    """Return whether an event is among those that a webhook asks for."""
    return event in events or (event.startswith("study.") and "study.*" in events)


def new_secret() -> str:
    """Return a new secret to sign with: `whsec_` and 32 random bytes in base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def backoff_s(attempts: int, *, luck: float) -> float:
    """Return the seconds to wait after so many failed attempts.

    5, 20, 80 and so on up to 8 hours, a fifth more or less.

    The tenth attempt, the last, comes about a day after the first.

    Args:
        attempts: from 1.
        luck: uniform in [0, 1): spreads what failed together.
    """
    wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * _GROWTH ** min(attempts - 1, 30))
    return wait * (1.0 + _JITTER * (2.0 * luck - 1.0))
