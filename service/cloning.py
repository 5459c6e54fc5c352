"""Clones: the spec of a study with a merge patch applied."""

__all__ = ["clone_spec", "merge_patch"]

from typing import Any, cast

from studies.spec import StudySpec, parse_spec, title_of, to_copy
from studies.training_settings import PREFIX


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied; neither is changed.

    Objects are merged field by field, null removes a field, and any other value (a list too) replaces the old
    value.

    Source: RFC 7396, section 2.
    """
    if not isinstance(patch, dict):
        return patch
    result: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def clone_spec(spec: StudySpec, patch: Any) -> StudySpec:
    """Return a study's spec with a JSON merge patch applied.

    A name and numbers of the search that were derived from the rest are derived again. A dimension of the
    study's space gives way to a whole one in the patch, and to the setting of its name under `training`.

    Raises:
        SpecInvalid: the result is not a valid study; lists every fault.
    """
    data = to_copy(spec)
    if spec.name == title_of(spec.workload, spec.arms):
        del data["name"]
    return parse_spec(merge_patch(_without_replaced(data, patch), patch))


def _without_replaced(data: dict[str, Any], patch: Any) -> dict[str, Any]:
    """Return a study without the dimensions that a patch replaces as a whole, or sets under `training`."""
    changes: dict[str, Any] = cast("dict[str, Any]", patch) if isinstance(patch, dict) else {}
    settings, space = changes.get("training"), changes.get("space")
    replaced: set[str] = set()
    if isinstance(settings, dict):
        replaced |= {f"{PREFIX}{name}" for name in cast("dict[str, Any]", settings)}
    if isinstance(space, dict):
        # A merge of choices into a range would be neither.
        whole = ({"choices"}, {"value"}, {"low", "high"})
        replaced |= {
            name
            for name, entry in cast("dict[str, Any]", space).items()
            if isinstance(entry, dict) and any(keys <= set(cast("dict[str, Any]", entry)) for keys in whole)
        }
    kept = {name: entry for name, entry in data["space"].items() if name not in replaced}
    return {**data, "space": kept}
