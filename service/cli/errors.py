"""How commands report errors, and their exit statuses."""

__all__ = ["BAD_INPUT", "FAILED", "CommandError"]

import os
import re
from typing import Any, Final

import typer

# How Typer words a value that is not among the choices of an option.
_NOT_ONE_OF: Final = " is not one of "
_CHOICE: Final = re.compile(r"'([^']*)'")

FAILED = 1
"""Exit status of a command that failed."""

BAD_INPUT = 2
"""Exit status for invalid input; Typer uses it for unknown options too."""


class CommandError(Exception):
    """A command failed; its sentences are the whole message for the user."""

    def __init__(self, *sentences: str, exit_code: int = FAILED) -> None:
        self.sentences = sentences
        self.exit_code = exit_code
        super().__init__("; ".join(sentences))


def explain(error: Exception) -> CommandError | None:
    """Return the message for one of Tangent's own errors, or None for any other error, which is a bug.

    A rejected study gets one sentence per fault, each with its pointer, as the API worded it.
    """
    if isinstance(error, typer.BadParameter):
        return _explain_value(error)
    # Slow to import, and needed only after an error.
    from service.client import ProblemError
    from service.client_arguments import ArgumentInvalid
    from service.documents import DocumentInvalid
    from service.settings import SettingsInvalid
    from studies.errors import SpecInvalid, TangentError

    match error:
        case CommandError():
            return error
        case ProblemError(errors=faults, status=status) if faults:
            return CommandError(
                *(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults),
                *_omitted(error.problem.omitted_errors or 0),
                exit_code=_exit_code(status),
            )
        case ProblemError(status=401):
            # The API names its header; a user of the command line passes the token in another way.
            reason = error.detail.partition(";")[0]
            return CommandError(f"{reason}; pass a token with --token or in TANGENT_TOKEN")
        case ProblemError(status=status):
            return CommandError(error.detail, exit_code=_exit_code(status))
        case DocumentInvalid(omitted=omitted):
            return CommandError(*error.sentences, *_omitted(omitted), exit_code=BAD_INPUT)
        case SpecInvalid(problems=problems, omitted=omitted):
            return CommandError(
                *(f"{problem.pointer or '/'}: {problem.message}" for problem in problems),
                *_omitted(omitted),
                exit_code=BAD_INPUT,
            )
        case SettingsInvalid() | ArgumentInvalid():
            return CommandError(str(error), exit_code=BAD_INPUT)
        case TangentError():
            return CommandError(str(error))
        case _:
            return None


def _explain_value(error: typer.BadParameter) -> CommandError | None:
    """Return the message for an option with an invalid value; None for one that is missing."""
    from pydantic import ValidationError

    from studies.suggestions import closest_name
    from studies.validation_errors import describe_expected

    if not isinstance(error.__cause__, ValidationError):
        return None
    # Any, because Typer does not export the types of its parameters.
    parameter: Any = error.param
    (fault, *_) = error.__cause__.errors(include_url=False)
    given = fault["input"]
    choices = _CHOICE.findall(fault["msg"].partition(_NOT_ONE_OF)[2])
    if choices:
        close = closest_name(str(given), choices)
        hint = f"; did you mean {close!r}?" if close else ""
        expected = f"expected {', '.join(choices[:-1])} or {choices[-1]}"
    else:
        hint, expected = "", describe_expected(fault["type"], fault.get("ctx", {}))
    if expected is None:
        return None
    is_from_environment = parameter.envvar is not None and os.environ.get(parameter.envvar) == given
    name = parameter.envvar if is_from_environment else max(parameter.opts, key=len)
    return CommandError(f"{name}: {expected}, got {given!r}{hint}", exit_code=BAD_INPUT)


def _omitted(count: int) -> tuple[str, ...]:
    return (f"and {count} more",) if count else ()


def _exit_code(status: int) -> int:
    return BAD_INPUT if status in {400, 413, 422} else FAILED
