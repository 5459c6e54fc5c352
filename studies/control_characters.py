"""Removes or escapes the characters that control a terminal or reorder the text around them."""

__all__ = ["C1", "DIRECTIONS", "SURROGATES", "escape_controls", "strip_controls"]

import re
from typing import Final

C1: Final = "\x80-\x9f"
"""Controls of which a terminal may take some for the start of a command; a range of a character class."""

SURROGATES: Final = "\ud800-\udfff"
"""Halves of surrogate pairs, which are not characters; a range of a character class."""

DIRECTIONS: Final = "\u2028-\u202e\u2066-\u2069"
"""Separators of lines and paragraphs, and embeddings, overrides and isolates of writing directions.

Ranges of a character class. The directional marks are not among them: they turn no other character, and some
scripts need them.
"""

_CONTROLS: Final = re.compile(f"[\x00-\x08\x0b-\x1f\x7f{C1}{DIRECTIONS}{SURROGATES}]")
_CONTROLS_AND_BREAKS: Final = re.compile(f"[\x00-\x1f\x7f{C1}{DIRECTIONS}{SURROGATES}]")

_SHORT_ESCAPES: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def strip_controls(text: str) -> str:
    """Return text for a terminal: without control characters, but with its line breaks and tabs."""
    return _CONTROLS.sub("", text)


def escape_controls(text: str, *, multiline: bool) -> str:
    r"""Return text with control characters written as JSON's escapes, such as `\n` or `\u202e`.

    Args:
        text: the text.
        multiline: keep line breaks and tabs; without it they are escaped too, so that the text is one line.
    """
    return (_CONTROLS if multiline else _CONTROLS_AND_BREAKS).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(found.group(), f"\\u{ord(found.group()):04x}")
