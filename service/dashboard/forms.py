"""The forms of the page: their fields as text, and the extension of a study that they describe."""

__all__ = ["Form", "LoginForm", "NotesForm", "StudyForm", "extension_of", "version_of"]

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from service import errors
from service.dashboard.form_document import MOST_FIELDS_OF_STUDY
from service.errors import HTTPProblem
from service.strict_json import MAX_BODY_BYTES
from studies.errors import SpecInvalid, SpecProblem
from studies.extension import Extension, parse_extension

_FEW_FIELDS: Final = 32
# A token and a path.
_LOGIN_BYTES: Final = 1 << 14
_TOTALS = ("trials_per_arm", "replicates", "seeds")


def _form(
    max_bytes: int, *, most_fields: int = _FEW_FIELDS, has_empty: bool = False
) -> Callable[[Request], Awaitable[dict[str, str]]]:
    """Return a dependency that reads the fields of a form that are filled in; of a repeated field, the last.

    With `has_empty` it reads those that are not filled in too.
    It raises SpecInvalid if the body is not a form or has too many fields, and HTTPProblem if it is too
    large.
    """

    async def read(request: Request) -> dict[str, str]:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > max_bytes:
                raise HTTPProblem(errors.BODY_TOO_LARGE, f"the form may have at most {max_bytes} bytes")
        try:
            text = body.decode("utf-8", "replace")
            return dict(parse_qsl(text, keep_blank_values=has_empty, max_num_fields=most_fields))
        except ValueError:
            raise SpecInvalid(
                [SpecProblem("", f"expected a form of at most {most_fields} fields; send it from its page")]
            ) from None

    return read


Form = Annotated[dict[str, str], Depends(_form(MAX_BODY_BYTES))]
"""A route's parameter: the fields of the submitted form."""

NotesForm = Annotated[dict[str, str], Depends(_form(MAX_BODY_BYTES, has_empty=True))]
"""A route's parameter: the fields of the form of notes, whose text may be empty."""

StudyForm = Annotated[dict[str, str], Depends(_form(MAX_BODY_BYTES, most_fields=MOST_FIELDS_OF_STUDY))]
"""A route's parameter: the fields of the form of a whole study."""

LoginForm = Annotated[dict[str, str], Depends(_form(_LOGIN_BYTES))]
"""A route's parameter: the fields of a form that anyone may send, without a token."""


def extension_of(form: dict[str, str]) -> Extension:
    """Return the extension of a study that a form describes; empty fields change nothing.

    Raises:
        SpecInvalid: the form is not valid; the error has every problem found.
    """
    data: dict[str, Any] = {name: _whole(form[name]) for name in _TOTALS if name in form}
    return parse_extension(data | ({"arms": [form["arm"]]} if "arm" in form else {}))


def version_of(form: dict[str, str]) -> int | None:
    """Return the version of the study that the form shows, or None if it has none.

    With it, a form that is sent twice extends the study once.

    Raises:
        SpecInvalid: the version is not a whole number.
    """
    if "version" not in form:
        return None
    version = _whole(form["version"])
    if isinstance(version, str):
        raise SpecInvalid(
            [
                SpecProblem(
                    "/version",
                    f"expected a whole number, got {version[:32]!r}; send the form from the study's page",
                )
            ]
        )
    return version


def _whole(text: str) -> int | str:
    """Return a whole number, or the text as it is, which validation then rejects."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else text
