"""What the catalogue says about a study that cannot be parsed, so that all faults are reported at once."""

__all__ = ["with_catalog_problems"]

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, get_args

from pydantic import TypeAdapter, ValidationError

from studies.catalog import Catalog
from studies.errors import SpecInvalid, SpecProblem
from studies.resolve import resolve_arms
from studies.spec import ArmEntry, ArmSpec, SamplerName, Training

_ARM: Final[TypeAdapter[ArmSpec]] = TypeAdapter(ArmEntry)
_MAX_ARMS: Final = 64


def with_catalog_problems(error: SpecInvalid, catalog: Catalog) -> SpecInvalid:
    """Return the error for a study or an extension that cannot be parsed, with the catalogue's problems too.

    Any other error is returned as it is. A name that no entry of the catalogue has is reported as such, not
    as text of the wrong form.
    """
    if error.draft is None or error.omitted or not catalog.optimizers or not catalog.workloads:
        return error
    found = {problem.pointer: problem for problem in error.problems}
    for replaced, problem in _problems(error.draft, catalog):
        for pointer in replaced:
            found.pop(pointer, None)
        found.setdefault(problem.pointer, problem)
    return SpecInvalid(list(found.values()))


def _problems(draft: Mapping[str, Any], catalog: Catalog) -> Iterator[tuple[tuple[str, ...], SpecProblem]]:
    """Yield the catalogue's problems, each with the pointers of the faults that it replaces."""
    workload = draft.get("workload")
    card = catalog.workloads.get(workload) if isinstance(workload, str) else None
    if isinstance(workload, str) and card is None:
        yield ("/workload",), SpecProblem("/workload", catalog.describe_unknown("workload", workload))
    arms = draft.get("arms")
    given: Any = draft.get("sampler")
    sampler: SamplerName = given if given in get_args(SamplerName) else "tpe"
    for n, arm in enumerate(cast("list[Any]", arms)[:_MAX_ARMS] if isinstance(arms, list | tuple) else []):
        name = cast("Mapping[str, Any]", arm).get("optimizer") if isinstance(arm, Mapping) else arm
        pointer = f"/arms/{n}"
        if isinstance(name, str) and name not in catalog.optimizers:
            # A fault of a whole arm is that of its name only if the arm is just the name.
            replaced = (f"{pointer}/optimizer", *((pointer,) if isinstance(arm, str) else ()))
            yield replaced, SpecProblem(f"{pointer}/optimizer", catalog.describe_unknown("optimizer", name))
            continue
        try:
            parsed = _ARM.validate_python(arm)
        except ValidationError:
            continue
        _, problems = resolve_arms(
            [parsed],
            catalog,
            workload=card,
            sampler=sampler,
            trials_per_arm=1,
            paired=0,
            space={},
            training=Training(),
        )
        for problem in problems:
            yield (), SpecProblem(pointer + problem.pointer.removeprefix("/arms/0"), problem.message)
