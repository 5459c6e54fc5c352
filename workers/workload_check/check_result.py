"""What a check of a workload found, and where in the user's code."""

__all__ = ["CheckFailed", "CheckResult", "Status", "calling"]

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

from workers.workload_errors import CannotTrain, describe_error, place_of

Status = Literal["ok", "note", "warning", "error"]
"""`note` is information, `warning` may be intended, `error` makes a study's results wrong or impossible."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: what was checked, in a few words.
        status: how serious it is.
        sentence: what was found; of an error, what was expected, what came and what to do.
        where: file and line of the workload's code that it is about, if there is one.
    """

    check: str
    status: Status
    sentence: str
    where: str | None = None

    @classmethod
    def about(
        cls, function: Callable[..., Any] | type | None, check: str, status: Status, sentence: str
    ) -> Self:
        """Return a result about a function or class of the workload."""
        place = place_of(function) if function is not None else None
        return cls(check, status, sentence, f"{place.filename}:{place.lineno}" if place else None)


class CheckFailed(Exception):
    """A check found an error without whose repair later checks cannot run."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(result.sentence)
        self.result = result


@contextmanager
def calling(check: str, *, workload: str) -> Generator[None]:
    """Turn any error that the workload's code raises in the block into CheckFailed."""
    try:
        yield
    except CheckFailed:
        raise
    # A workload may raise anything.
    except Exception as error:
        if isinstance(error, CannotTrain) and error.function is not None:
            raise CheckFailed(CheckResult.about(error.function, check, "error", str(error))) from error
        fault = describe_error(error, workload=workload)
        raise CheckFailed(CheckResult(check, "error", fault.reason)) from error
