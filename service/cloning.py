"""Clones: a new study made of another's spec and what is to be different in it."""

__all__ = ["clone_spec", "merge_patch"]

from typing import Any, cast

from studies.spec import StudySpec, parse_spec, title_of


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied; neither is changed.

    Objects are merged field by field, null removes a field, anything else (a list among it) takes the place
    of what stood there.

    Source: RFC 7396, section 2.
    """
    if not isinstance(patch, dict):
        return patch
    found: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merge_patch(found.get(name), value)
    return found


def clone_spec(spec: StudySpec, patch: Any) -> StudySpec:
    """Return a study's spec with a JSON merge patch applied.

    A title that was made from workload and arms is made anew.

    Raises:
        SpecInvalid: what comes out is no study; with every fault.
    """
    data = spec.model_dump(mode="json")
    if spec.name == title_of(spec.workload, spec.arms):
        del data["name"]
    return parse_spec(merge_patch(data, patch))
