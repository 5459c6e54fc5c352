"""A study as texts that do the same as the form: JSON, YAML, a curl command and a Python program."""

__all__ = ["StudyText", "study_json", "study_texts"]

import json
import pprint
import re
import shlex
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

_PLAIN: Final = re.compile(r"[A-Za-z][\w .()-]*[\w)]|[A-Za-z]", re.ASCII)
_WIDTH: Final = 100
_YAML: Final[dict[str, Any]] = {
    "sort_keys": False,
    "allow_unicode": True,
    "default_flow_style": None,
    "width": _WIDTH,
}


@dataclass(frozen=True)
class StudyText:
    """One of the texts.

    Attributes:
        name: its id on the page.
        title: what it is.
        text: the text.
    """

    name: str
    title: str
    text: str


class _YamlWriter(yaml.SafeDumper):
    """Writes YAML that readers of versions 1.1 and 1.2 read as the same values."""


def _text_node(writer: Any, text: str) -> yaml.Node:
    # A plain text such as 1e-4 would be a number in YAML 1.2, and not in PyYAML.
    style = None if _PLAIN.fullmatch(text) else '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_YamlWriter.add_representer(str, _text_node)


def study_json(document: Any) -> str:
    """Return a study as JSON that people can read, with short objects and lists on one line."""
    return _lines(document, indent="")


def _lines(value: Any, *, indent: str) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= _WIDTH and (indent or not isinstance(value, dict)):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(name, ensure_ascii=False)}: {_lines(own, indent=inner)}"
            for name, own in cast("dict[str, Any]", value).items()
        ]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if isinstance(value, list):
        return (
            "[\n"
            + ",\n".join(inner + _lines(own, indent=inner) for own in cast("list[Any]", value))
            + f"\n{indent}]"
        )
    return flat


def study_texts(document: Any, *, url: str, has_token: bool) -> tuple[StudyText, ...]:
    """Return a study as JSON, YAML, a curl command and a Python program.

    Args:
        document: the study as JSON data.
        url: address of the service.
        has_token: whether requests need a token.
    """
    text = study_json(document)
    written = cast("str", yaml.dump(document, Dumper=_YamlWriter, **_YAML))
    header = ' -H "Authorization: Bearer $TANGENT_TOKEN"' if has_token else ""
    curl = (
        f"curl {shlex.quote(f'{url}/v1/studies')}{header} -H 'Content-Type: application/json' \\\n"
        f"  --data-binary @- <<'END'\n{text}\nEND"
    )
    opening = "import os\n\n" if has_token else ""
    token = ', token=os.environ["TANGENT_TOKEN"]' if has_token else ""
    program = (
        f"{opening}from tangent import Client\n\n"
        f"STUDY = {pprint.pformat(document, sort_dicts=False, width=_WIDTH)}\n\n"
        f"with Client({url!r}{token}) as client:\n"
        "    print(client.submit(STUDY).id)"
    )
    return (
        StudyText("same-json", "JSON", text),
        StudyText("same-yaml", "YAML", written.rstrip("\n")),
        StudyText("same-curl", "curl", curl),
        StudyText("same-python", "Python", program),
    )
