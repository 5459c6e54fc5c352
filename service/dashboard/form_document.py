"""A study as the fields of the form, and the fields as a study: without loss in both directions.

A field's name is the JSON pointer to its value. A dimension, which can be written in several ways, has a
field for the way at its own pointer, and one for each number below it:

    /arms/0/space/lr = range, /arms/0/space/lr/low = 1e-4, /arms/0/space/lr/high = 0.1, …/scale = log

An empty field is left out of the study. A field that was filled in for another way of writing a dimension is
kept in the form, and is not part of the study. So is …/lr/listed, the way that the page showed last.
"""

__all__ = [
    "DIMENSION_KINDS",
    "DIMENSION_PARTS",
    "MOST_FIELDS_OF_STUDY",
    "MOST_FILLED",
    "NotInForm",
    "arms_in",
    "document_of",
    "fields_of",
    "names_in_space",
    "scalar_of",
    "text_of",
    "with_arms_in_order",
]

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from service.dashboard.form_fields import ARMS_AFTER, SECTIONS, FormField
from service.strict_json import integer
from studies.errors import TangentError, json_pointer
from studies.space import Scalar
from studies.space_entries import is_dimension
from studies.training_settings import PREFIX

MOST_FIELDS_OF_STUDY: Final = 10_000
"""The most fields of the form of a study, filled in or not; an arm with ten hyperparameters has 80."""

MOST_FILLED: Final = 2_500
"""The most fields of a form that are filled in; a larger study is written as text."""

DIMENSION_KINDS: Final = ("fixed", "range", "choices", "tune", "pair")
DIMENSION_PARTS: Final = {
    "fixed": ("value",),
    "range": ("low", "high", "scale"),
    "choices": ("choices",),
    "tune": (),
    "pair": ("values",),
}
"""The fields below a dimension for each way to write it."""

_FIELDS: Final = {field.pointer: field for section in SECTIONS for field in section.fields}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ITEM: Final = re.compile(r'\s*"(?:[^"\\]|\\.)*"\s*(?=,|$)|[^,]+')
# A study has at most 64 arms.
_OF_ARM: Final = re.compile(r"/arms/([0-9]{1,2})(/.*)")
_ENDS: Final = ("low", "high")
_SCALES: Final = ("log", "integer")


class NotInForm(TangentError):
    """The form cannot show a study without losing something.

    Attributes:
        pointers: JSON pointers to what it cannot show; empty if the study is too large.
    """

    def __init__(self, pointers: Sequence[str]) -> None:
        self.pointers = tuple(pointers)
        super().__init__(f"the form cannot show {', '.join(pointers) or 'a study of this size'}")


