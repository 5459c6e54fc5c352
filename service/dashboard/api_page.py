"""The documentation of the API as a page of the dashboard, written from the OpenAPI description."""

__all__ = ["api_html"]

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from service.dashboard.api_shapes import schema_name, shape_html
from service.dashboard.markdown_html import markdown_parser
from service.dashboard.rendering import render

_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A parameter, or a field of a schema.

    Attributes:
        name: its name.
        place: where a parameter is sent.
        is_required: whether a request must have it.
        shape: its type and limits.
        description: what it means.
    """

    name: str
    place: str = ""
    is_required: bool = False
    shape: Markup
    description: Markup


@dataclass(frozen=True, kw_only=True)
class _Body:
    """What a request sends.

    Attributes:
        description: what it contains.
        types: the accepted media types.
        shape: its schema.
        examples: a title and JSON of each example.
    """

    description: Markup
    types: tuple[str, ...]
    shape: Markup
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """A response: its status, what it means and the schemas of its body by media type."""

    status: str
    description: Markup
    bodies: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True, kw_only=True)
class _Request:
    """One request of the API, or one that is sent to webhooks.

    Attributes:
        curl: a command that sends it with examples of what it needs.
        link: its address, if a browser can open it as it is.
    """

    id: str
    method: str
    path: str
    summary: str
    description: Markup
    parameters: tuple[_Field, ...]
    body: _Body | None
    answers: tuple[_Answer, ...]
    curl: str
    link: str | None


@dataclass(frozen=True, kw_only=True)
class _Schema:
    """A schema: its fields, or its shape if it is not an object with known fields."""

    id: str
    name: str
    description: Markup
    fields: tuple[_Field, ...]
    shape: Markup


def api_html(description: Mapping[str, Any]) -> str:
    """Return the page."""
    components = description["components"]
    tags = [(tag["name"], _markdown(tag["description"])) for tag in description["tags"]]
    by_tag: dict[str, list[_Request]] = {name: [] for name, _ in tags}
    # A path before those below it.
    for path, item in sorted(description["paths"].items()):
        for method, operation in sorted(item.items()):
            by_tag[operation["tags"][0]].append(_request(path, method, operation))
    sent = [
        _request(name, method, operation)
        for name, item in description.get("webhooks", {}).items()
        for method, operation in item.items()
    ]
    return render(
        "api.html",
        about=_markdown(description["info"]["description"]),
        version=description["info"]["version"],
        groups=[(name, text, by_tag[name]) for name, text in tags if by_tag[name]],
        sent=sent,
        ways_in=[_inline(way["description"]) for way in components["securitySchemes"].values()],
        schemas=[_schema(name, schema) for name, schema in components["schemas"].items()],
        here="/docs",
        json_url="/openapi.json",
    )


def _markdown(text: str) -> Markup:
    return Markup(markdown_parser().render(text))  # noqa: S704  # from our own docstrings, and without HTML


def _inline(text: str) -> Markup:
    return Markup(markdown_parser().renderInline(text))  # noqa: S704  # as above


def _request(path: str, method: str, operation: Mapping[str, Any]) -> _Request:
    parameters: Sequence[Mapping[str, Any]] = operation.get("parameters", ())
    body = _body(operation.get("requestBody"))
    query = _needed_query(parameters)
    can_be_opened = method == "get" and not query and _PATH_PARAMETER.search(path) is None
    return _Request(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=_markdown(operation.get("description", "")),
        parameters=tuple(
            _Field(
                name=each["name"],
                place=each["in"],
                is_required=each.get("required", False),
                shape=shape_html(each["schema"]),
                description=_inline(each.get("description", "")),
            )
            for each in parameters
        ),
        body=body,
        answers=tuple(_answer(status, each) for status, each in operation["responses"].items()),
        curl=_curl(path, method, parameters, body, query=query),
        link=path if can_be_opened else None,
    )


def _body(request_body: Mapping[str, Any] | None) -> _Body | None:
    if request_body is None:
        return None
    content: Mapping[str, Any] = request_body["content"]
    [first, *_] = content.values()
    return _Body(
        description=_inline(request_body.get("description", "")),
        types=tuple(content),
        shape=shape_html(first["schema"]),
        examples=tuple(
            (example["summary"], json.dumps(example["value"], indent=2, ensure_ascii=False))
            for example in first.get("examples", {}).values()
        ),
    )


def _answer(status: str, answer: Mapping[str, Any]) -> _Answer:
    content: Mapping[str, Any] = answer.get("content", {})
    return _Answer(
        status=status,
        description=_inline(answer["description"]),
        bodies=tuple(
            (media, shape_html(each.get("schema") or each.get("itemSchema") or {}))
            for media, each in content.items()
        ),
    )


def _needed_query(parameters: Sequence[Mapping[str, Any]]) -> str:
    """Return the query with an example of what a request is about; empty if its path says it all.

    A parameter that takes several values names the things asked for, and others filter or order them.
    """
    for each in parameters:
        if each["in"] == "query" and each["schema"].get("type") == "array":
            return "?" + urlencode([(each["name"], value) for value in each["schema"]["examples"][0]])
    return ""


def _curl(
    path: str, method: str, parameters: Sequence[Mapping[str, Any]], body: _Body | None, *, query: str
) -> str:
    """Return a command that sends the request, with the first example of each part of the path."""
    examples = {
        each["name"]: str((each["schema"].get("examples") or [each["name"].upper()])[0])
        for each in parameters
        if each["in"] == "path"
    }
    address = _PATH_PARAMETER.sub(lambda found: examples[found[1]], path)
    verb = "" if method == "get" or (method == "post" and body) else f" -X {method.upper()}"
    lines = [f'curl{verb} "$TANGENT_URL{address}{query}"', '-H "Authorization: Bearer $TANGENT_TOKEN"']
    if body and body.examples:
        text = json.dumps(json.loads(body.examples[0][1]), ensure_ascii=False).replace("'", r"'\''")
        lines += [f"-H 'Content-Type: {body.types[0]}'", f"-d '{text}'"]
    return " \\\n  ".join(lines)


def _schema(name: str, schema: Mapping[str, Any]) -> _Schema:
    fields = tuple(_fields(schema, is_sent=name.endswith("-Input")))
    return _Schema(
        id=name,
        name=schema_name(name),
        description=_markdown(str(schema.get("description", ""))),
        fields=fields,
        shape=Markup() if fields else shape_html({**schema, "description": ""}),
    )


def _fields(schema: Mapping[str, Any], *, is_sent: bool) -> Iterator[_Field]:
    required: Sequence[str] = schema.get("required", ())
    for name, shape in schema.get("properties", {}).items():
        yield _Field(
            name=name,
            # A response has every field.
            is_required=is_sent and name in required,
            shape=shape_html(shape),
            description=_inline(str(shape.get("description", ""))),
        )
