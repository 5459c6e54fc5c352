"""JSON from users, read strictly: UTF-8, bounded depth, finite numbers, and only text that can be stored."""

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "integer", "read_json", "text_fault"]

import json
import math
import re
from typing import Any, cast

from service import errors
from service.errors import HTTPProblem
from studies.errors import SpecInvalid, SpecProblem

MAX_DEPTH = 32
"""The deepest nesting of a body; a study is at most six levels deep."""

MAX_MEMBERS = 50_000
"""The most values in a body, at all levels; 64 arms of 64 hyperparameters with ranges are 25,000."""

_C1 = re.compile("[\x80-\x9f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Embeddings, overrides and isolates, and the separators of lines and paragraphs. The directional marks are
# allowed: they turn no other character, and some scripts need them.
_BIDI_CONTROLS = re.compile("[\u2028-\u202e\u2066-\u2069]")


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body.

    Raises:
        HTTPProblem: the body is not valid JSON in UTF-8, or is nested too deep.
        SpecInvalid: it contains numbers that are not finite, or text that cannot be stored.
    """
    try:
        data = json.loads(body.decode("utf-8"), parse_int=integer)
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
    except RecursionError:
        raise _too_deep() from None
    problems = _unusable_values(data)
    if problems:
        raise SpecInvalid(problems)
    return data


def integer(text: str) -> float | int:
    """Return a whole number as other JSON readers do."""
    # Python's integers are exact beyond 64 bits, those of other JSON readers are not: read the
    # floating-point number that the others read.
    return int(text) if len(text) <= 18 else float(text)


def _too_deep() -> HTTPProblem:
    return HTTPProblem(
        errors.NOT_JSON, f"the body is nested more than {MAX_DEPTH} levels deep; a study needs six"
    )


def _unusable_values(data: Any) -> list[SpecProblem]:
    """Return the values and names that no field of a study may have.

    A loop instead of recursion, because hostile input is deep.
    """
    problems: list[SpecProblem] = []
    pending: list[tuple[str, int, Any]] = [("", 0, {"": data})]
    while pending:
        pointer, depth, container = pending.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(container, dict):
            mapping = cast("dict[str, Any]", container)
            problems += [
                SpecProblem(pointer, f"the name of a field {fault}")
                for key in mapping
                if (fault := text_fault(key))
            ]
            items = mapping.items()
        else:
            items = enumerate(cast("list[Any]", container))
        for step, item in items:
            if isinstance(item, dict | list):
                pending.append((_child_pointer(pointer, step), depth + 1, cast("Any", item)))
            elif isinstance(item, str) and (fault := text_fault(item)):
                problems.append(SpecProblem(_child_pointer(pointer, step), f"the text {fault}"))
            elif isinstance(item, float) and not math.isfinite(item):
                problems.append(
                    SpecProblem(
                        _child_pointer(pointer, step),
                        f"expected a finite number, got {item}; NaN and infinity have no meaning in a study",
                    )
                )
    return sorted(problems, key=lambda problem: problem.pointer)


def _child_pointer(pointer: str, step: int | str) -> str:
    # The whole value is in a container of its own, under an empty name.
    if step == "" and not pointer:
        return pointer
    return f"{pointer}/{str(step).replace('~', '~0').replace('/', '~1')}"


def text_fault(text: str) -> str | None:
    """Return why a text cannot be stored and shown; None if it can."""
    if "\0" in text:
        return "contains a NUL character; remove it"
    if _C1.search(text):
        # A terminal may take some of them for the start of a command.
        return "contains a control character; remove it"
    if _SURROGATES.search(text):
        return "contains half of a surrogate pair, which is not a character; remove it"
    if _BIDI_CONTROLS.search(text):
        # The rest of the text would be displayed in another order or on another line: as another name.
        return "contains a character that changes the direction of writing or breaks the line; remove it"
    return None
