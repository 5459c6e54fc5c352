"""Domain errors. They know nothing of HTTP; `service/errors.py` maps each to a response.

TangentError
├── SpecInvalid            the study cannot be run as written; WebhookInvalid for webhooks, NotesInvalid for
│                          notes
├── NotFound               StudyNotFound, ArmNotFound, TrialNotFound, ArtifactNotFound, SuiteNotFound,
│                          TokenNotFound, WebhookNotFound
├── IllegalMove            a state transition that the current state does not allow
├── Conflict               VersionConflict (ETag), IdempotencyConflict (same key, different body)
├── Superseded             a later attempt has taken over; this writer's reports are rejected
├── CatalogEmpty           no dispatcher has announced its optimizers and workloads
├── NotPermitted           Unauthenticated (no valid token), Forbidden (role too low), NotOwner,
│                          QuotaExceeded
└── StoreUnavailable       the database cannot be reached or written
"""

__all__ = [
    "MAX_PROBLEMS",
    "ArmNotFound",
    "ArtifactNotFound",
    "CatalogEmpty",
    "Conflict",
    "Forbidden",
    "IdempotencyConflict",
    "IllegalMove",
    "NotFound",
    "NotOwner",
    "NotPermitted",
    "NotesInvalid",
    "QuotaExceeded",
    "SpecInvalid",
    "SpecProblem",
    "StoreUnavailable",
    "StudyNotFound",
    "SuiteNotFound",
    "Superseded",
    "TangentError",
    "TokenNotFound",
    "TrialNotFound",
    "Unauthenticated",
    "VersionConflict",
    "WebhookInvalid",
    "WebhookNotFound",
    "causes",
    "json_kind",
    "json_pointer",
    "shown",
]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_PROBLEMS: Final = 100
"""The most faults that one error lists; it counts the others."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause or else the error during whose handling it was raised, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def json_pointer(*steps: int | str) -> str:
    """Return the RFC 6901 JSON pointer made of these steps.

    A lone surrogate, which JSON text cannot contain, becomes a question mark.
    """
    return (
        "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)
        .encode("utf-8", "replace")
        .decode("utf-8")
    )


def json_kind(value: object) -> str:
    """Return what JSON calls a value of this type, with its article: `a list`, `an object`, `null`."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def shown(value: object) -> str:
    """Return a value as messages quote it: its `repr`, cut off after 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # `repr` fails on very deeply nested lists and on integers of more than 4,300 digits.
        return f"{json_kind(value)} too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


class TangentError(Exception):
    """Base class of every error that a caller of Tangent can cause or encounter."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all attributes; by default, unpickling would call `__init__` with the message only."""
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[TangentError], arguments: tuple[Any, ...]) -> TangentError:
    return kind.__new__(kind, *arguments)


@dataclass(frozen=True)
class SpecProblem:
    """One fault in a study as written.

    Attributes:
        pointer: RFC 6901 JSON pointer to the field, e.g. `/arms/0/space/lr`; empty for the whole body.
        message: what was expected, what came and what to do.
    """

    pointer: str
    message: str


class SpecInvalid(TangentError):
    """A study cannot be run as written; carries every fault, not only the first.

    Attributes:
        problems: the faults, at most `MAX_PROBLEMS`.
        omitted: the number of further faults.
        draft: the data, if it could not be parsed; `studies.drafts` finds what the catalogue says about it.
    """

    def __init__(self, problems: Sequence[SpecProblem], *, draft: Mapping[str, Any] | None = None) -> None:
        self.draft = draft
        self.problems = tuple(problems[:MAX_PROBLEMS])
        self.omitted = len(problems) - len(self.problems)
        message = "; ".join(f"{p.pointer or '/'}: {p.message}" for p in self.problems)
        super().__init__(f"{message}; and {self.omitted} more" if self.omitted else message)

    def with_problems(self, problems: Sequence[SpecProblem]) -> "SpecInvalid":
        """Return the error with other pointers or messages for the same faults."""
        changed = type(self)(problems, draft=self.draft)
        changed.omitted = self.omitted
        return changed


class WebhookInvalid(SpecInvalid):
    """A webhook cannot be created as written; carries every fault."""


class NotesInvalid(SpecInvalid):
    """A text cannot be a study's notes; carries every fault."""


class NotFound(TangentError):
    """Nothing has the requested identifier."""


class StudyNotFound(NotFound):
    """No study has this id."""

    def __init__(self, study_id: str) -> None:
        super().__init__(f"there is no study {study_id!r}; list studies with `tangent list`")


class ArmNotFound(NotFound):
    """The study has no arm of this name."""

    def __init__(self, study_id: str, name: str, known: list[str]) -> None:
        super().__init__(f"study {study_id!r} has no arm {name!r}; it has {', '.join(known)}")


class TrialNotFound(NotFound):
    """No trial has this id."""

    def __init__(self, trial_id: str) -> None:
        super().__init__(f"there is no trial {trial_id!r}; list a study's trials with `tangent trials STUDY`")


class ArtifactNotFound(NotFound):
    """No file of this id is kept."""

    def __init__(self, artifact_id: str, *, reason: str | None = None) -> None:
        super().__init__(
            f"there is no kept file {artifact_id!r}; list a study's with `GET /v1/studies/STUDY/artifacts`"
            if reason is None
            else f"the file {artifact_id!r} was not kept: {reason}"
        )


class SuiteNotFound(NotFound):
    """No study has this suite's label."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no suite {shown(name)}; list suites with `tangent suite`, or set `suite` in a study "
            "to start one"
        )


class TokenNotFound(NotFound):
    """No API token has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no token {name!r}; list tokens with `tangent token list`")


class WebhookNotFound(NotFound):
    """The caller has no webhook with this id."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(
            f"you have no webhook {webhook_id!r}; list your webhooks with `tangent webhook list`"
        )


class IllegalMove(TangentError):
    """The current state does not allow this transition.

    Attributes:
        state: the current state.
        allowed: the transitions or verbs that it allows.
    """

    def __init__(self, message: str, *, state: str, allowed: tuple[str, ...] = ()) -> None:
        self.state = state
        self.allowed = allowed
        super().__init__(message)


class Conflict(TangentError):
    """The request conflicts with what is stored."""


class VersionConflict(Conflict):
    """The study, or its notes, changed since the version the caller read (`If-Match`)."""


class IdempotencyConflict(Conflict):
    """This Idempotency-Key was used before with a different body."""


class Superseded(TangentError):
    """A later attempt has taken over; this writer must stop, and nothing that it reported was stored."""


class CatalogEmpty(TangentError):
    """No dispatcher has ever announced optimizers and workloads to this database."""

    def __init__(self) -> None:
        super().__init__(
            "the catalogue is empty because no dispatcher has started yet; start one with `tangent up` or "
            "`python -m workers`, then submit again"
        )


class NotPermitted(TangentError):
    """The caller may not do this."""


class Unauthenticated(NotPermitted):
    """The request has no valid API token."""


class Forbidden(NotPermitted):
    """The token's role is too low for this."""


class NotOwner(NotPermitted):
    """The study belongs to another token; only its owner or an admin may change it."""


class QuotaExceeded(NotPermitted):
    """The request exceeds a quota of the token; the message names the quota and says what to do."""


class StoreUnavailable(TangentError):
    """The database cannot be opened, reached or written; the message gives its address and the cause."""
