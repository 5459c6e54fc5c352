"""JSON schemas in words, as HTML: types, limits and defaults, with links to the schemas that they name."""

__all__ = ["schema_name", "shape_html"]

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from markupsafe import Markup, escape

_TYPES: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
}
_LIMITS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "{} or more characters",
    "maxLength": "at most {} characters",
    "minItems": "{} or more",
    "maxItems": "at most {}",
}
_LONGEST_DEFAULT: Final = 60


def schema_name(name: str) -> str:
    """Return the name of a schema on the page: 'StudySpec (sent)' for a schema of bodies."""
    return name.removesuffix("-Input") + (" (sent)" if name.endswith("-Input") else "")


def shape_html(schema: Mapping[str, Any]) -> Markup:
    """Return what a value may be: its type, then its limits and its default."""
    type_html = _type(schema)
    asides = [*_limits(schema)]
    if "default" in schema and schema["default"] is not None:
        default = json.dumps(schema["default"], ensure_ascii=False)
        if len(default) <= _LONGEST_DEFAULT:
            asides.append(Markup("by default <code>{}</code>").format(default))
    if not asides:
        return type_html
    return Markup('{}<span class="soft">, {}</span>').format(type_html, Markup(", ").join(asides))


def _type(schema: Mapping[str, Any]) -> Markup:
    match schema:
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return Markup('<a href="#schema-{}">{}</a>').format(name, schema_name(name))
        case {"anyOf": [*shapes]} | {"oneOf": [*shapes]}:
            # Two of them may differ in details that have no words here.
            return Markup(" or ").join(dict.fromkeys(map(shape_html, shapes)))
        case {"allOf": [*shapes]}:
            return Markup(" and ").join(map(shape_html, shapes))
        case {"const": value}:
            return _value(value)
        case {"enum": [*values]}:
            return Markup(", ").join(map(_value, values))
        case {"type": "array"}:
            return _list(schema)
        case {"type": "object", "additionalProperties": values} if values not in (True, False, {}):
            return Markup("object of {}").format(shape_html(values))
        case _:
            return escape(_basic(schema))


def _basic(schema: Mapping[str, Any]) -> str:
    names = schema.get("type", ())
    texts = [_TYPES.get(name, name) for name in ([names] if isinstance(names, str) else names)]
    form = f" ({schema['format']})" if "format" in schema else ""
    return f"{' or '.join(texts)}{form}" if texts else "any value"


def _list(schema: Mapping[str, Any]) -> Markup:
    match schema:
        case {"prefixItems": [*shapes]}:
            return Markup("list of {}").format(Markup(", then ").join(map(shape_html, shapes)))
        case {"items": items} if items not in (True, {}):
            return Markup("list of {}").format(shape_html(items))
        case _:
            return Markup("list")


def _value(value: object) -> Markup:
    return Markup("<code>{}</code>").format(json.dumps(value, ensure_ascii=False))


def _limits(schema: Mapping[str, Any]) -> Iterator[Markup]:
    for name, text in _LIMITS.items():
        if name in schema:
            yield escape(text.format(schema[name]))
    if "pattern" in schema:
        yield Markup("like <code>{}</code>").format(schema["pattern"])
