"""Lines on standard error, for messages to people that are not log entries."""

__all__ = ["write_line"]

import sys

from studies.control_characters import strip_controls
from studies.database_urls import masked


def write_line(text: str) -> None:
    """Write a line to standard error, without control characters and passwords of database URLs."""
    sys.stderr.write(f"{masked(strip_controls(text))}\n")
    sys.stderr.flush()
