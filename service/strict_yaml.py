"""YAML from users, read strictly by the core schema of YAML 1.2, as the values that JSON has.

PyYAML's loaders follow YAML 1.1, in which `012` is 10, `1:30` is 90 and `on` is true. They also create dates,
sets and bytes, and a short text full of aliases makes them create gigabytes. So this module uses only
PyYAML's parser, and makes the values of its events itself: with a loop, with limits, and with the position of
every fault.
"""

__all__ = ["NotYAML", "read_yaml"]

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import yaml

from service.json_limits import TooManyValues
from service.strict_json import MAX_DEPTH, MAX_MEMBERS, integer, text_fault
from studies.errors import MAX_PROBLEMS, SpecInvalid, SpecProblem, TangentError, json_pointer, shown

# libyaml is 50 times faster than the parser in Python, but an installation from source may lack it.
_PARSER: Final = cast("Any", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = "<<"
# YAML 1.1 calls these texts dates. A reader who wrote one without quotes may expect either.
_DATE: Final = re.compile(r"\d{4}-\d\d?-\d\d?(([Tt]|[ \t]+)\d\d?:\d\d:\d\d.*)?", re.ASCII)
_EXPECTED: Final = "expected a string, a number, true, false, null, a list or an object"


def _prefixed_integer(text: str) -> float | int:
    return int(text, 0) if text[:2] in {"0o", "0x"} else integer(text)


def _float(text: str) -> float:
    return float(text.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))


