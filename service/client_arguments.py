"""Checks of the client's arguments before anything is sent."""

__all__ = ["ArgumentInvalid", "checked_ids", "checked_verb", "key_header", "version_header"]

import operator
import re
import uuid
from typing import Any, Final

from studies.errors import TangentError, shown
from studies.states import StudyMove

_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


class ArgumentInvalid(TangentError):
    """An argument of the client is not valid; nothing was sent."""


def checked_verb(verb: StudyMove) -> str:
    """Return the name of a verb, which may also be given as its name."""
    try:
        return StudyMove(verb).value
    except ValueError:
        raise ArgumentInvalid(
            f"expected a verb such as {StudyMove.PAUSE.value!r}, got {shown(verb)}"
        ) from None


def checked_ids(given: Any) -> list[Any]:
    """Return the ids in a sequence, which must not be a single id."""
    if isinstance(given, str):
        raise ArgumentInvalid(f"expected a list of ids, got the string {shown(given)}")
    return list(given)


def key_header(key: Any) -> dict[str, str]:
    """Return the header with an idempotency key, by default a new one."""
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise ArgumentInvalid(
            f"idempotency_key: expected 1 to 128 printable ASCII characters without spaces, got {shown(key)}"
        )
    return {"idempotency-key": key or str(uuid.uuid4())}


def version_header(version: int | None) -> dict[str, str]:
    """Return the header with the version that a study or its notes must have; none for any version."""
    try:
        return {} if version is None else {"if-match": f'"{operator.index(version)}"'}
    except TypeError:
        raise ArgumentInvalid(f"if_version: expected a whole number, got {shown(version)}") from None
