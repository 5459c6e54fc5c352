"""What a command says, and how it exits, when it cannot do what it was asked."""

__all__ = ["BAD_INPUT", "FAILED", "CommandError"]

FAILED = 1
"""Exit status: what was asked for did not come about."""

BAD_INPUT = 2
"""Exit status: what was asked for makes no sense as written; also what Typer gives for unknown options."""


class CommandError(Exception):
    """A command cannot go on; its sentences are all that the user needs to read."""

    def __init__(self, *sentences: str, exit_code: int = FAILED) -> None:
        self.sentences = sentences
        self.exit_code = exit_code
        super().__init__("; ".join(sentences))


def explain(error: Exception) -> CommandError | None:
    """Return what to tell the user about an error of this house.

    None for any other, which is a fault to be reported.

    A refused study is told fault by fault, each with its place, in the API's own words.
    """
    # Slow to import, and only needed once something went wrong.
    from service.client import ProblemError
    from service.settings import SettingsInvalid
    from studies.errors import SpecInvalid, TangentError

    match error:
        case CommandError():
            return error
        case ProblemError(errors=faults, status=status) if faults:
            return CommandError(
                *(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults), exit_code=_exit_code(status)
            )
        case ProblemError(status=status):
            return CommandError(error.detail, exit_code=_exit_code(status))
        case SpecInvalid(problems=problems):
            return CommandError(
                *(f"{problem.pointer or '/'}: {problem.message}" for problem in problems), exit_code=BAD_INPUT
            )
        case SettingsInvalid():
            return CommandError(str(error), exit_code=BAD_INPUT)
        case TangentError():
            return CommandError(str(error))
        case _:
            return None


def _exit_code(status: int) -> int:
    return BAD_INPUT if status in {400, 413, 422} else FAILED
