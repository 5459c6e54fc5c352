"""The differences between compared studies apart from their arms, each a sentence."""

__all__ = ["differences", "quoted_names"]

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from studies.analysis.study_results import StudyResults
from studies.formatting import listed
from studies.searched_text import describe_overrides, describe_shared_space
from studies.training_text import length_text, training_texts
from studies.views import StudyView

_MOST_VALUES = 12


def differences(per_study: Sequence[StudyResults]) -> tuple[str, ...]:
    """Return a sentence for each difference that bears on a comparison; empty if only the arms differ."""
    names = quoted_names([results.study for results in per_study])
    settings = [_settings(results) for results in per_study]
    cautions: list[str] = []
    open_ones = [name for name, results in zip(names, per_study, strict=True) if not results.is_closed]
    if open_ones:
        cautions.append(
            f"The figures will change, because these studies have not finished: {listed(open_ones)}."
        )
    stopped = [name for name, results in zip(names, per_study, strict=True) if results.is_stopped]
    if stopped:
        cautions.append(
            f"These studies ended before their search had run all of its trials: {listed(stopped)}."
        )
    for what in settings[0]:
        cautions += _difference(what, [each[what] for each in settings], names)
    for one, other in combinations(range(len(per_study)), 2):
        if (
            per_study[one].seeds
            and per_study[other].seeds
            and not set(per_study[one].seeds) & set(per_study[other].seeds)
        ):
            cautions.append(
                f"{names[one]} and {names[other]} have no fresh seed in common, so their arms cannot be "
                "paired and there is no verdict between them."
            )
    cards = list(dict.fromkeys(results.card.model_dump_json() for results in per_study))
    if len(cards) > 1:
        cautions.append("The workload itself changed between the studies: their workload cards differ.")
    environments = [results.study.environment for results in per_study]
    if not all(environments):
        cautions.append(
            "The training environment is not known for "
            f"{listed([name for name, each in zip(names, environments, strict=True) if not each])}."
        )
    for key in sorted({key for each in environments for key in each}):
        known = [(name, each[key]) for name, each in zip(names, environments, strict=True) if key in each]
        cautions += _difference(
            f"{key} (environment)", [value for _, value in known], [name for name, _ in known]
        )
    return tuple(cautions)


def _settings(results: StudyResults) -> Mapping[str, str]:
    """Return the settings that a comparison should find equal, the most important first."""
    study, spec = results.study, results.study.spec
    own = describe_overrides([arm.view for arm in results.arms])
    return {
        "the metric that they search by": study.workload_card.metric,
        "epochs": (
            str(study.epochs)
            if study.interval_steps is None
            else length_text(study.epochs, study.interval_steps)
        ),
        "batch size": str(study.batch_size),
        **training_texts(spec.training),
        "what every arm searches beside its optimizer": describe_shared_space(study) or "nothing",
        "what an arm has for itself": "; ".join(f"{name}: {text}" for name, text in own) or "nothing",
        "the metrics compared beside that": ", ".join(spec.objective.compare) or "none",
        "trials per arm": str(spec.budget.trials_per_arm),
        "replicates": str(spec.budget.replicates),
        "paired trials": str(spec.search.pairs),
        "the budget at which optimizers are judged": str(spec.search.verdict_at or "none"),
        "sampler": spec.sampler,
        "pruner": str(spec.pruner),
        "the epoch whose value counts": spec.objective.at,
        "seed": str(spec.seed),
        "confirmation seeds": str(spec.confirmation.seeds),
        "confirmation runs trained alone": "yes" if spec.confirmation.solo else "no",
    }


def _difference(what: str, values: Sequence[str], names: Sequence[str]) -> list[str]:
    kinds = list(dict.fromkeys(values))
    if len(kinds) < 2:
        return []
    parts = [
        f"{kind} in {listed([name for name, value in zip(names, values, strict=True) if value == kind])}"
        for kind in kinds[:_MOST_VALUES]
    ]
    return [f"The studies differ in {what}: {'; '.join(parts)}."]


def quoted_names(studies: Sequence[StudyView]) -> list[str]:
    """Return the name of each study in sentences: its title, with its id if two have the same title."""
    times = Counter(study.name for study in studies)
    return [
        f"“{study.name}”" if times[study.name] == 1 else f"“{study.name}” ({study.id})" for study in studies
    ]
