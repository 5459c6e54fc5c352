"""How errors become answers.

One table from the domain's errors, and HTTP's own, to RFC 9457 problems with stable types.

A problem's `type` is `/problems/SLUG`, which this service answers with an explanation. Slugs never change;
sentences may.
"""

__all__ = [
    "BODY_TOO_LARGE",
    "CROSS_SITE",
    "HOST_REFUSED",
    "INTERNAL",
    "KINDS",
    "KIND_BY_ERROR",
    "METHOD_NOT_ALLOWED",
    "NOT_JSON",
    "NOT_OWNER",
    "NOT_READY",
    "PARAMETER_INVALID",
    "PROBLEM_JSON",
    "QUOTA_EXCEEDED",
    "RATE_LIMITED",
    "TOO_MANY_STREAMS",
    "UNSUPPORTED_MEDIA_TYPE",
    "FieldError",
    "HTTPProblem",
    "Problem",
    "ProblemKind",
    "kind_of",
    "problem_of",
]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from studies import errors

PROBLEM_JSON = "application/problem+json"
_MAX_FAULTS = 50


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem.

    Attributes:
        status: HTTP status.
        slug: last part of its `type`; never changes.
        title: what it is, in a few words.
        advice: what causes it and what to do, for its page.
        example: the detail of one occurrence, for the documentation.
    """

    status: int
    slug: str
    title: str
    advice: str
    example: str

    @property
    def type(self) -> str:
        """The problem's `type`, a URI reference that this service resolves."""
        return f"/problems/{self.slug}"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(
        description=(
            "RFC 6901 JSON pointer into the body, empty for the whole of it; "
            "for a parameter `/` and its name."
        ),
        examples=["/arms/0/space/lr"],
    )
    detail: str = Field(
        description="What was expected, what came and what to do.",
        examples=["lr must lie in (0, inf), got -1"],
    )
    where: Literal["body", "path", "query", "header"] = Field(
        default="body", description="Which part of the request the pointer leads into."
    )


