"""How commands write: tables and colour for people, plain lines when nobody watches.

Raw text for what is to be pasted.
"""

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
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def console(*, stderr: bool = False) -> "Console":
    """Return a console for standard output or error.

    In a file or a pipe it is wide, for nobody's window is too narrow there.
    """
    # Only commands that have something to show pay for it.
    from rich.console import Console

    class Careful(Console):
        """Shows of any text only what a terminal takes for text."""

        def render_str(self, text: str, **options: Any) -> "Text":
            shown = "".join(character for character in plain_spaces(text) if _is_text(character))
            return super().render_str(shown, **options)

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


def plain_spaces(text: str) -> str:
    """Return text without no-break spaces, which a reader's `grep` would not find."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def print_raw(text: str) -> None:
    """Write text as it is: never wrapped, never coloured."""
    typer.echo(text)


def print_json(value: Any) -> None:
    """Write plain data as indented JSON."""
    print_raw(json.dumps(value, indent=2, ensure_ascii=False))
