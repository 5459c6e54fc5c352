"""How commands write: tables and colour for people, plain lines when nobody watches.

Raw text for what is to be pasted.
"""

__all__ = ["NONE", "ago", "console", "duration", "number", "print_json", "print_raw", "table"]

import json
import os
import sys
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_PIPED_WIDTH = 200
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
NONE = "-"
"""Stands in a table where there is nothing."""


def console(*, stderr: bool = False) -> "Console":
    """Return a console for standard output or error.

    In a file or a pipe it is wide, for nobody's window is too narrow there.
    """
    # Only commands that have something to show pay for it.
    from rich.console import Console

    class Careful(Console):
        """Shows of any text only what a terminal takes for text."""

        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(
                "".join(character for character in text if _is_text(character)), **options
            )

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    # What studies are called is their users' text, and no markup of ours.
    return Careful(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _is_text(character: str) -> bool:
    """Return False for control characters, and for marks that turn the direction of what follows.

    Control characters may be commands to a terminal.
    """
    return character in "\n\t" or (
        unicodedata.category(character) != "Cc" and unicodedata.bidirectional(character) not in _TURNS
    )


def table(title: str | None, *columns: str, right: tuple[str, ...] = ()) -> "Table":
    """Return an empty table with these columns; those named in `right` hold numbers."""
    from rich.table import Table

    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def print_raw(text: str) -> None:
    """Write text as it is: never wrapped, never coloured."""
    typer.echo(text)


def print_json(value: Any) -> None:
    """Write plain data as indented JSON."""
    print_raw(json.dumps(value, indent=2, ensure_ascii=False))


def number(value: float | None) -> str:
    """Return a value with four significant digits, or a dash for none."""
    return NONE if value is None else f"{value:#.4g}"


def duration(seconds: float | None) -> str:
    """Return a span of time as people say it: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was."""
    if moment is None:
        return NONE
    seconds = max(
        0.0, (datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
    )
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