def scalar_of(text: str) -> Any:
    """Return the value that a text stands for: a number, true, false, a quoted text, or the text itself."""
    text = text.strip()
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text):
        return integer(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return text


def text_of(value: Scalar) -> str:
    """Return the text of a value, from which `scalar_of` makes the same value."""
    if not isinstance(value, str):
        return json.dumps(value)
    # A quote could end, or begin, another item of a list.
    is_plain = value and value.isprintable() and value == value.strip() and not set(',"') & set(value)
    return value if is_plain and scalar_of(value) == value else json.dumps(value)


def with_arms_in_order(fields: Mapping[str, str], *, without: int | None = None) -> dict[str, str]:
    """Return the fields with the arms numbered from 0 without gaps, and without one of them."""
    numbers = {number: place for place, number in enumerate(n for n in _numbers(fields) if n != without)}
    found: dict[str, str] = {}
    for name, text in fields.items():
        match = _OF_ARM.fullmatch(name)
        if match is None:
            found[name] = text
        elif int(match[1]) in numbers:
            found[f"/arms/{numbers[int(match[1])]}{match[2]}"] = text
    return found


def arms_in(fields: Mapping[str, str]) -> range:
    """Return the numbers of the arms in fields that are in order."""
    return range(len(_numbers(fields)))


def _numbers(fields: Mapping[str, str]) -> list[int]:
    return sorted({int(match[1]) for name in fields if (match := _OF_ARM.fullmatch(name))})


def names_in_space(fields: Mapping[str, str], at: str) -> list[str]:
    """Return the names that the space at a pointer has in the form, in the form's order."""
    prefix = f"{at}/space/"
    found = (name.removeprefix(prefix).partition("/")[0] for name in fields if name.startswith(prefix))
    return [step.replace("~1", "/").replace("~0", "~") for step in dict.fromkeys(found)]


def document_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the study that the fields describe, as JSON data that may not be valid.

    Args:
        fields: text by name, with the arms in order.
    """
    document: dict[str, Any] = {}
    for section in SECTIONS:
        for field in section.fields:
            if fields.get(field.pointer, ""):
                *parents, last = field.pointer[1:].split("/")
                within = document
                for parent in parents:
                    within = within.setdefault(parent, {})
                within[last] = _value(fields[field.pointer], field)
        if section.name == ARMS_AFTER:
            document["arms"] = [_arm(fields, f"/arms/{n}") for n in arms_in(fields)]
            document |= {"space": space} if (space := _space(fields, "")) else {}
    if document.get("pruner", {}).keys() == {"kind"}:
        document["pruner"] = document["pruner"]["kind"]
    return document


def _value(text: str, field: FormField) -> Any:
    match field.kind:
        case "value":
            return scalar_of(text)
        case "flag":
            return {"true": True, "false": False}.get(text, text)
        case "words":
            return [_unquoted(item) for item in _items(text)]
        case "pairs":
            return [[name.strip() for name in item.split("/")] for item in _items(text)]
        case _:
            return text


def _items(text: str) -> list[str]:
    return [item.strip() for item in _ITEM.findall(text) if item.strip()]


def _unquoted(text: str) -> str:
    value = scalar_of(text)
    return value if isinstance(value, str) else text


def _arm(fields: Mapping[str, str], at: str) -> str | dict[str, Any]:
    optimizer = fields.get(f"{at}/optimizer", "")
    arm: dict[str, Any] = {"optimizer": optimizer}
    if name := fields.get(f"{at}/name", ""):
        arm["name"] = name
    if space := _space(fields, at):
        arm["space"] = space
    return arm if len(arm) > 1 else optimizer


def _space(fields: Mapping[str, str], at: str) -> dict[str, Any]:
    entries = {
        name: _dimension(fields, f"{at}/space{json_pointer(name)}") for name in names_in_space(fields, at)
    }
    return {name: entry for name, entry in entries.items() if entry is not None}


def _dimension(fields: Mapping[str, str], at: str) -> Any:
    """Return a dimension, incomplete if fields are empty; None if the study leaves it out."""
    kind = fields.get(at, "")
    match kind:
        case "":
            return None
        case "tune":
            return "tune"
        case "fixed" if f"{at}/value" in fields:
            value = scalar_of(fields[f"{at}/value"])
            return {"value": value} if value == "tune" else value
        case "range":
            given = [end for end in _ENDS if f"{at}/{end}" in fields]
            ends = {end: scalar_of(fields[f"{at}/{end}"]) for end in given} or {"kind": kind}
            scale = fields.get(f"{at}/scale", "").split()
            return ends | {name: True for name in _SCALES if name in scale}
        case "choices" if items := _items(fields.get(f"{at}/choices", "")):
            return {"choices": [scalar_of(item) for item in items]}
        case "pair":
            return [scalar_of(item) for item in _items(fields.get(f"{at}/values", ""))]
        case _:
            return {"kind": kind}


def fields_of(document: Any) -> dict[str, str]:
    """Return the fields of a study, which may not be valid.

    Nulls are left out, because they stand for defaults. Dimensions under `training` are those of the space.

    Args:
        document: the study as JSON data.

    Raises:
        NotInForm: the study has something that no field can hold, such as an unknown field.
    """
    reading = _Reading()
    if not isinstance(document, Mapping):
        raise NotInForm(["/"])
    reading.study(cast("Mapping[str, Any]", document))
    if reading.lost:
        raise NotInForm(reading.lost)
    if len(reading.fields) > MOST_FILLED:
        raise NotInForm([])
    return reading.fields


class _Reading:
    """Collects the fields of a study, and the pointers to what they cannot hold."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.lost: list[str] = []

    def study(self, study: Mapping[str, Any]) -> None:
        space = dict(_mapping(study.get("space")))
        training = _mapping(study.get("training"))
        for name, value in training.items():
            if is_dimension(value):
                if f"{PREFIX}{name}" in space:
                    self.lost.append(f"/training{json_pointer(name)}")
                space[f"{PREFIX}{name}"] = value
        for name, value in study.items():
            at = json_pointer(name)
            match name:
                case "arms" if isinstance(value, list):
                    for n, arm in enumerate(cast("list[Any]", value)):
                        self._arm(f"{at}/{n}", {"optimizer": arm} if isinstance(arm, str) else arm)
                case "space" if isinstance(value, Mapping):
                    continue
                case "pruner" if isinstance(value, str):
                    self._value("/pruner/kind", value)
                case "training" if isinstance(value, Mapping):
                    self._value(at, {key: own for key, own in training.items() if not is_dimension(own)})
                case _:
                    self._value(at, value)
        self._space("/space", space)

    def _keep(self, pointer: str, text: str | None) -> None:
        """Record a field's text, or that no field can hold the value."""
        if text is None:
            self.lost.append(pointer)
        else:
            self.fields[pointer] = text

    def _value(self, at: str, value: Any) -> None:
        if value is None or (at == "/name" and value == ""):
            return
        if isinstance(value, Mapping) and any(pointer.startswith(f"{at}/") for pointer in _FIELDS):
            for name, own in cast("Mapping[str, Any]", value).items():
                self._value(at + json_pointer(name), own)
        else:
            field = _FIELDS.get(at)
            self._keep(at, None if field is None else _field_text(value, field))

    def _arm(self, at: str, arm: Any) -> None:
        given = _mapping(arm)
        self._keep(f"{at}/optimizer", _line(given.get("optimizer")))
        for name, value in given.items():
            if name == "name" and value != "":
                self._keep(f"{at}/name", _line(value))
            elif name == "space" and isinstance(value, Mapping):
                self._space(f"{at}/space", cast("Mapping[str, Any]", value))
            elif name not in {"name", "optimizer"}:
                self.lost.append(at + json_pointer(name))

    def _space(self, at: str, space: Mapping[str, Any]) -> None:
        for name, entry in space.items():
            pointer = at + json_pointer(name)
            texts = _dimension_texts(entry) if _line(name) else None
            if texts is None:
                self.lost.append(pointer)
            else:
                self.fields |= {
                    f"{pointer}/{part}" if part else pointer: text for part, text in texts.items()
                }


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _line(value: Any) -> str | None:
    """Return a text that an input can hold as it is, or None."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _field_text(value: Any, field: FormField) -> str | None:
    match field.kind:
        case "value":
            return text_of(value) if _is_scalar(value) else None
        case "flag":
            return json.dumps(value) if isinstance(value, bool) else None
        case "words":
            return _words_text(value)
        case "pairs":
            return _pairs_text(value)
        case _:
            return _line(value)


def _words_text(value: Any) -> str | None:
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    words = [item for item in items if isinstance(item, str)]
    if len(words) < len(items):
        return None
    return ", ".join(
        word if '"' not in word and _unquoted(word) == word and _items(word) == [word] else json.dumps(word)
        for word in words
    )


def _pairs_text(value: Any) -> str | None:
    pairs = cast("list[Any]", value) if isinstance(value, list) else [None]
    texts = ["/".join(map(str, cast("list[Any]", pair))) for pair in pairs if isinstance(pair, list)]
    text = ", ".join(texts)
    return text if [[name.strip() for name in item.split("/")] for item in _items(text)] == value else None


def _dimension_texts(entry: Any) -> dict[str, str] | None:
    """Return the texts of a dimension's fields, its way under the empty name; None if none can hold it."""
    if entry == "tune":
        return {"": "tune"}
    if _is_scalar(entry):
        return {"": "fixed", "value": text_of(entry)}
    if isinstance(entry, list):
        items = cast("list[Any]", entry)
        return {"": "pair", "values": _scalars_text(items)} if all(map(_is_scalar, items)) else None
    given = dict(_mapping(entry))
    kind = given.pop("kind", None)
    match given:
        case {"value": value, **rest} if not rest and kind in {None, "fixed"} and _is_scalar(value):
            return {"": "fixed", "value": text_of(value)}
        case {"choices": [*items], **rest} if not rest and items and kind in {None, "choices"}:
            return {"": "choices", "choices": _scalars_text(items)} if all(map(_is_scalar, items)) else None
        case {} if kind == "range" or (kind is None and given.keys() & set(_ENDS)):
            return _range_texts(given)
        case {} if kind in {"fixed", "choices", "tune"} and not given:
            return {"": kind}
        case _:
            return None


def _range_texts(given: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the texts of a range, which may lack an end."""
    ends = {name: value for name, value in given.items() if name in _ENDS}
    scales = {name: value for name, value in given.items() if name not in _ENDS}
    is_known = all(name in _SCALES and isinstance(value, bool) for name, value in scales.items())
    if not is_known or not all(map(_is_scalar, ends.values())):
        return None
    scale = " ".join(name for name in _SCALES if scales.get(name))
    return (
        {"": "range"}
        | {name: text_of(value) for name, value in ends.items()}
        | ({"scale": scale} if scale else {})
    )


def _scalars_text(items: Sequence[Any]) -> str:
    return ", ".join(map(text_of, items))
