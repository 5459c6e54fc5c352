"""Studies, extensions and patches as callers give them: Python values, files, or text in JSON or YAML.

Only their form is read here; the service validates them.
"""

__all__ = ["Document", "DocumentInvalid", "read_document", "to_document"]

import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from service.errors import HTTPProblem
from service.json_limits import TooManyValues
from service.strict_json import MAX_BODY_BYTES, MAX_DEPTH, check_values, read_json
from service.strict_yaml import NotYAML, read_yaml
from studies.errors import SpecInvalid, SpecProblem, json_kind, json_pointer, shown

Document = BaseModel | Mapping[str, Any] | str | os.PathLike[str]
"""How a caller may give a study: a model, a mapping, the path of a file, or text in JSON or YAML.

A string is text if it has several lines or starts with `{`, and else a path.
"""


class DocumentInvalid(SpecInvalid):
    """A file or a text cannot be read as a document; the message names it, with the line of each fault.

    Attributes:
        source: the name of the file, or what the text is called in messages.
    """

    def __init__(self, source: str, problems: Sequence[SpecProblem]) -> None:
        super().__init__(problems)
        self.source = source
        self.args = ("; ".join(self.sentences),)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence for each fault."""
        return tuple(
            f"{self.source}: {f'{problem.pointer}: ' if problem.pointer else ''}{problem.message}"
            for problem in self.problems
        )


def read_document(file: str | os.PathLike[str]) -> Any:
    """Return the plain data in a file, or in standard input for `-`.

    The text is JSON if the name ends in `.json`, YAML if it ends in `.yaml` or `.yml`, and else either.

    Raises:
        DocumentInvalid: the file cannot be read or parsed.
    """
    name = os.fspath(file)
    source = "standard input" if name == "-" else name
    try:
        if name == "-":
            body = sys.stdin.buffer.read(MAX_BODY_BYTES + 1)
        else:
            with Path(name).open("rb") as opened:
                body = opened.read(MAX_BODY_BYTES + 1)
    except (OSError, ValueError) as error:
        # ValueError: the name contains a NUL character.
        reason = error.strerror if isinstance(error, OSError) else None
        raise _unreadable(source, f"cannot be read: {(reason or str(error)).lower()}") from None
    # The service accepts no larger body.
    if len(body) > MAX_BODY_BYTES:
        raise _unreadable(source, "is larger than 1 MiB; a study needs a few kilobytes")
    if name.endswith((".yaml", ".yml", ".json")):
        return _parse(body, source, is_json=name.endswith(".json"))
    return _parse_either(body, source)


def to_document(given: Document | Any, *, expected: str) -> dict[str, Any]:
    """Return what a caller gave as plain JSON data.

    Numbers and arrays of numpy, and of whatever else has `tolist`, become numbers and lists.

    Args:
        given: a model, a mapping, a path, or text.
        expected: what it should be, for messages: `a study`.

    Raises:
        DocumentInvalid: it is a file or a text that cannot be read.
        SpecInvalid: it contains values that JSON does not have; carries every fault with a pointer.
    """
    match given:
        case BaseModel():
            return given.model_dump(mode="json")
        case str() if "\n" in given or given.lstrip().startswith("{"):
            body = given.encode("utf-8", "surrogatepass")
            data = _parse_either(body, "the text")
        case str() | os.PathLike():
            data = read_document(cast("str | os.PathLike[str]", given))
        case _:
            data = given
    if not isinstance(data, Mapping):
        raise SpecInvalid([SpecProblem("", f"expected {expected} as an object, got {json_kind(data)}")])
    problems: list[SpecProblem] = []
    plain = _plain(cast("Mapping[Any, Any]", data), (), problems)
    if problems:
        raise SpecInvalid(problems)
    check_values(plain)
    return plain


def _plain(value: Any, steps: tuple[int | str, ...], problems: list[SpecProblem]) -> Any:
    """Return a value as JSON has it, and record what JSON does not have."""
    if len(steps) > MAX_DEPTH:
        raise SpecInvalid([SpecProblem("", f"nested more than {MAX_DEPTH} levels deep; a study needs six")])
    match value:
        case None | bool() | int() | float() | str():
            # Subclasses, such as numpy's float64 and the members of enumerations, become plain.
            plain: Any = value.value if isinstance(value, Enum) else value
            return float(plain) if isinstance(plain, float) else plain
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            for key in cast("Mapping[Any, Any]", value):
                if not isinstance(key, str):
                    message = f"expected strings as the names of fields, got {shown(key)}"
                    problems.append(SpecProblem(json_pointer(*steps), message))
            return {
                str(key): _plain(item, (*steps, str(key)), problems)
                for key, item in cast("Mapping[Any, Any]", value).items()
            }
        case list() | tuple() | range():
            items = cast("Sequence[Any]", value)
            return [_plain(item, (*steps, index), problems) for index, item in enumerate(items)]
        case _ if callable(getattr(value, "tolist", None)):
            return _plain(value.tolist(), steps, problems)
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            expected = "a string, a number, a boolean, None, a list or a mapping"
            problems.append(SpecProblem(json_pointer(*steps), f"expected {expected}, got a {kind}"))
            return None


def _parse_either(body: bytes, source: str) -> Any:
    """Parse a text of unknown form; if it starts with `{` and is neither, the error is JSON's."""
    is_json = body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    if is_json:
        try:
            return read_json(body)
        except SpecInvalid as error:
            raise DocumentInvalid(source, error.problems) from None
        except HTTPProblem:
            # In YAML, an object in braces needs no quotes.
            is_json = not _is_yaml(body)
    return _parse(body, source, is_json=is_json)


def _is_yaml(body: bytes) -> bool:
    try:
        read_yaml(body)
    except SpecInvalid:
        return True
    except NotYAML:
        return False
    return True


def _unreadable(source: str, reason: str) -> DocumentInvalid:
    return DocumentInvalid(source, [SpecProblem("", reason)])


def _parse(body: bytes, source: str, *, is_json: bool) -> Any:
    try:
        return read_json(body) if is_json else read_yaml(body)
    except HTTPProblem as error:
        raise _unreadable(source, error.detail.replace("the body", "the document", 1)) from None
    except NotYAML as error:
        raise _unreadable(source, f"the document is {error}") from None
    except TooManyValues as error:
        raise _unreadable(source, f"the document {error}; a study needs a few hundred") from None
    except SpecInvalid as error:
        raise DocumentInvalid(source, error.problems) from None
