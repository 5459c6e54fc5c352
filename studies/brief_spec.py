"""A study as short as a user would write it: without defaults, and with every shorthand."""

__all__ = ["brief_dimension", "brief_spec"]

from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel

from studies.paired_search import UntilDecided
from studies.pruner import Asha, Hyperband, Median, NoPruner
from studies.spec import StudySpec, title_of, to_copy

_PRUNERS: Final[dict[str, type[BaseModel]]] = {
    "none": NoPruner,
    "asha": Asha,
    "hyperband": Hyperband,
    "median": Median,
}
# In the order in which people write them; the others follow.
_FIRST: Final = ("name", "workload", "arms", "space", "budget")


def brief_spec(spec: StudySpec) -> dict[str, Any]:
    """Return a study as JSON data to change and submit again, without what is derived or a default.

    `parse_spec` makes the same study of it, except for a search that was cut off: see `to_copy`.
    """
    data = to_copy(spec)
    if spec.name == title_of(spec.workload, spec.arms):
        del data["name"]
    data["arms"] = [_brief_arm(arm) for arm in data["arms"]]
    data["space"] = {name: brief_dimension(entry) for name, entry in data["space"].items()}
    rule = cast("dict[str, Any]", data["pruner"])
    own = _without_defaults(rule, _PRUNERS[rule["kind"]])
    data["pruner"] = {"kind": rule["kind"], **own} if own else rule["kind"]
    # Without its derived numbers, which are not the model's defaults.
    search = cast("dict[str, Any]", data.pop("search", {}))
    if search.get("until") is not None:
        search["until"] = _without_defaults(search["until"], UntilDecided)
    short = _without_defaults(data, StudySpec) | ({"search": search} if search else {})
    if short["pruner"] == "none":
        del short["pruner"]
    return {name: short[name] for name in (*_FIRST, *short) if name in short}


def _without_defaults(data: Mapping[str, Any], of: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of a model's data that differ from its defaults, also within models."""
    short: dict[str, Any] = {}
    for name, value in data.items():
        field = of.model_fields[name]
        inner = field.annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            value = _without_defaults(cast("dict[str, Any]", value), inner)
        default = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
        if field.is_required() or (value != default and value not in ({}, [])):
            short[name] = value
    return short


def _plain(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _brief_arm(arm: dict[str, Any]) -> str | dict[str, Any]:
    short = {"optimizer": arm["optimizer"]}
    if arm["name"] != arm["optimizer"]:
        short["name"] = arm["name"]
    if arm["space"]:
        short["space"] = {name: brief_dimension(entry) for name, entry in arm["space"].items()}
    return short if len(short) > 1 else arm["optimizer"]


def brief_dimension(entry: Mapping[str, Any]) -> Any:
    """Return a dimension as users write it.

    Args:
        entry: the dimension as JSON data with its `kind` and all of its fields.
    """
    match entry["kind"]:
        case "tune":
            return "tune"
        case "pair":
            return entry["values"]
        case "fixed":
            # The text `tune` is short for something else.
            return {"value": "tune"} if entry["value"] == "tune" else entry["value"]
        case "choices":
            return {"choices": entry["choices"]}
        case _:
            ends = {end: _whole(entry[end]) if entry["integer"] else entry[end] for end in ("low", "high")}
            return ends | {name: True for name in ("log", "integer") if entry[name]}


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value
