"""The forms of the page: their fields as text, and the extension of a study that they describe."""

__all__ = ["Form", "extension_of", "version_of"]

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from studies.errors import SpecInvalid, SpecProblem
from studies.extension import Extension, parse_extension

_MOST_FIELDS = 32
_TOTALS = ("trials_per_arm", "replicates", "seeds")


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form that are filled in; if a field appears twice, the last one.

    Raises:
        SpecInvalid: the body is not a form, or has too many fields.
    """
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return dict(parse_qsl(body, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise SpecInvalid(
            [
                SpecProblem(
                    "", f"expected a form of at most {_MOST_FIELDS} fields; send it from the study's page"
                )
            ]
        ) from None


Form = Annotated[dict[str, str], Depends(_form)]
"""A route's parameter: the fields of the submitted form."""


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
    """
    version = _whole(form.get("version", ""))
    return version if isinstance(version, int) else None


def _whole(text: str) -> int | str:
    """Return a whole number, or the text as it is, which validation then rejects."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else text