class Problem(BaseModel):
    """Why a request was not done (RFC 9457, `application/problem+json`)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(
        description="Identifies the kind of problem; a path of this service that explains it.",
        examples=["/problems/study-not-found"],
    )
    title: str = Field(
        description="The kind of problem, in a few words.", examples=["There is no such study"]
    )
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What happened this time: what was expected, what came and what to do.")
    instance: str | None = Field(
        default=None,
        description="Names this occurrence in the service's log; only for faults of the service.",
    )
    errors: tuple[FieldError, ...] | None = Field(
        default=None, description="Everything that is wrong with the request, at most fifty things."
    )
    state: str | None = Field(default=None, description="For `illegal-move`: the present state.")
    allowed: tuple[str, ...] | None = Field(
        default=None, description="For `illegal-move`: what the present state allows."
    )
    missing: tuple[str, ...] | None = Field(default=None, description="For `not-ready`: what is missing.")


SPEC_INVALID = ProblemKind(
    422,
    "spec-invalid",
    "The study cannot be run as written",
    "The body is JSON but describes no study that can be run. `errors` names every fault "
    "with a JSON pointer to it; mend them and send it again. With `?validate_only=true` a "
    "study is checked and nothing is stored.",
    "/arms/0/optimizer: there is no optimizer 'adamq'; did you mean 'adamp'?",
)
WEBHOOK_INVALID = ProblemKind(
    422,
    "webhook-invalid",
    "The webhook cannot be made as written",
    "The body is JSON but describes no webhook that can be called. `errors` names every "
    "fault with a JSON pointer to it.",
    "/url: expected a URL such as https://hooks.example/tangent, got 'hooks.example'",
)
PARAMETER_INVALID = ProblemKind(
    422,
    "parameter-invalid",
    "A parameter cannot be used",
    "A query parameter or a header has a value outside what the API's "
    "description allows; `errors` names each.",
    "/page_size: input should be less than or equal to 500, got '9999'",
)
NOT_FOUND = ProblemKind(
    404,
    "not-found",
    "There is nothing here",
    "No resource stands under this path. `GET /v1` lists where to begin, /docs every path.",
    "there is nothing at /v1/studys; GET /v1 lists where to begin",
)
STUDY_NOT_FOUND = ProblemKind(
    404,
    "study-not-found",
    "There is no such study",
    "No study has this id. Ids are made when a study is submitted; `GET /v1/studies` lists them.",
    "there is no study 'k3f9x2db'; `tangent list` shows those there are",
)
ARM_NOT_FOUND = ProblemKind(
    404,
    "arm-not-found",
    "The study has no such arm",
    "Arms are named after their optimizers unless the study says otherwise; "
    "`GET /v1/studies/{study_id}/arms` lists them.",
    "study 'k3f9x2db' has no arm 'adam'; it has adamp, adamw",
)
TRIAL_NOT_FOUND = ProblemKind(
    404,
    "trial-not-found",
    "There is no such trial",
    "No trial has this id. An id is made of the study's, the arm's name and the trial's number; "
    "`GET /v1/studies/{study_id}/trials` lists them.",
    "there is no trial 'k3f9x2db.adamp.99'",
)
SUITE_NOT_FOUND = ProblemKind(
    404,
    "suite-not-found",
    "There is no such suite",
    "No study has this label. A suite is what studies that name the same `suite` make "
    "up; `GET /v1/suites` lists them.",
    "there is no suite 'vision'; `tangent suite` shows those there are",
)
TOKEN_NOT_FOUND = ProblemKind(
    404,
    "token-not-found",
    "There is no such token",
    "No API token has this name; `tangent token list` shows those there are.",
    "there is no token 'alice'; `tangent token list` shows those there are",
)
WEBHOOK_NOT_FOUND = ProblemKind(
    404,
    "webhook-not-found",
    "There is no such webhook",
    "Whoever asks has no webhook of this id; `GET /v1/webhooks` lists those there are. "
    "Only an admin sees those of others.",
    "there is no webhook 'k3f9x2db' of yours; `tangent webhook list` shows those there are",
)
ILLEGAL_MOVE = ProblemKind(
    409,
    "illegal-move",
    "Its state does not allow this",
    "`state` is the study's present state and `allowed` what can be done in it. A completed study can be "
    "confirmed on more seeds or extended; one that was cancelled or has failed can only be cloned.",
    "cannot pause a study that is completed: it allows confirm, extend",
)
CONFLICT = ProblemKind(
    409,
    "conflict",
    "This is at odds with what is stored",
    "Something else stands where this would go; read it first.",
    "a token named 'alice' already exists; choose another name",
)
VERSION_CONFLICT = ProblemKind(
    412,
    "version-conflict",
    "The study changed in the meantime",
    "`If-Match` named a version that is not the present one. Read the study, "
    "decide again, and send its new ETag.",
    "study 'k3f9x2db' is at version 3, not 2; read it again before you change it",
)
IDEMPOTENCY_CONFLICT = ProblemKind(
    # 422 as the IETF's draft on the Idempotency-Key header has it: the request itself cannot be right,
    # sending it again will not help.
    422,
    "idempotency-conflict",
    "This Idempotency-Key was used for another study",
    "A key names one submission: the same body with the same key returns the same study, another body is "
    "refused. Use a new key for a new study.",
    "this Idempotency-Key made study 'k3f9x2db' from another body; use a new key for a new study",
)
SUPERSEDED = ProblemKind(
    409,
    "superseded",
    "A later attempt has taken over",
    "Another run works on this study now; nothing that the earlier one says is stored any more.",
    "study k3f9x2db: attempt 1 is over, attempt 2 has taken over",
)
CATALOG_EMPTY = ProblemKind(
    503,
    "catalog-empty",
    "Nothing can be asked for yet",
    "No dispatcher has announced its optimizers and workloads to this database. Start one with "
    "`tangent up` or `python -m workers`, then try again.",
    str(errors.CatalogEmpty()),
)
UNAUTHENTICATED = ProblemKind(
    401,
    "unauthenticated",
    "A valid API token is needed",
    "Send `Authorization: Bearer TOKEN`, or log in at /login with a browser. Whoever runs the service "
    "makes tokens with `tangent token create`.",
    "this service needs an API token; send it as `Authorization: Bearer TOKEN`",
)
FORBIDDEN = ProblemKind(
    403,
    "forbidden",
    "The token's role is too low",
    "A viewer may read, a submitter may also submit studies and change their "
    "own, an admin may do everything.",
    "token 'alice' is a viewer, and this needs a submitter",
)
NOT_OWNER = ProblemKind(
    403,
    "not-owner",
    "The study is another's",
    "A submitter may change their own studies only; anybody who may submit may "
    "clone one. An admin may change all.",
    "study 'k3f9x2db' belongs to 'alice', and 'bob' may change only their own; clone it, or ask an admin",
)
QUOTA_EXCEEDED = ProblemKind(
    403,
    "quota-exceeded",
    "It is more than the token may have",
    "A token may have quotas: studies open at once, trials of one study, GPU-hours. `GET /v1/account` "
    "shows them and what is used of them; an admin changes them with `tangent token quota`.",
    "token 'alice' may have at most 3 open studies (max_studies) and has 3; wait until one closes, "
    "stop one, or ask an admin for more (`tangent token quota`)",
)
NOT_PERMITTED = ProblemKind(
    403, "not-permitted", "This is not permitted", "The caller may not do this.", "this is not permitted"
)
STORE_UNAVAILABLE = ProblemKind(
    503,
    "store-unavailable",
    "The database does not answer",
    "The service runs but cannot reach or write its database. What was sent is stored whole or "
    "not at all: send it again in a few seconds, a submission with the same `Idempotency-Key`. "
    "The service's log has the cause.",
    "the database cannot be reached or written at the moment; try again in a few seconds",
)
INTERNAL = ProblemKind(
    500,
    "internal-error",
    "A fault of the service",
    "The request met a fault of the service itself. `instance` names it in the service's log.",
    "the service failed at this request; its log has the cause under this instance",
)
METHOD_NOT_ALLOWED = ProblemKind(
    405,
    "method-not-allowed",
    "This path does not know this method",
    "The path exists but not for this method; the header `Allow` lists those it knows. "
    "A study's verbs are POST /v1/studies/{study_id}:pause, :resume, :stop, "
    ":cancel, :confirm, :extend and :clone.",
    "DELETE is not known here; allowed: GET",
)
NOT_JSON = ProblemKind(
    400,
    "not-json",
    "The body is no JSON",
    "The body has to be one JSON value in UTF-8, nested no deeper than 32 levels.",
    "the body is no JSON: expecting ',' delimiter at line 3, column 5",
)
BODY_TOO_LARGE = ProblemKind(
    413,
    "body-too-large",
    "The body is too large",
    "A body may have at most 1 MiB; a study needs a few kilobytes.",
    "the body may have at most 1048576 bytes",
)
UNSUPPORTED_MEDIA_TYPE = ProblemKind(
    415,
    "unsupported-media-type",
    "The body has to be JSON",
    "Send JSON with the header `Content-Type: application/json`; a clone's patch may also "
    "be `application/merge-patch+json`.",
    "expected Content-Type application/json, got 'text/plain'",
)
HOST_REFUSED = ProblemKind(
    421,
    "host-refused",
    "The service does not go by this name",
    "The `Host` header names none of the service's own hosts, which is how a foreign web page would reach "
    "it (DNS rebinding). Use localhost or 127.0.0.1, or list the name in TANGENT_ALLOWED_HOSTS.",
    "this service does not go by the name 'example.com'; list it in TANGENT_ALLOWED_HOSTS if it should",
)
CROSS_SITE = ProblemKind(
    403,
    "cross-site",
    "Another site may not do this",
    "A browser sent this request in the name of another site's page. Changes are taken only from the "
    "service's own pages and from programs.",
    "a page of http://example.com may not change anything here",
)
NOT_READY = ProblemKind(
    503,
    "not-ready",
    "Not ready for studies",
    "`missing` names what has to be there first: a database that answers, tables at the revision of this "
    "version, a catalogue, a dispatcher heard of in the last 30 seconds.",
    "not ready, for it lacks a dispatcher: the last was heard of 1 min 15 s ago; start one with "
    "`tangent up` or `python -m workers`",
)
TOO_MANY_STREAMS = ProblemKind(
    503,
    "too-many-streams",
    "Too many readers watch already",
    "So many event streams are open that no further one is taken. Close one, or read the events as "
    "JSON (`Accept: application/json`).",
    "200 event streams are open already; close one or ask for application/json",
)
RATE_LIMITED = ProblemKind(
    429,
    "rate-limited",
    "Too many requests",
    "A token, and an address without one, may make so many requests in a second (TANGENT_RATE_PER_S). Wait "
    "as many seconds as `Retry-After` says.",
    "more than 50 requests a second came from token 'alice'; send the next in 1 s",
)

KIND_BY_ERROR: dict[type[errors.TangentError], ProblemKind] = {
    errors.TangentError: INTERNAL,
    errors.SpecInvalid: SPEC_INVALID,
    errors.NotFound: NOT_FOUND,
    errors.StudyNotFound: STUDY_NOT_FOUND,
    errors.ArmNotFound: ARM_NOT_FOUND,
    errors.TrialNotFound: TRIAL_NOT_FOUND,
    errors.SuiteNotFound: SUITE_NOT_FOUND,
    errors.TokenNotFound: TOKEN_NOT_FOUND,
    errors.WebhookInvalid: WEBHOOK_INVALID,
    errors.WebhookNotFound: WEBHOOK_NOT_FOUND,
    errors.IllegalMove: ILLEGAL_MOVE,
    errors.Conflict: CONFLICT,
    errors.VersionConflict: VERSION_CONFLICT,
    errors.IdempotencyConflict: IDEMPOTENCY_CONFLICT,
    errors.Superseded: SUPERSEDED,
    errors.CatalogEmpty: CATALOG_EMPTY,
    errors.NotPermitted: NOT_PERMITTED,
    errors.Unauthenticated: UNAUTHENTICATED,
    errors.Forbidden: FORBIDDEN,
    errors.NotOwner: NOT_OWNER,
    errors.QuotaExceeded: QUOTA_EXCEEDED,
    errors.StoreUnavailable: STORE_UNAVAILABLE,
}
"""Every error of the domain; a test walks `studies.errors` so that none is forgotten."""

_OWN_KINDS = (
    METHOD_NOT_ALLOWED,
    NOT_JSON,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    HOST_REFUSED,
    CROSS_SITE,
    NOT_READY,
    TOO_MANY_STREAMS,
    RATE_LIMITED,
)

KINDS: dict[str, ProblemKind] = {
    kind.slug: kind for kind in (*KIND_BY_ERROR.values(), PARAMETER_INVALID, *_OWN_KINDS)
}
"""Every kind of problem by its slug."""


class HTTPProblem(HTTPException):
    """A request that the service itself refuses, for a reason that the domain does not know.

    It is an HTTPException because FastAPI lets no other exception through while it reads a body.

    Attributes:
        kind: the kind of problem.
        missing: what the service lacks, for `not-ready`.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        missing: tuple[str, ...] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.missing = missing
        super().__init__(kind.status, detail, headers)


def kind_of(error: type[errors.TangentError]) -> ProblemKind:
    """Return the kind of an error's class, or of its nearest ancestor in the table."""
    return next(KIND_BY_ERROR[parent] for parent in error.__mro__ if parent in KIND_BY_ERROR)


def problem_of(
    kind: ProblemKind,
    detail: str | None = None,
    *,
    faults: Iterable[FieldError] | None = None,
    error: errors.TangentError | None = None,
    missing: tuple[str, ...] | None = None,
    instance: str | None = None,
) -> Problem:
    """Return a problem of this kind.

    Args:
        kind: what kind it is.
        detail: what happened; by default what the error says.
        faults: what is wrong with the request, where that is the matter.
        error: the domain's error it comes from.
        missing: what the service lacks, for `not-ready`.
        instance: its name in the log.
    """
    move = error if isinstance(error, errors.IllegalMove) else None
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=str(error) if detail is None else detail,
        instance=instance,
        errors=None if faults is None else tuple(faults)[:_MAX_FAULTS],
        state=None if move is None else move.state,
        allowed=None if move is None else move.allowed,
        missing=missing,
    )
