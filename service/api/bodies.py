"""Reads bodies: a study, what is added to one, a patch.

JSON as strict as the API promises, every fault with a pointer to it.
"""

__all__ = [
    "MAX_DEPTH",
    "MoreSeeds",
    "read_extension",
    "read_json",
    "read_patch",
    "read_seeds",
    "read_study",
    "read_webhook",
]

import email.message
import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from service import errors
from service.errors import HTTPProblem
from studies.errors import SpecInvalid, SpecProblem, shown
from studies.extension import Extension, parse_extension
from studies.spec import StudySpec, parse_spec, problems_of
from studies.webhooks import WebhookSpec, parse_webhook

MAX_DEPTH = 32
"""A study is at most six levels deep."""

_JSON = ("application/json",)
_PATCH = ("application/merge-patch+json", "application/json")
_T = TypeVar("_T")
_C1 = re.compile("[\x80-\x9f]")
_HALVES = re.compile("[\ud800-\udfff]")
# Embeddings, overrides and isolates; separators of lines and paragraphs. Marks, which turn nothing but
# themselves, some scripts need.
_TURNS = re.compile("[\u2028-\u202e\u2066-\u2069]")


class MoreSeeds(BaseModel):
    """On how many fresh seeds a study's findings are to be confirmed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="Fresh seeds in all, more than there are; by default five more.",
        examples=[10],
    )


async def read_study(request: Request) -> StudySpec:
    """Return the study that a request's body describes, shorthands spelled out.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        SpecInvalid: with every fault found.
    """
    return await _read(request, parse_spec)


async def read_extension(request: Request) -> Extension:
    """Return the extension that a request's body describes, shorthands spelled out.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        SpecInvalid: with every fault found.
    """
    return await _read(request, parse_extension)


async def read_seeds(request: Request) -> int | None:
    """Return the number of seeds in a request's body; None where it names none, or where there is no body.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        SpecInvalid: with every fault found.
    """
    return await _read(request, _seeds_of) if (await request.body()).strip() else None


async def read_patch(request: Request) -> Any:
    """Return the merge patch in a request's body; an empty one where there is no body.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        SpecInvalid: it is no object, or holds what no study may hold.
    """
    return await _read(request, _patch_of, types=_PATCH) if (await request.body()).strip() else {}


async def read_webhook(request: Request) -> WebhookSpec:
    """Return the webhook that a request's body describes.

    Raises:
        Refusal: the body is not announced as JSON, is none, or is too large.
        WebhookInvalid: with every fault found.
    """
    return await _read(request, parse_webhook)


async def _read(request: Request, parse: Callable[[Any], _T], *, types: tuple[str, ...] = _JSON) -> _T:
    given = request.headers.get("content-type", "")
    message = email.message.Message()
    message["content-type"] = given
    if message.get_content_type() not in types:
        came = repr(given[:100]) if given else "none"
        raise HTTPProblem(
            errors.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type {' or '.join(types)}, got {came}"
        )
    body = await request.body()
    # A hostile body of 1 MiB takes a noticeable time to walk; streams of others must not stutter meanwhile.
    return await run_in_threadpool(lambda: parse(read_json(body)))


def _seeds_of(data: Any) -> int | None:
    try:
        return MoreSeeds.model_validate(data).seeds
    except ValidationError as error:
        raise SpecInvalid(problems_of(error, data, of=MoreSeeds)) from None


def _patch_of(data: Any) -> Any:
    if not isinstance(data, dict):
        raise SpecInvalid(
            [
                SpecProblem(
                    "", f"expected an object with what is to be different in the clone, got {shown(data)}"
                )
            ]
        )
    return cast("dict[str, Any]", data)


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body.

    Raises:
        Refusal: it is no JSON in UTF-8, or nested too deep to be a study.
        SpecInvalid: it holds numbers that are not finite, or text that cannot be stored.
    """
    try:
        data = json.loads(body.decode("utf-8"), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise HTTPProblem(
            errors.NOT_JSON, f"the body is not in UTF-8: {error.reason} at byte {error.start}"
        ) from None
    except json.JSONDecodeError as error:
        said = f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise HTTPProblem(
            errors.NOT_JSON,
            f"the body is no JSON: {said}" if body.strip() else "the body is empty; send JSON",
        ) from None
    except RecursionError:
        raise _too_deep() from None
    problems = _unusable(data)
    if problems:
        raise SpecInvalid(problems)
    return data


def _integer(text: str) -> float | int:
    # Beyond 64 bits Python's integers are exact and everybody else's are not: they count as the
    # floating-point numbers that others read.
    return int(text) if len(text) <= 18 else float(text)


def _too_deep() -> HTTPProblem:
    return HTTPProblem(
        errors.NOT_JSON, f"the body is nested deeper than {MAX_DEPTH} levels; a study needs six"
    )


def _unusable(data: Any) -> list[SpecProblem]:
    """Return what no field of a study may hold, wherever it stands.

    A loop, because recursion is what deep input attacks.
    """
    problems: list[SpecProblem] = []
    waiting: list[tuple[str, int, Any]] = [("", 0, {"": data})]
    while waiting:
        pointer, depth, container = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(container, dict):
            mapping = cast("dict[str, Any]", container)
            problems += [
                SpecProblem(pointer, f"the name of a field {wrong}")
                for key in mapping
                if (wrong := _unprintable(key))
            ]
            items = mapping.items()
        else:
            items = enumerate(cast("list[Any]", container))
        for step, item in items:
            if isinstance(item, dict | list):
                waiting.append((_step(pointer, step), depth + 1, cast("Any", item)))
            elif (isinstance(item, str) and (wrong := _unprintable(item))) or (
                isinstance(item, float) and (wrong := _not_finite(item))
            ):
                problems.append(
                    SpecProblem(
                        _step(pointer, step), wrong if isinstance(item, float) else f"text here {wrong}"
                    )
                )
    return sorted(problems, key=lambda problem: problem.pointer)


def _step(pointer: str, step: int | str) -> str:
    # The whole stands in a container of its own, under no name.
    return (
        pointer
        if step == "" and not pointer
        else f"{pointer}/{str(step).replace('~', '~0').replace('/', '~1')}"
    )


def _not_finite(number: float) -> str | None:
    return (
        None
        if math.isfinite(number)
        else f"expected a finite number, got {number}; NaN and infinity have no meaning in a study"
    )


def _unprintable(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character; leave it out"
    if _C1.search(text):
        # A terminal may take some of them for the beginning of a command.
        return "holds a control character; leave it out"
    if _HALVES.search(text):
        return "holds half a surrogate pair, which is no character; leave it out"
    if _TURNS.search(text):
        # What follows would be shown in another order, or on another line, than it is written: as another
        # name.
        return "holds a character that turns the direction of writing or breaks the line; leave it out"
    return None
