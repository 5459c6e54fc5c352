"""Output of commands: tables and colour in a terminal, plain lines in a pipe, raw text for pasting.

Everything that a command writes passes through here, or through `studies.standard_error`, so that no text can
control the terminal.
"""

__all__ = ["AsJson", "configure_streams", "console", "plain_spaces", "print_json", "print_raw"]

import codecs
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from studies.control_characters import escape_controls, strip_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the API returns it.")]

# A row of a table is one line of a pipe, however long it is.
_PIPED_WIDTH = 10_000
_ERROR_HANDLER = "tangent-substitute"
_SUBSTITUTES = {"−": "-", "–": "-", "×": "x", "≥": ">=", "≤": "<=", "…": "...", "’": "'"}
_SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"


def configure_streams() -> None:
    """Let standard output and error replace the characters that their encodings lack.

    A minus sign becomes a hyphen and 10⁻⁵ becomes 10^-5; characters without such a substitute become
    question marks.
    """
    codecs.register_error(_ERROR_HANDLER, _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERROR_HANDLER)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object
    written = ""
    for place in range(error.start, error.end):
        character = text[place]
        if character in _SUPERSCRIPTS:
            is_first = place == 0 or text[place - 1] not in _SUPERSCRIPTS
            digit = _SUPERSCRIPTS.index(character) - 1
            written += ("^" if is_first else "") + ("-" if digit < 0 else str(digit))
        else:
            written += _SUBSTITUTES.get(character, "?")
    return written, error.end


def console(*, stderr: bool = False) -> "Console":
    """Return a console for standard output or error.

    In a file or a pipe its lines are as long as they need to be, because no window limits them.
    """
    # Imported here so that commands without output start faster.
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """A console that drops control characters and direction marks from all text."""

        def render(
            self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
        ) -> "Iterable[Segment]":
            for segment in super().render(renderable, options):
                if segment.control:
                    yield segment
                else:
                    yield Segment(strip_controls(plain_spaces(segment.text)), segment.style)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    # Names of studies are user text, not our markup.
    return SafeConsole(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def plain_spaces(text: str) -> str:
    """Return text with ordinary spaces for no-break spaces, which `grep` would not match."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def print_raw(text: str) -> None:
    """Write text as it is, not wrapped and not coloured, without its control characters."""
    _write_line(sys.stdout, strip_controls(text))


def print_json(value: Any) -> None:
    """Write plain data as indented JSON; control characters are escaped, so that the data is unchanged."""
    is_utf8 = re.fullmatch("utf-?8", sys.stdout.encoding or "", re.IGNORECASE) is not None
    text = json.dumps(value, indent=2, ensure_ascii=not is_utf8)
    _write_line(sys.stdout, escape_controls(text, multiline=True))


def _write_line(stream: TextIO, text: str) -> None:
    # `typer.echo` would write UTF-8 to a stream whose encoding is ASCII.
    stream.write(f"{text}\n")
    stream.flush()
