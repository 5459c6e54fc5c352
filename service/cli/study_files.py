"""Read a study from a file or standard input: JSON or YAML in, plain data out. The API validates it."""

__all__ = ["read_document"]

import json
import math
import sys
from pathlib import Path
from typing import Any

from service.cli.errors import BAD_INPUT, CommandError
from service.strict_yaml import NotYAML, read_yaml
from studies.errors import SpecInvalid


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number; expected a finite number")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is too large; expected a finite number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key!r} appears twice in one object")
        mapping[key] = value
    return mapping


def _bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
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
    body = _bytes(file)
    shown = "standard input" if file == "-" else file
    is_yaml = file.endswith((".yaml", ".yml"))
    try:
        if file.endswith(".json") or (body.lstrip().startswith(b"{") and not is_yaml):
            return json.loads(
                body.decode("utf-8-sig"),
                object_pairs_hook=_unique_keys,
                parse_constant=_no_constant,
                parse_float=_finite,
            )
        return read_yaml(body)
    except UnicodeDecodeError:
        raise CommandError(f"{shown} is not UTF-8 text", exit_code=BAD_INPUT) from None
    except json.JSONDecodeError as error:
        raise CommandError(
            f"{shown}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg.lower()}",
            exit_code=BAD_INPUT,
        ) from None
    except NotYAML as error:
        where = f", line {error.line}, column {error.column}" if error.line else ""
        raise CommandError(f"{shown}{where}: not valid YAML: {error.reason}", exit_code=BAD_INPUT) from None
    except SpecInvalid as error:
        raise CommandError(
            *(f"{shown}: {problem.pointer or '/'}: {problem.message}" for problem in error.problems),
            exit_code=BAD_INPUT,
        ) from None
    except RecursionError:
        raise CommandError(f"{shown} is nested too deeply", exit_code=BAD_INPUT) from None
    except ValueError as error:
        raise CommandError(f"{shown}: {error}", exit_code=BAD_INPUT) from None
