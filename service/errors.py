"""The kinds of problems in the API's error responses (RFC 9457), and the kind of each domain error.

A problem's `type` is `/problems/SLUG`, a path where this service explains the kind. Slugs never change;
titles and details may.
"""

__all__ = [
    "BODY_TOO_LARGE",
    "CROSS_SITE",
    "HOST_REFUSED",
    "INTERNAL",
    "KINDS",
    "KIND_BY_ERROR",
    "METHOD_NOT_ALLOWED",
    "NOTES_INVALID",
    "NOT_JSON",
    "NOT_OWNER",
    "NOT_READY",
    "NOT_YAML",
    "PARAMETER_INVALID",
    "PROBLEM_JSON",
    "QUOTA_EXCEEDED",
    "RATE_LIMITED",
    "TOO_MANY_BODIES",
    "TOO_MANY_STREAMS",
    "UNSUPPORTED_MEDIA_TYPE",
    "FieldError",
    "HTTPProblem",
    "Problem",
    "ProblemKind",
    "kind_of",
    "problem_of",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from studies import errors

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem.

    Attributes:
        status: HTTP status.
        slug: last part of its `type`; never changes.
        title: a short name.
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
        """The `type` of such a problem: a path of this service that explains it."""
        return f"/problems/{self.slug}"


class FieldError(BaseModel):
    """One fault in a request."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(
        description=(
            "RFC 6901 JSON pointer into the body, empty for the whole body; "
            "for a parameter, `/` and its name."
        ),
        examples=["/arms/0/space/lr"],
    )
    detail: str = Field(
        description="What was expected, what was sent, and what to do.",
        examples=["expected lr in (0, inf), got -1"],
    )
    where: Literal["body", "path", "query", "header"] = Field(
        default="body", description="The part of the request that the pointer refers to."
    )


class Problem(BaseModel):
    """Why a request failed (RFC 9457, `application/problem+json`)."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(
        description="The kind of problem: a path of this service that explains it.",
        examples=["/problems/study-not-found"],
    )
    title: str = Field(description="A short name of the kind of problem.", examples=["Study not found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(
        description="What went wrong in this request: what was expected, what was sent, and what to do."
    )
    instance: str | None = Field(
        default=None,
        description="Identifies this failure in the service's log; only for `internal-error`.",
    )
    errors: tuple[FieldError, ...] | None = Field(
        default=None, description="The faults in the request, at most a hundred."
    )
    omitted_errors: int | None = Field(
        default=None, description="The number of further faults, if `errors` does not list all."
    )
    state: str | None = Field(default=None, description="For `illegal-move`: the study's current state.")
    allowed: tuple[str, ...] | None = Field(
        default=None, description="For `illegal-move`: what the current state allows."
    )
    missing: tuple[str, ...] | None = Field(default=None, description="For `not-ready`: what is missing.")


SPEC_INVALID = ProblemKind(
    422,
    "spec-invalid",
    "The study cannot be run as written",
    "The body is valid JSON but does not describe a study that can be run. `errors` lists every fault with a "
    "JSON pointer to it; correct them and send the body again. With `?validate_only=true` the study is "
    "checked and nothing is stored.",
    "/arms/0/optimizer: there is no optimizer 'adamq'; did you mean 'adamp'?",
)
WEBHOOK_INVALID = ProblemKind(
    422,
    "webhook-invalid",
    "The webhook cannot be created as written",
    "The body is valid JSON but does not describe a webhook that can be called. `errors` lists every fault "
    "with a JSON pointer to it.",
    "/url: expected a URL such as https://hooks.example/tangent, got 'hooks.example'",
)
NOTES_INVALID = ProblemKind(
    422,
    "notes-invalid",
    "The notes cannot be stored as written",
    "The body is valid JSON but is not an object with a text that is short enough. `errors` lists every "
    "fault with a JSON pointer to it.",
    "/text: expected at most 20,000 characters, got 20,001; shorten the notes, or link to a longer text",
)
PARAMETER_INVALID = ProblemKind(
    422,
    "parameter-invalid",
    "A parameter is not valid",
    "A query parameter or a header has a value that the API does not accept; `errors` lists each one.",
    "/page_size: expected at most 500, got '9999'",
)
NOT_FOUND = ProblemKind(
    404,
    "not-found",
    "Not found",
    "No resource has this path. `GET /v1` lists the entry points and /docs every path.",
    "there is nothing at /v1/studys; GET /v1 lists the entry points",
)
STUDY_NOT_FOUND = ProblemKind(
    404,
    "study-not-found",
    "Study not found",
    "No study has this id. A study gets its id when it is submitted; `GET /v1/studies` lists all studies.",
    str(errors.StudyNotFound("k3f9x2db")),
)
ARM_NOT_FOUND = ProblemKind(
    404,
    "arm-not-found",
    "Arm not found",
    "The study has no arm of this name. An arm has the name of its optimizer unless the study names it "
    "otherwise; `GET /v1/studies/{study_id}/arms` lists them.",
    str(errors.ArmNotFound("k3f9x2db", "adam", ["adamp", "adamw"])),
)
TRIAL_NOT_FOUND = ProblemKind(
    404,
    "trial-not-found",
    "Trial not found",
    "No trial has this id. A trial's id consists of the study's id, the arm's name and the trial's number; "
    "`GET /v1/studies/{study_id}/trials` lists them.",
    str(errors.TrialNotFound("k3f9x2db.adamp.99")),
)
ARTIFACT_NOT_FOUND = ProblemKind(
    404,
    "artifact-not-found",
    "File not found",
    "No file of this id is kept: it never was, it was too large, or it has been deleted since, as `keep` of "
    "its study says; `GET /v1/studies/{study_id}/artifacts` lists the files of a study.",
    str(errors.ArtifactNotFound("5f0c3c2e9d7b4a51b7f1a0c9d2e4f680")),
)
ARTIFACT_UNAVAILABLE = ProblemKind(
    503,
    "artifact-unavailable",
    "File unavailable",
    "The service cannot read the file at the place where the workers have kept it: it was deleted there, "
    "or the service cannot reach the place. It must be able to read the dispatcher's TANGENT_CHECKPOINTS.",
    "the file adamp-best.pt of trial k3f9x2db.adamp.c0 cannot be read: the service gets FileNotFoundError "
    "from the place; give the service access to the folder of the checkpoints",
)
RANGE_INVALID = ProblemKind(
    416,
    "range-invalid",
    "Range invalid",
    "The range of bytes that the request asks for begins after the end of the file.",
    "expected a range within the 1048576 bytes of the file, got 'bytes=2000000-'",
)
SUITE_NOT_FOUND = ProblemKind(
    404,
    "suite-not-found",
    "Suite not found",
    "No study has this label. A suite consists of the studies with the same `suite`; `GET /v1/suites` lists "
    "them.",
    str(errors.SuiteNotFound("vision")),
)
TOKEN_NOT_FOUND = ProblemKind(
    404,
    "token-not-found",
    "Token not found",
    "No API token has this name; `tangent token list` lists all tokens.",
    str(errors.TokenNotFound("alice")),
)
WEBHOOK_NOT_FOUND = ProblemKind(
    404,
    "webhook-not-found",
    "Webhook not found",
    "The caller has no webhook with this id; `GET /v1/webhooks` lists the caller's webhooks. Only an admin "
    "sees the webhooks of other users.",
    str(errors.WebhookNotFound("k3f9x2db")),
)
ILLEGAL_MOVE = ProblemKind(
    409,
    "illegal-move",
    "The study's state does not allow this",
    "`state` is the study's current state and `allowed` lists what can be done in it. A completed study can "
    "be confirmed on more seeds or extended, a cancelled or failed study can be cloned, and every closed "
    "study can be archived or deleted.",
    "cannot pause a study that is completed: it allows confirm, extend",
)
CONFLICT = ProblemKind(
    409,
    "conflict",
    "Conflict with what is stored",
    "Something with this name or in this place already exists; read it first.",
    "a token named 'alice' already exists; choose another name",
)
VERSION_CONFLICT = ProblemKind(
    412,
    "version-conflict",
    "The study has changed",
    "`If-Match` names a version that is no longer current. Read the study, or its notes, decide again, and "
    "send the new ETag.",
    "study 'k3f9x2db' is at version 3, not 2; read it again, then retry",
)
IDEMPOTENCY_CONFLICT = ProblemKind(
    # 422 as in the IETF draft on the Idempotency-Key header: repeating the request cannot help.
    422,
    "idempotency-conflict",
    "The Idempotency-Key was used for another study",
    "A key identifies one submission: the same key with the same body returns the same study, and the same "
    "key with another body is refused. Use a new key for a new study.",
    "this Idempotency-Key was used for study 'k3f9x2db' with another body; use a new key for a new study",
)
SUPERSEDED = ProblemKind(
    409,
    "superseded",
    "Superseded by a later attempt",
    "Another run has taken over this study; reports from the earlier attempt are rejected.",
    "study k3f9x2db: attempt 1 is superseded by attempt 2",
)
CATALOG_EMPTY = ProblemKind(
    503,
    "catalog-empty",
    "The catalogue is empty: no dispatcher has started",
    "No dispatcher has announced its optimizers and workloads to this database. Start one with "
    "`tangent up` or `python -m workers`, then try again.",
    str(errors.CatalogEmpty()),
)
UNAUTHENTICATED = ProblemKind(
    401,
    "unauthenticated",
    "A valid API token is required",
    "Send `Authorization: Bearer TOKEN`, or log in at /login with a browser. The operator of the service "
    "creates tokens with `tangent token create`.",
    "this service needs an API token; send it as `Authorization: Bearer TOKEN`",
)
FORBIDDEN = ProblemKind(
    403,
    "forbidden",
    "The token's role is too low",
    "A viewer may read. A submitter may also submit studies and change their own. An admin may do "
    "everything.",
    "token 'alice' has the role viewer, but this needs the role submitter or higher; use another token, or "
    "ask an admin",
)
NOT_OWNER = ProblemKind(
    403,
    "not-owner",
    "The study belongs to another user",
    "A submitter may change only their own studies, but may clone any study. An admin may change all "
    "studies.",
    "study 'k3f9x2db' belongs to 'alice', and 'bob' may change only their own; clone it, or ask an admin",
)
QUOTA_EXCEEDED = ProblemKind(
    403,
    "quota-exceeded",
    "The token's quota is exceeded",
    "A token can have quotas: open studies, trials per study, GPU-hours. `GET /v1/account` shows the quotas "
    "and their use; an admin changes them with `tangent token quota`.",
    "token 'alice' may have at most 3 open studies (max_studies) and has 3; wait until one closes, "
    "stop one, or ask an admin for more (`tangent token quota`)",
)
NOT_PERMITTED = ProblemKind(
    403, "not-permitted", "Not permitted", "The caller may not do this.", "the caller may not do this"
)
STORE_UNAVAILABLE = ProblemKind(
    503,
    "store-unavailable",
    "The database is not available",
    "The service is up but cannot reach or write its database. A request is stored completely or not at "
    "all: send it again in a few seconds, and a submission with the same `Idempotency-Key`. The service's "
    "log has the cause.",
    "the database cannot be reached or written; try again in a few seconds",
)
INTERNAL = ProblemKind(
    500,
    "internal-error",
    "Internal server error",
    "The service failed while it handled the request. `instance` identifies the failure in the service's "
    "log.",
    "the service failed while handling this request; its log has the cause under this instance",
)
METHOD_NOT_ALLOWED = ProblemKind(
    405,
    "method-not-allowed",
    "Method not allowed",
    "The path exists but does not support this method; the header `Allow` lists the methods it supports. "
    "The verbs of a study are POST /v1/studies/{study_id}:pause, :resume, :stop, :cancel, :confirm, :extend "
    "and :clone.",
    "DELETE is not allowed here; allowed: GET",
)
NOT_JSON = ProblemKind(
    400,
    "not-json",
    "The body is not valid JSON",
    "The body must be one JSON value in UTF-8, nested at most 32 levels deep.",
    "the body is not valid JSON: expecting ',' delimiter at line 3, column 5",
)
NOT_YAML = ProblemKind(
    400,
    "not-yaml",
    "The body is not valid YAML",
    "The body must be one document of YAML 1.2 in UTF-8, nested at most 32 levels deep.",
    "the body is not valid YAML: expected ',' or ']' at line 3, column 5",
)
BODY_TOO_LARGE = ProblemKind(
    413,
    "body-too-large",
    "The body is too large",
    "A body may have at most 1 MiB and 30,000 fields and entries of lists; a study needs a few kilobytes.",
    "the body may have at most 1048576 bytes",
)
UNSUPPORTED_MEDIA_TYPE = ProblemKind(
    415,
    "unsupported-media-type",
    "The body must be JSON or YAML",
    "Send JSON with the header `Content-Type: application/json`, or YAML with `application/yaml`; the patch "
    "of a clone may also be `application/merge-patch+json`.",
    "expected Content-Type application/json or application/yaml, got 'text/plain'",
)
HOST_REFUSED = ProblemKind(
    421,
    "host-refused",
    "Unknown host name",
    "The `Host` header is not one of the service's host names. A foreign web page would reach the service "
    "this way (DNS rebinding). Use localhost or 127.0.0.1, or add the name to TANGENT_ALLOWED_HOSTS.",
    "'example.com' is not a host name of this service; if it should be, add it to TANGENT_ALLOWED_HOSTS",
)
CROSS_SITE = ProblemKind(
    403,
    "cross-site",
    "Cross-site request refused",
    "A page of another site made the browser send this request. The service accepts changes only from its "
    "own pages and from programs.",
    "a page of http://example.com may not change anything here",
)
NOT_READY = ProblemKind(
    503,
    "not-ready",
    "Not ready for studies",
    "`missing` lists what is missing: a database that answers, tables at the revision of this version, a "
    "catalogue, or a dispatcher that can start runs, with a heartbeat in the last 30 seconds.",
    "not ready; missing: a dispatcher: the last heartbeat was 1 min 15 s ago; start one with `tangent up` "
    "or `python -m workers`",
)
TOO_MANY_BODIES = ProblemKind(
    503,
    "too-many-bodies",
    "Too many large bodies",
    "The service is reading as many large bodies as it has memory for. Bodies of at most 64 KiB are always "
    "accepted. Wait for the number of seconds in `Retry-After`, then send the request again.",
    "the service is reading many large bodies; try again in a few seconds, or send at most 65536 bytes",
)
ANALYSIS_PENDING = ProblemKind(
    503,
    "analysis-pending",
    "The analysis is being computed",
    "The first analysis of a study, and that of a study that has just closed, can take a while. It goes on "
    "after this response; send the request again after the seconds in `Retry-After`.",
    "the analysis is still being computed; try again in a few seconds",
)
TOO_MANY_STREAMS = ProblemKind(
    503,
    "too-many-streams",
    "Too many open event streams",
    "The service has reached its limit of open event streams. Close one, or read the events as JSON "
    "(`Accept: application/json`).",
    "200 event streams are open already; close one or ask for application/json",
)
RATE_LIMITED = ProblemKind(
    429,
    "rate-limited",
    "Too many requests",
    "The service limits the requests per second of each token, and of each address that sends no valid "
    "token (TANGENT_RATE_PER_S). Wait for the number of seconds in `Retry-After`.",
    "token 'alice' made more than 50 requests a second; retry in 1 s",
)

KIND_BY_ERROR: dict[type[errors.TangentError], ProblemKind] = {
    errors.TangentError: INTERNAL,
    errors.SpecInvalid: SPEC_INVALID,
    errors.NotFound: NOT_FOUND,
    errors.StudyNotFound: STUDY_NOT_FOUND,
    errors.ArmNotFound: ARM_NOT_FOUND,
    errors.TrialNotFound: TRIAL_NOT_FOUND,
    errors.ArtifactNotFound: ARTIFACT_NOT_FOUND,
    errors.SuiteNotFound: SUITE_NOT_FOUND,
    errors.TokenNotFound: TOKEN_NOT_FOUND,
    errors.WebhookInvalid: WEBHOOK_INVALID,
    errors.NotesInvalid: NOTES_INVALID,
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
"""The kind of each domain error. A test compares it with `studies.errors`."""

_OWN_KINDS = (
    ARTIFACT_UNAVAILABLE,
    RANGE_INVALID,
    METHOD_NOT_ALLOWED,
    NOT_JSON,
    NOT_YAML,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    HOST_REFUSED,
    CROSS_SITE,
    NOT_READY,
    TOO_MANY_BODIES,
    ANALYSIS_PENDING,
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
    """Return the kind of an error class, or of its nearest ancestor in the table."""
    return next(KIND_BY_ERROR[parent] for parent in error.__mro__ if parent in KIND_BY_ERROR)


def problem_of(
    kind: ProblemKind,
    detail: str | None = None,
    *,
    faults: Sequence[FieldError] | None = None,
    omitted: int = 0,
    error: errors.TangentError | None = None,
    missing: tuple[str, ...] | None = None,
    instance: str | None = None,
) -> Problem:
    """Return a problem of this kind.

    Args:
        kind: the kind.
        detail: what went wrong; by default the error's message.
        faults: the faults in the request, if any.
        omitted: the number of further faults.
        error: the domain error that caused it.
        missing: what the service lacks, for `not-ready`.
        instance: its identifier in the log.
    """
    move = error if isinstance(error, errors.IllegalMove) else None
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=str(error) if detail is None else detail,
        instance=instance,
        errors=None if faults is None else tuple(faults),
        omitted_errors=omitted or None,
        state=None if move is None else move.state,
        allowed=None if move is None else move.allowed,
        missing=missing,
    )
