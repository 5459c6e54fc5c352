"""What is wrong with the names in a study's spaces, and what to write instead."""

__all__ = ["describe_unknown", "hint_for_plain_name", "unused_dimensions"]

from collections.abc import Iterable, Sequence

from studies.catalog import OptimizerCard, WorkloadCard, suggest_name
from studies.errors import SpecProblem, json_pointer, shown
from studies.searchable import GROUPS, WORKLOAD, groups_of, is_optimizers_own, why_without_effect
from studies.space import Space
from studies.training_settings import PREFIX, TRAINING_HYPERPARAMETERS


def describe_unknown(
    name: str, card: OptimizerCard, workload: WorkloadCard | None, further: Iterable[str]
) -> str:
    """Return the message for a name that an arm cannot set or search.

    Args:
        name: the name.
        card: the arm's optimizer.
        workload: the study's workload; None if it is unknown.
        further: the dotted names that the arm can set or search.
    """
    if is_optimizers_own(name):
        hint = suggest_name(name, [*card.names, *card.pairs])
        return f"{card.name} has no hyperparameter {name!r}; it has {', '.join(card.names)}; {hint}"
    hint = suggest_name(name, further)
    if name.startswith(GROUPS) and workload is not None:
        group, _, setting = name.removeprefix(GROUPS).partition(".")
        numbers = ", ".join(each for each in card.names if each in card.per_group)
        if group not in groups_of(workload):
            groups = ", ".join(groups_of(workload))
            return f"{workload.name} has no parameter group {shown(group)}; it has {groups}; {hint}"
        if setting in card.pairs:
            return f"expected one number, got a pair; set {' and '.join(card.pairs[setting])} instead"
        if setting in card.names:
            return f"{card.name} has one {setting} for all groups; each group can have {numbers}"
    owner = workload.name if name.startswith(WORKLOAD) and workload is not None else "a study"
    return f"{owner} has no {name!r}; {hint}"


def hint_for_plain_name(name: str, workload: WorkloadCard | None) -> str:
    """Return what to write instead of a name without a dot in a study's own space."""
    settings = [h.name for h in TRAINING_HYPERPARAMETERS]
    own = [] if workload is None else [WORKLOAD + h.name for h in workload.hyperparameters]
    dotted = next((each for each in (PREFIX + name, WORKLOAD + name) if each in (*settings, *own)), None)
    return (
        f"write {dotted}" if dotted else "write an optimizer's own hyperparameters in the `space` of its arm"
    )


def unused_dimensions(names: Iterable[str], arms: Sequence[tuple[OptimizerCard, Space]]) -> list[SpecProblem]:
    """Return a problem for each dimension of a study's own space that no arm can use.

    Args:
        names: the names in the study's own space.
        arms: each arm's optimizer and space.
    """
    problems: list[SpecProblem] = []
    for name in names:
        if any(name in space for _, space in arms):
            continue
        reasons = [_why_unused(name, card) for card, _ in arms]
        why = "; ".join(dict.fromkeys(reasons))
        problems.append(SpecProblem(json_pointer("space", name), f"no arm can use {name}: {why}; remove it"))
    return problems


def _why_unused(name: str, card: OptimizerCard) -> str:
    setting = next((h for h in TRAINING_HYPERPARAMETERS if h.name == name), None)
    why = None if setting is None else why_without_effect(setting, card)
    return why or f"{card.name} has no {name.rpartition('.')[2]} for each group"
