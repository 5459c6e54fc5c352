"""What is shown of a trial's output, in words; the page and the command line say the same."""

__all__ = ["describe_output"]

from studies.formatting import byte_size
from studies.views import TrialOutput


def describe_output(output: TrialOutput) -> str:
    """Return whose output it is, and how much its worker printed in all."""
    if not output.size:
        return "Its worker has printed nothing."
    whose = (
        "this trial"
        if output.trials == 1
        else f"the {output.trials} trials of a pack, which share their output"
    )
    return (
        f"The last lines that the worker printed while it trained {whose} (attempt {output.attempt}; "
        f"{byte_size(output.size)} in all)."
    )
