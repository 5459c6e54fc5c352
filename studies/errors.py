"""The domain's errors; none knows HTTP. `service/errors.py` maps each to an answer.

TangentError
├── SpecInvalid            a study's text asks for something that cannot be run; WebhookInvalid likewise
├── NotFound               StudyNotFound, ArmNotFound, TrialNotFound, SuiteNotFound, TokenNotFound,
                           WebhookNotFound
├── IllegalMove            a verb or a state change that the present state does not allow
├── Conflict               VersionConflict (ETag), IdempotencyConflict (same key, other body)
├── Superseded             a writer whose lease or attempt has been taken over: what it says is refused
├── CatalogEmpty           no dispatcher has announced what it can run
├── NotPermitted           Unauthenticated (no valid token), Forbidden (a role too low), NotOwner,
                           QuotaExceeded
└── StoreUnavailable       the database cannot be reached or written
"""

__all__ = [
    "ArmNotFound",
    "CatalogEmpty",
    "Conflict",
    "Forbidden",
    "IdempotencyConflict",
    "IllegalMove",
    "NotFound",
    "NotOwner",
    "NotPermitted",
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
    "json_pointer",
    "shown",
]

from dataclasses import dataclass
from typing import Any


def json_pointer(*steps: int | str) -> str:
    """Return the RFC 6901 JSON pointer of these steps.

    Half a surrogate pair, which no JSON text can carry, becomes a question mark.
    """
    return (
        "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)
        .encode("utf-8", "replace")
        .decode("utf-8")
    )


def shown(value: object) -> str:
    """Return a value as a message quotes it: Python's own form, cut off after 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Python refuses lists that are nested without end and whole numbers of more than 4,300 digits.
        return f"{type(value).__name__} beyond measure"
    return text if len(text) <= 80 else f"{text[:77]}..."


class TangentError(Exception):
    """Root of every error that a caller of Tangent can cause or meet."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it go from one process to another as it is.

        By default it would be made again, of its message alone.
        """
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[TangentError], arguments: tuple[Any, ...]) -> TangentError:
    return kind.__new__(kind, *arguments)


@dataclass(frozen=True)
class SpecProblem:
    """One fault in a study's text.

    Attributes:
        pointer: RFC 6901 JSON pointer to the field, e.g. `/arms/0/space/lr`; empty for the whole body.
        message: a sentence that says what was expected, what came and what to do.
    """

    pointer: str
    message: str


class SpecInvalid(TangentError):
    """A study cannot be run as written; carries every fault found, not only the first."""

    def __init__(self, problems: list[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.message}" for p in problems))


class WebhookInvalid(SpecInvalid):
    """A webhook cannot be made as written; carries every fault found."""


class NotFound(TangentError):
    """Nothing stands under the identifier asked for."""


class StudyNotFound(NotFound):
    """No study has this id."""

    def __init__(self, study_id: str) -> None:
        super().__init__(f"there is no study {study_id!r}; `tangent list` shows those there are")


class ArmNotFound(NotFound):
    """The study has no arm of this name."""

    def __init__(self, study_id: str, name: str, known: list[str]) -> None:
        super().__init__(f"study {study_id!r} has no arm {name!r}; it has {', '.join(known)}")


class TrialNotFound(NotFound):
    """No trial has this id."""

    def __init__(self, trial_id: str) -> None:
        super().__init__(f"there is no trial {trial_id!r}")


class SuiteNotFound(NotFound):
    """No study has this suite's label."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no suite {shown(name)}; `tangent suite` lists those there are, and a "
            "study joins one by its field `suite`"
        )


class TokenNotFound(NotFound):
    """No API token has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no token {name!r}; `tangent token list` shows those there are")


class WebhookNotFound(NotFound):
    """Whoever asks has no webhook of this id."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(
            f"there is no webhook {webhook_id!r} of yours; `tangent webhook list` shows those there are"
        )


class IllegalMove(TangentError):
    """A state machine refuses a move.

    Attributes:
        state: the present state.
        allowed: what the present state allows.
    """

    def __init__(self, message: str, *, state: str, allowed: tuple[str, ...] = ()) -> None:
        self.state = state
        self.allowed = allowed
        super().__init__(message)


class Conflict(TangentError):
    """The request is at odds with what is stored."""


class VersionConflict(Conflict):
    """The study changed since the version the caller read (`If-Match`)."""


class IdempotencyConflict(Conflict):
    """The same Idempotency-Key came before with another body."""


class Superseded(TangentError):
    """A later attempt has taken over; this writer must stop. Nothing it said was stored."""


class CatalogEmpty(TangentError):
    """No dispatcher has ever announced optimizers and workloads to this database."""

    def __init__(self) -> None:
        super().__init__(
            "no dispatcher has announced what it can run yet; start one with `tangent up` or "
            "`python -m workers`, then submit again"
        )


class NotPermitted(TangentError):
    """The caller may not do this."""


class Unauthenticated(NotPermitted):
    """No valid API token came with the request."""


class Forbidden(NotPermitted):
    """The token's role is too low for this."""


class NotOwner(NotPermitted):
    """The study is another's, and only its owner or an admin may change it."""


class QuotaExceeded(NotPermitted):
    """What was asked for is beyond what the token may have; the message names the quota and what to do."""


class StoreUnavailable(TangentError):
    """The database cannot be opened, reached or written; the message names it and the cause."""
