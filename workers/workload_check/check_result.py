"""Results of checks, with the place in the user's code, and errors that end a check."""

__all__ = ["CheckFailed", "about", "calling"]

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from studies.trials import CheckResult, CheckStatus
from workers.workload_errors import CannotTrain, describe_error, place_of


def about(
    function: Callable[..., Any] | type | None, check: str, status: CheckStatus, sentence: str
) -> CheckResult:
    """Return a result about a function or class of the workload."""
    place = place_of(function) if function is not None else None
    return CheckResult(check, status, sentence, f"{place.filename}:{place.lineno}" if place else None)


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
            raise CheckFailed(about(error.function, check, "error", str(error))) from error
        fault = describe_error(error, workload=workload)
        raise CheckFailed(CheckResult(check, "error", fault.reason)) from error
