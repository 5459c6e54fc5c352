"""Output of commands: tables and colour in a terminal, plain lines in a pipe, raw text for pasting."""

__all__ = ["console", "plain_spaces", "print_json", "print_raw", "table"]

import json
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_PIPED_WIDTH = 200
_DIRECTION_MARKS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def console(*, stderr: bool = False) -> "Console":
    """Return a console for standard output or error.

    In a file or a pipe it is wide, because no window limits it.
    """
    # Imported here so that commands without output start faster.
    from rich.console import Console

    class SafeConsole(Console):
        """A console that drops control characters and direction marks from all text."""

        def render_str(self, text: str, **options: Any) -> "Text":
            shown = "".join(character for character in plain_spaces(text) if _is_text(character))
            return super().render_str(shown, **options)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    # Names of studies are user text, not our markup.
    return SafeConsole(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _is_text(character: str) -> bool:
    """Return whether a character is plain text, not a terminal command and not a direction mark."""
    return character in "\n\t" or (
        unicodedata.category(character) != "Cc"
        and unicodedata.bidirectional(character) not in _DIRECTION_MARKS
    )


def table(title: str | None, *columns: str, right: tuple[str, ...] = ()) -> "Table":
    """Return an empty table with these columns; those named in `right` are aligned right, for numbers."""
    from rich.table import Table

    result = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def plain_spaces(text: str) -> str:
    """Return text with ordinary spaces for no-break spaces, which `grep` would not match."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def print_raw(text: str) -> None:
    """Write text unchanged: not wrapped, not coloured."""
    typer.echo(text)


def print_json(value: Any) -> None:
    """Write plain data as indented JSON."""
    print_raw(json.dumps(value, indent=2, ensure_ascii=False))
