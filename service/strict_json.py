"""JSON from users, read strictly: limited size and depth, finite numbers, only text that can be stored."""

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DEPTH",
    "MAX_MEMBERS",
    "MAX_WIDTH",
    "check_values",
    "integer",
    "read_json",
    "text_fault",
    "too_many_values",
]

import json
import math
import re
from collections import Counter
from typing import Any, Final, cast

from service import errors
from service.errors import HTTPProblem
from service.json_limits import TooDeep, TooManyValues, check_limits
from studies.control_characters import C1, DIRECTIONS, SURROGATES
from studies.errors import SpecInvalid, SpecProblem, json_pointer

MAX_BODY_BYTES: Final = 1 << 20
"""The largest body; no study needs more than a few kilobytes."""

MAX_DEPTH: Final = 32
"""The deepest nesting of a body; a study is at most six levels deep."""

MAX_MEMBERS: Final = 30_000
"""The most fields and entries of lists in a body, at all levels.

A body of 1 MiB could have half a million, each of which takes a hundred times its size in memory once it is
parsed, validated and reported. The largest study, 64 arms with 64 ranges each, has 25,000.
"""

MAX_WIDTH: Final = 100
"""The most fields of one object and entries of one list; no object or list of a study has more."""

_C1 = re.compile(f"[{C1}]")
_SURROGATES = re.compile(f"[{SURROGATES}]")
_DIRECTIONS = re.compile(f"[{DIRECTIONS}]")


def read_json(body: bytes, *, invalid: type[SpecInvalid] = SpecInvalid) -> Any:
    """Return the JSON value in a body.

    Args:
        body: the body as it was sent.
        invalid: the error for values that cannot be used.

    Raises:
        HTTPProblem: the body is not valid JSON in UTF-8, has too many values, or is nested too deep.
        SpecInvalid: it contains values that `check_values` refuses.
    """
    _check_size(body)
    try:
        # Some editors put a byte order mark in front.
        data = json.loads(body.decode("utf-8-sig"), parse_int=integer, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise HTTPProblem(
            errors.NOT_JSON, f"the body is not valid UTF-8: {error.reason} at byte {error.start}"
        ) from None
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise HTTPProblem(
            errors.NOT_JSON,
            f"the body is not valid JSON: {reason}" if body.strip() else "the body is empty; send JSON",
        ) from None
    check_values(data, invalid=invalid)
    return data


def check_values(data: Any, *, invalid: type[SpecInvalid] = SpecInvalid) -> None:
    """Check the values in a body that no field of any body may have.

    Raises:
        SpecInvalid: it contains numbers that are not finite, text that cannot be stored, an object or list
            that is too long, or a field twice.
    """
    problems = _unusable_values(data)
    if problems:
        raise invalid(problems)


def integer(text: str) -> float | int:
    """Return a whole number as other JSON readers do."""
    # Python's integers are exact beyond 64 bits, those of other JSON readers are not: read the
    # floating-point number that the others read.
    return int(text) if len(text) <= 18 else float(text)


class _RepeatedFields(dict[str, Any]):
    """An object in which fields appear more than once; it has the last value of each.

    Attributes:
        repeated: the names of these fields.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.repeated = [name for name, count in counts.items() if count > 1]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _RepeatedFields(pairs)


def too_many_values(error: TooManyValues) -> HTTPProblem:
    """Return the problem of a body with too many values."""
    return HTTPProblem(errors.BODY_TOO_LARGE, f"the body {error}; a study needs a few hundred")


def _check_size(body: bytes) -> None:
    """Raise HTTPProblem if a body has too many values or levels, before anything is made of them."""
    try:
        check_limits(body, values=MAX_MEMBERS, depth=MAX_DEPTH)
    except TooDeep as error:
        raise HTTPProblem(errors.NOT_JSON, f"the body {error}; a study needs six") from None
    except TooManyValues as error:
        raise too_many_values(error) from None


def _unusable_values(data: Any) -> list[SpecProblem]:
    """Return the values and names that no field of a study may have."""
    problems: list[SpecProblem] = []
    pending: list[tuple[str, Any]] = [("", data)]
    while pending:
        pointer, value = pending.pop()
        if isinstance(value, dict | list):
            container = cast("dict[str, Any] | list[Any]", value)
            is_object = isinstance(container, dict)
            if len(container) > MAX_WIDTH:
                # Not looked into, or each member could become a fault of its own.
                members = "fields" if is_object else "entries"
                found = f"expected at most {MAX_WIDTH} {members}, got {len(container)}"
                problems.append(SpecProblem(pointer, found))
                continue
            items = container.items() if is_object else enumerate(container)
            pending += [(pointer + json_pointer(step), item) for step, item in items]
            if isinstance(container, _RepeatedFields):
                problems += [
                    SpecProblem(pointer + json_pointer(name), "this field appears twice; remove one")
                    for name in container.repeated
                ]
            names = container if is_object else ()
            faults = (text_fault(name) for name in names)
            problems += [SpecProblem(pointer, f"the name of a field {fault}") for fault in faults if fault]
        elif isinstance(value, str) and (fault := text_fault(value)):
            problems.append(SpecProblem(pointer, f"the text {fault}"))
        elif isinstance(value, float) and not math.isfinite(value):
            found = f"expected a finite number, got {value}; NaN and infinity have no meaning in a study"
            problems.append(SpecProblem(pointer, found))
    return sorted(problems, key=lambda problem: problem.pointer)


def text_fault(text: str) -> str | None:
    """Return why a text cannot be stored and shown; None if it can."""
    if "\0" in text:
        return "contains a NUL character; remove it"
    if _C1.search(text):
        # A terminal may take some of them for the start of a command.
        return "contains a control character; remove it"
    if _SURROGATES.search(text):
        return "contains half of a surrogate pair, which is not a character; remove it"
    if _DIRECTIONS.search(text):
        # The rest of the text would be displayed in another order or on another line: as another name.
        return "contains a character that changes the direction of writing or breaks the line; remove it"
    return None
