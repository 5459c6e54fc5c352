"""Request bodies: JSON or YAML, parsed into a study, an extension, seeds, a label, notes or a webhook.

FastAPI does not read the bodies itself, so that the response lists every fault with a JSON pointer to it.
"""

__all__ = [
    "ExtensionBody",
    "LabelBody",
    "MoreSeeds",
    "NotesBody",
    "PatchBody",
    "SeedsBody",
    "StudyBody",
    "WebhookBody",
]

import email.message
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request
from pydantic import Field, ValidationError

from service import errors
from service.body_parsers import body_parsers
from service.errors import HTTPProblem
from service.request_documents import YAML_TYPES, read_request_body
from studies.errors import NotesInvalid, SpecInvalid, SpecProblem, WebhookInvalid, shown
from studies.extension import Extension, parse_extension
from studies.frozen_model import FrozenModel
from studies.labels import SuiteLabel, parse_label
from studies.notes import parse_notes
from studies.spec import StudySpec, parse_spec
from studies.validation_errors import problems_of
from studies.webhooks import WebhookSpec, parse_webhook

_JSON = ("application/json",)
_PATCH = ("application/merge-patch+json", *_JSON)
_T = TypeVar("_T")
_NO_BODY: Any = object()


class MoreSeeds(FrozenModel):
    """On how many fresh seeds to confirm a study's findings."""

    seeds: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="Total number of fresh seeds, more than the study has now; by default five more.",
        examples=[10],
    )


def _parse_seeds(data: Any) -> int | None:
    try:
        return MoreSeeds.model_validate(data).seeds
    except ValidationError as error:
        raise SpecInvalid(problems_of(error, data, of=MoreSeeds)) from None


def _parse_patch(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpecInvalid(
            [SpecProblem("", f"expected an object with the fields to change in the clone, got {shown(data)}")]
        )
    return cast("dict[str, Any]", data)


def _json_body(
    parse: Callable[[Any], _T],
    *,
    types: tuple[str, ...] = _JSON,
    without_body: _T = _NO_BODY,
    invalid: type[SpecInvalid] = SpecInvalid,
) -> Callable[[Request], Awaitable[_T]]:
    """Return a dependency that reads and parses a request's body.

    It raises HTTPProblem if the body is not declared as JSON or YAML, is not valid or is too large, and what
    `parse` raises.

    Args:
        parse: makes the value of the plain data, or raises SpecInvalid with every fault.
        types: accepted media types besides YAML's.
        without_body: the value for a request without a body; by default a body is required.
        invalid: the error for values that no field may have.
    """

    async def read(request: Request) -> _T:
        _check_encoding(request.headers.get("content-encoding", ""))
        if without_body is not _NO_BODY and not (await request.body()).strip():
            return without_body
        is_yaml = _is_yaml(request.headers.get("content-type", ""), types)
        body = await request.body()

        def parsed() -> _T:
            data = read_request_body(body, is_yaml=is_yaml, invalid=invalid)
            # For the pointers of faults that are found later.
            request.state.written = data
            return parse(data)

        return await body_parsers(request).run(parsed)

    return read


def _check_encoding(encoding: str) -> None:
    """Raise HTTPProblem if a body is compressed."""
    if encoding.strip().lower() not in ("", "identity"):
        raise HTTPProblem(
            errors.UNSUPPORTED_MEDIA_TYPE,
            f"expected a body without Content-Encoding, got {encoding[:100]!r}; send it uncompressed",
        )


def _is_yaml(content_type: str, types: tuple[str, ...]) -> bool:
    """Return whether a body is YAML, not JSON; raise HTTPProblem if it is neither."""
    message = email.message.Message()
    message["content-type"] = content_type
    found = message.get_content_type()
    if found in types or found in YAML_TYPES:
        return found in YAML_TYPES
    given = repr(content_type[:100]) if content_type else "none"
    raise HTTPProblem(
        errors.UNSUPPORTED_MEDIA_TYPE,
        f"expected Content-Type {' or '.join((*types, YAML_TYPES[0]))}, got {given}",
    )


StudyBody = Annotated[StudySpec, Depends(_json_body(parse_spec))]
"""A route's parameter: the study in the body, shorthands expanded."""

ExtensionBody = Annotated[Extension, Depends(_json_body(parse_extension))]
"""A route's parameter: the extension in the body, shorthands expanded."""

LabelBody = Annotated[SuiteLabel, Depends(_json_body(parse_label))]
"""A route's parameter: the suite in the body."""

SeedsBody = Annotated[int | None, Depends(_json_body(_parse_seeds, without_body=None))]
"""A route's parameter: the number of seeds in the body; None without a body, or if it names none."""

PatchBody = Annotated[dict[str, Any], Depends(_json_body(_parse_patch, types=_PATCH, without_body={}))]
"""A route's parameter: the JSON merge patch in the body; empty without a body."""

NotesBody = Annotated[str, Depends(_json_body(parse_notes, invalid=NotesInvalid))]
"""A route's parameter: the text of the notes in the body."""

WebhookBody = Annotated[WebhookSpec, Depends(_json_body(parse_webhook, invalid=WebhookInvalid))]
"""A route's parameter: the webhook in the body."""
