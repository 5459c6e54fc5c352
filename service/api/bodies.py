"""Reads the body of a submission: JSON as strict as the API promises, every fault with a pointer to it."""

__all__ = ["MAX_DEPTH", "read_json", "submitted"]

import email.message
import json
import math
from typing import Any, cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service import errors
from service.problems import Refusal
from studies.errors import SpecInvalid, SpecProblem
from studies.spec import StudySpec, parse_spec

MAX_DEPTH = 32
"""A study is at most six levels deep."""


async def submitted(request: Request) -> StudySpec:
    """Return the study that a request's body describes, shorthands spelled out.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        SpecInvalid: with every fault found.
    """
    given = request.headers.get("content-type", "")
    message = email.message.Message()
    message["content-type"] = given
    if message.get_content_type() != "application/json":
        came = repr(given[:100]) if given else "none"
        raise Refusal(errors.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type application/json, got {came}")
    # A hostile body of 1 MiB takes a noticeable time to walk; streams of others must not stutter meanwhile.
    return await run_in_threadpool(_spec_of, await request.body())


def _spec_of(body: bytes) -> StudySpec:
    return parse_spec(read_json(body))


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body.

    Raises:
        Refusal: it is no JSON in UTF-8, or nested too deep to be a study.
        SpecInvalid: it holds numbers that are not finite, or text that cannot be stored.
    """
    try:
        data = json.loads(body.decode("utf-8"), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise Refusal(errors.NOT_JSON, f"the body is not in UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        said = f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise Refusal(errors.NOT_JSON, f"the body is no JSON: {said}" if body.strip() else "the body is empty; send the study as JSON") from None
    except RecursionError:
        raise _too_deep() from None
    problems = _unusable(data)
    if problems:
        raise SpecInvalid(problems)
    return data


def _integer(text: str) -> float | int:
    # Beyond 64 bits Python's integers are exact and everybody else's are not: they count as the floating-point numbers that others read.
    return int(text) if len(text) <= 18 else float(text)


def _too_deep() -> Refusal:
    return Refusal(errors.NOT_JSON, f"the body is nested deeper than {MAX_DEPTH} levels; a study needs six")


def _unusable(data: Any) -> list[SpecProblem]:
    """Return what no field of a study may hold, wherever it stands. A loop, because recursion is what deep input attacks."""
    problems: list[SpecProblem] = []
    waiting: list[tuple[str, int, Any]] = [("", 0, {"": data})]
    while waiting:
        pointer, depth, container = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(container, dict):
            mapping = cast("dict[str, Any]", container)
            problems += [SpecProblem(pointer, f"the name of a field {wrong}") for key in mapping if (wrong := _unprintable(key))]
            items = mapping.items()
        else:
            items = enumerate(cast("list[Any]", container))
        for step, item in items:
            if isinstance(item, dict | list):
                waiting.append((_step(pointer, step), depth + 1, cast("Any", item)))
            elif (isinstance(item, str) and (wrong := _unprintable(item))) or (isinstance(item, float) and (wrong := _not_finite(item))):
                problems.append(SpecProblem(_step(pointer, step), wrong if isinstance(item, float) else f"text here {wrong}"))
    return sorted(problems, key=lambda problem: problem.pointer)


def _step(pointer: str, step: int | str) -> str:
    # The whole stands in a container of its own, under no name.
    return pointer if step == "" and not pointer else f"{pointer}/{str(step).replace('~', '~0').replace('/', '~1')}"


def _not_finite(number: float) -> str | None:
    return None if math.isfinite(number) else f"expected a finite number, got {number}; NaN and infinity have no meaning in a study"


def _unprintable(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character; leave it out"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "holds half a surrogate pair, which is no character; leave it out"
    return None