_SCALARS: Final[dict[str, tuple[re.Pattern[str], Callable[[str], Any]]]] = {
    "null": (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    # No number of a study has more digits in these bases.
    "int": (re.compile(r"[-+]?[0-9]+|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}"), _prefixed_integer),
    "float": (
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        _float,
    ),
    "str": (re.compile(r".*", re.DOTALL), str),
}
"""The scalars of YAML 1.2's core schema by tag, in the order in which a plain scalar is tried."""


class NotYAML(TangentError):
    """A text is not valid YAML, or exceeds a limit.

    Attributes:
        reason: what is wrong with it.
        line: line of the fault, from 1; None if the fault has no position.
        column: column of the fault, from 1; None if the fault has no position.
    """

    def __init__(self, reason: str, mark: yaml.Mark | None = None) -> None:
        self.reason = reason
        self.line = mark.line + 1 if mark else None
        self.column = mark.column + 1 if mark else None
        where = f" at line {self.line}, column {self.column}" if mark else ""
        super().__init__(f"not valid YAML: {reason}{where}")


@dataclass(frozen=True)
class _Node:
    """A complete value: its members and levels, with every alias replaced by what it stands for."""

    value: Any
    members: int = 1
    levels: int = 0


@dataclass
class _Container:
    """A list or object whose end has not been read yet.

    Attributes:
        value: what it contains so far.
        anchor: the name under which aliases refer to it.
        mark: where it begins.
        key: the key whose value comes next; None in a list, and where an object expects a key.
        merged: the objects that `<<` merges into this one, those with precedence first.
    """

    value: dict[str, Any] | list[Any]
    anchor: str | None
    mark: yaml.Mark
    key: str | None = None
    merged: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    members: int = 1
    levels: int = 1

    def add(self, node: _Node) -> None:
        """Put a value at the end of the list, or under the pending key."""
        self.members += node.members
        self.levels = max(self.levels, node.levels + 1)
        if isinstance(self.value, list):
            self.value.append(node.value)
        else:
            assert self.key is not None, "a key was read before its value"
            self.value.setdefault(self.key, node.value)
            self.key = None


def read_yaml(body: bytes) -> Any:
    """Return the value in a text of YAML in UTF-8.

    A key is always text, as it is written: `1` and `true` are different keys. `<<` merges objects.

    Raises:
        NotYAML: the text is empty, is not valid YAML in UTF-8, has several documents, or is nested too deep.
        TooManyValues: it has too many values.
        SpecInvalid: it contains values that JSON does not have, such as dates, or a key twice, or text that
            cannot be stored; carries every fault with its line.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotYAML(f"it is not valid UTF-8: {error.reason} at byte {error.start}") from None
    return _Reader().read(text)


class _Reader:
    """Makes values of the events of one text."""

    def __init__(self) -> None:
        self._open: list[_Container] = []
        self._anchors: dict[str, _Node] = {}
        self._problems: list[SpecProblem] = []
        self._members = 0

    def read(self, text: str) -> Any:
        """Return the value of the only document."""
        root: _Node | None = None
        for event in _events(text):
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise NotYAML("expected one document, found a second", event.start_mark)
            node = self._node(event)
            if node is not None and self._open:
                self._add(node, event.start_mark)
            elif node is not None:
                root = node
        if root is None:
            raise NotYAML("the document is empty")
        if self._problems:
            raise SpecInvalid(self._problems)
        return root.value

    def _node(self, event: yaml.Event) -> _Node | None:
        """Return the value that an event completes, if it does."""
        match event:
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
                return None
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                return self._end()
            case yaml.ScalarEvent():
                return self._scalar(event)
            case yaml.AliasEvent():
                return self._alias(event)
            case _:
                return None

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _count(self, members: int, mark: yaml.Mark) -> None:
        self._members += members
        if self._members > MAX_MEMBERS:
            raise TooManyValues(
                f"has more than {MAX_MEMBERS:,} fields and entries of lists, with aliases replaced, at line "
                f"{mark.line + 1}"
            )

    def _check_depth(self, levels: int, mark: yaml.Mark) -> None:
        if len(self._open) + levels > MAX_DEPTH:
            raise NotYAML(f"nested more than {MAX_DEPTH} levels deep; a study needs six", mark)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mark = event.start_mark
        if self._expects_key():
            raise NotYAML("expected a key, got a list or an object", mark)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", f"{_CORE}{'map' if is_mapping else 'seq'}"}:
            self._refuse_tag(event.tag, mark)
        self._check_depth(1, mark)
        self._count(1, mark)
        self._open.append(_Container({} if is_mapping else [], event.anchor, mark))

    def _end(self) -> _Node:
        container = self._open.pop()
        value = container.value
        if isinstance(value, dict):
            for name, item in (pair for merged in container.merged for pair in merged.items()):
                value.setdefault(name, item)
        node = _Node(value, container.members, container.levels)
        if container.anchor is not None:
            self._anchors[container.anchor] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> _Node:
        if self._expects_key():
            node = _Node(event.value)
        else:
            self._count(1, event.start_mark)
            node = _Node(self._value(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> _Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise NotYAML(
                f"*{event.anchor} has no anchor &{event.anchor} that ends before it", event.start_mark
            )
        self._count(node.members, event.start_mark)
        self._check_depth(node.levels, event.start_mark)
        return node

    def _value(self, event: yaml.ScalarEvent) -> Any:
        text, mark = event.value, event.start_mark
        if event.tag is None and event.implicit[0]:
            if _DATE.fullmatch(text):
                self._problem(mark, f'{_EXPECTED}, got the date {text}; put it in quotes: "{text}"')
            tag = next(tag for tag, (pattern, _) in _SCALARS.items() if pattern.fullmatch(text))
        else:
            tag = "str" if event.tag in {None, "!"} else str(event.tag).removeprefix(_CORE)
        if tag not in _SCALARS:
            self._refuse_tag(tag, mark)
            return None
        pattern, convert = _SCALARS[tag]
        if not pattern.fullmatch(text):
            self._problem(mark, f"expected a value of the type !!{tag}, got {shown(text)}")
            return None
        value = convert(text)
        if isinstance(value, float) and not math.isfinite(value):
            self._problem(
                mark, f"expected a finite number, got {value}; NaN and infinity have no meaning in a study"
            )
        elif isinstance(value, str) and (fault := text_fault(value)):
            self._problem(mark, f"the text {fault}")
        return value

    def _add(self, node: _Node, mark: yaml.Mark) -> None:
        """Put a complete value into the open container, or make it the key of the next one."""
        container = self._open[-1]
        if self._expects_key():
            self._set_key(container, node.value, mark)
        elif container.key == _MERGE:
            self._merge(container, node, mark)
        else:
            container.add(node)

    def _set_key(self, container: _Container, key: Any, mark: yaml.Mark) -> None:
        if not isinstance(key, str):
            raise NotYAML(f"expected a string as a key, got {shown(key)}", mark)
        container.key = key
        if fault := text_fault(key):
            self._problem(mark, f"the name of a field {fault}")
        if key in container.value:
            self._problem(mark, f"the key {shown(key)} appears twice in one object; remove one")

    def _merge(self, container: _Container, node: _Node, mark: yaml.Mark) -> None:
        given: Any = node.value
        objects = cast("list[Any]", given if isinstance(given, list) else [given])
        if all(isinstance(item, dict) for item in objects):
            container.merged += objects
            container.members += node.members
            container.levels = max(container.levels, node.levels)
        else:
            self._problem(mark, f"expected an object, or a list of objects, to merge, got {shown(objects)}")
        container.key = None

    def _refuse_tag(self, tag: str, mark: yaml.Mark) -> None:
        name = tag.removeprefix(_CORE)
        self._problem(
            mark,
            f"{_EXPECTED}, got a value with the tag {shown(name)}; remove the tag, and put text in quotes",
        )

    def _problem(self, mark: yaml.Mark, message: str) -> None:
        steps = [
            len(container.value) if isinstance(container.value, list) else container.key
            for container in self._open
        ]
        pointer = json_pointer(*(step for step in steps if step is not None))
        self._problems.append(SpecProblem(pointer, f"line {mark.line + 1}: {message}"))
        if len(self._problems) >= MAX_PROBLEMS:
            raise SpecInvalid(self._problems)


def _events(text: str) -> Iterator[yaml.Event]:
    """Yield the parser's events.

    Raises:
        NotYAML: the text is not valid YAML.
    """
    try:
        # Its type stub is incomplete.
        yield from yaml.parse(text, Loader=_PARSER)  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        raise NotYAML(error.problem or "it cannot be parsed", error.problem_mark) from None
    except yaml.YAMLError as error:
        raise NotYAML(str(error).splitlines()[0]) from None
