"""Turn pydantic's validation errors into our own: a JSON pointer, what was expected, and what came."""

__all__ = ["describe_expected", "problems_of"]

from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from studies.errors import SpecProblem, json_pointer, shown
from studies.frozen_model import FrozenModel
from studies.suggestions import closest_name

Location = tuple[int | str, ...]
"""The place of a fault as pydantic gives it: names and indices, and the variants of unions."""

_NOT_IN_DATA = frozenset(
    {"range", "choices", "fixed", "tune", "pair", "none", "asha", "hyperband", "median", "[key]"}
)


def _pointer(location: Location, data: Any) -> str:
    """Return the JSON pointer of a pydantic location, without the steps that do not exist in the data."""
    steps: list[int | str] = []
    node = data
    for n, step in enumerate(location):
        is_last = n == len(location) - 1
        if isinstance(node, Mapping) and step in node:
            node = cast("Mapping[Any, Any]", node)[step]
        elif isinstance(node, list | tuple) and isinstance(step, int) and step < len(cast("list[Any]", node)):
            node = cast("list[Any]", node)[step]
        elif not (is_last and isinstance(node, Mapping) and step not in _NOT_IN_DATA):
            continue
        steps.append(step)
    return json_pointer(*steps)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a value with this annotation may be or contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _describe_unknown_field(location: Location, of: type[BaseModel]) -> str:
    """Return the message for an unknown field at a pydantic location, with the fields that exist there."""
    models = [of]
    for step in location[:-1]:
        if chosen := [
            model
            for model in models
            if "kind" in model.model_fields and model.model_fields["kind"].default == step
        ]:
            models = chosen
        elif fields := [
            model.model_fields[step]
            for model in models
            if isinstance(step, str) and step in model.model_fields
        ]:
            # A hyperparameter in a space may have the name of a dimension's field.
            models = [model for field in fields for model in _models_in(field.annotation)] or models
    names = dict.fromkeys(name for model in models for name in model.model_fields)
    close = closest_name(str(location[-1]), names)
    hint = f"; did you mean {close!r}?" if close else ""
    if not hint and len(models) == 1 and issubclass(models[0], FrozenModel):
        hint = models[0].hint_for_unknown and f"; {models[0].hint_for_unknown}"
    return (
        f"unknown field; the {'only field is' if len(names) == 1 else 'fields are'} {', '.join(names)}{hint}"
    )


def describe_expected(kind: str, context: Mapping[str, Any]) -> str | None:
    """Return what a value of a simple type must be, or None for the kinds of fault without such a sentence.

    Args:
        kind: pydantic's error type.
        context: pydantic's details of the error.
    """
    match kind:
        case "int_type" | "int_parsing" | "int_from_float":
            return "expected a whole number"
        case "float_type" | "float_parsing":
            return "expected a number"
        case "bool_type" | "bool_parsing":
            return "expected true or false"
        case "string_type":
            return "expected a string"
        case "greater_than":
            return f"expected a number above {_bound(context['gt'])}"
        case "greater_than_equal":
            return f"expected at least {_bound(context['ge'])}"
        case "less_than":
            return f"expected a number below {_bound(context['lt'])}"
        case "less_than_equal":
            return f"expected at most {_bound(context['le'])}"
        case "literal_error" | "enum":
            return f"expected {context['expected']}"
        case _:
            return None


def _bound(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe(kind: str, message: str, context: Mapping[str, Any], given: Any) -> str:
    """Return pydantic's message in our form: what was expected, then what came."""
    came = shown(given)
    if expected := describe_expected(kind, context):
        return f"{expected}, got {came}"
    match kind:
        case "missing":
            return "this field is required"
        case "value_error":
            return str(context["error"])
        case "too_short":
            return f"expected at least {_entries(context['min_length'])}, got {context['actual_length']}"
        case "too_long":
            return f"expected at most {_entries(context['max_length'])}, got {len(given)}"
        case "tuple_type" | "list_type":
            return f"expected a list, got {came}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected an object, got {came}"
        case "string_pattern_mismatch":
            return f"expected text that matches {context['pattern']}, got {came}"
        case _:
            return f"{message[:1].lower()}{message[1:]}, got {came}"


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def problems_of(
    error: ValidationError,
    data: Any,
    *,
    of: type[BaseModel],
    as_written: Callable[[Location, Any], Location] = lambda location, _: location,
) -> list[SpecProblem]:
    """Return the faults that pydantic found, with JSON pointers into `data`.

    Args:
        error: pydantic's.
        data: what was validated.
        of: the model that it was validated as.
        as_written: returns the place in `data` of a location in what was expanded from it.
    """
    # Keyed by pointer, because a body may have tens of thousands of faults.
    found: dict[str, SpecProblem] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item.get("ctx", {})["min_length"]:
            # Too short only because its faulty entries were dropped; those are reported themselves.
            continue
        is_unknown = item["type"] == "extra_forbidden"
        message = (
            _describe_unknown_field(item["loc"], of)
            if is_unknown
            else _describe(item["type"], item["msg"], item.get("ctx", {}), item["input"])
        )
        problem = SpecProblem(_pointer(as_written(item["loc"], data), data), message)
        # A union reports every variant that it tried; one message per pointer is enough.
        found.setdefault(problem.pointer, problem)
    return list(found.values())
