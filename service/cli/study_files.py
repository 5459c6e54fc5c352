"""Read a study from a file or standard input: JSON or YAML in, plain data out. The API validates it."""

__all__ = ["read_document"]

import json
import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import yaml

from service.cli.errors import BAD_INPUT, CommandError


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that reads `1e-4` as a number and rejects duplicate keys."""

    # PyYAML's signature.
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        """Return the mapping; raise for a duplicate key, of which PyYAML would silently keep the last."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            # Its type stub is incomplete.
            key = cast("object", self.construct_object(key_node, deep=True))  # pyright: ignore[reportUnknownMemberType]
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} cannot be a key; expected text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML follows, requires a dot and a sign, as in `1.0e-4`. It would read the usual `1e-4`
# as text.
_Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] # its type stub is incomplete
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number; expected a finite number")


def _check_numbers(text: str) -> None:
    json.loads(text, parse_constant=_no_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key!r} appears twice in one object")
        mapping[key] = value
    return mapping


def _text(file: str) -> str:
    try:
        return sys.stdin.buffer.read().decode() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not UTF-8 text", exit_code=BAD_INPUT) from None
    except OSError as error:
        raise CommandError(
            f"cannot read {file}: {(error.strerror or str(error)).lower()}", exit_code=BAD_INPUT
        ) from None


def read_document(file: str) -> Any:
    """Return the plain data in a file, or in standard input for `-`.

    The text is JSON if the name ends in `.json` or the text starts with `{`, and YAML otherwise.

    Raises:
        CommandError: the file cannot be read or parsed; names the file, the line and the fault.
    """
    text = _text(file)
    shown = "standard input" if file == "-" else file
    is_yaml = file.endswith((".yaml", ".yml"))
    try:
        if file.endswith(".json") or (text.lstrip().startswith("{") and not is_yaml):
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        else:
            data = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
        # YAML has dates, sets and .nan; JSON does not.
        _check_numbers(json.dumps(data))
    except json.JSONDecodeError as error:
        raise CommandError(
            f"{shown}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg.lower()}",
            exit_code=BAD_INPUT,
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise CommandError(f"{shown}{where}: not valid YAML: {error.problem}", exit_code=BAD_INPUT) from None
    except RecursionError:
        raise CommandError(f"{shown} is nested too deeply", exit_code=BAD_INPUT) from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise CommandError(f"{shown}: {str(error).splitlines()[0]}", exit_code=BAD_INPUT) from None
    return data
