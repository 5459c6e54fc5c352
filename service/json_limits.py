"""Limits of untrusted JSON, checked before it is parsed: a parsed value takes a hundred times its text."""

__all__ = ["TooDeep", "TooManyValues", "check_limits"]

import re
from typing import Final

# A string, which may be cut off, or a character that starts, ends or separates values. A string is skipped in
# one step and never tried again, so the time is proportional to the size.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{},]', re.DOTALL)


class TooDeep(ValueError):
    """Values are nested deeper than the limit."""


class TooManyValues(ValueError):
    """There are more values than the limit."""


def check_limits(document: bytes | bytearray, *, values: int, depth: int) -> None:
    """Check the number of values in a JSON document and their depth, without parsing them.

    Args:
        document: the text, which need not be valid JSON.
        values: the most fields and entries of lists, over all levels.
        depth: the deepest nesting.

    Raises:
        TooDeep: the document is nested deeper.
        TooManyValues: it has more values.
    """
    found, level = 1, 0
    for token in _TOKEN.finditer(document):
        match token[0]:
            case b"," | b"{" | b"[":
                found += 1
                level += token[0] != b","
            case b"}" | b"]":
                level -= 1
            case _:
                pass
        if level > depth:
            raise TooDeep(f"is nested more than {depth} levels deep")
        if found > values:
            raise TooManyValues(f"has more than {values:,} fields and entries of lists")
