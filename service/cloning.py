"""Clones: the spec of a study with a merge patch applied."""

__all__ = ["clone_spec", "merge_patch"]

from typing import Any, cast

from studies.spec import StudySpec, parse_spec, title_of


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

    A name that was derived from the workload and the arms is derived again.

    Raises:
        SpecInvalid: the result is not a valid study; lists every fault.
    """
    data = spec.model_dump(mode="json")
    if spec.name == title_of(spec.workload, spec.arms):
        del data["name"]
    return parse_spec(merge_patch(data, patch))
