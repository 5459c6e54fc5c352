"""In what studies that are compared differ besides their arms, each a sentence."""

__all__ = ["differences"]

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from studies.analysis.study_results import StudyResults
from studies.analysis.wording import listed
from studies.formatting import scalar
from studies.views import StudyView

_MOST_SAID = 12


def differences(readings: Sequence[StudyResults]) -> tuple[str, ...]:
    """Return a sentence for each difference that bears on a comparison.

    None where the studies differ in their arms alone.
    """
    names = _names([reading.study for reading in readings])
    settings = [_settings(reading.study) for reading in readings]
    said: list[str] = []
    open_ones = [name for name, reading in zip(names, readings, strict=True) if not reading.is_closed]
    if open_ones:
        said.append(f"Not finished: {listed(open_ones)}; the figures will change.")
    stopped = [name for name, reading in zip(names, readings, strict=True) if reading.is_stopped]
    if stopped:
        said.append(f"Ended before the search had run all of its trials: {listed(stopped)}.")
    for what in settings[0]:
        said += _difference(what, [each[what] for each in settings], names)
    for one, other in combinations(range(len(readings)), 2):
        if (
            readings[one].seeds
            and readings[other].seeds
            and not set(readings[one].seeds) & set(readings[other].seeds)
        ):
            said.append(
                f"{names[one]} and {names[other]} have no fresh seed in common, so their arms cannot be "
                "paired: no verdict between them."
            )
    cards = list(dict.fromkeys(reading.card.model_dump_json() for reading in readings))
    if len(cards) > 1:
        said.append("The workload itself has changed between the studies: its cards are not the same.")
    environments = [reading.study.environment for reading in readings]
    if not all(environments):
        said.append(
            "What trained them is not known of "
            f"{listed([name for name, each in zip(names, environments, strict=True) if not each])}."
        )
    for key in sorted({key for each in environments for key in each}):
        known = [(name, each[key]) for name, each in zip(names, environments, strict=True) if key in each]
        said += _difference(f"environment, {key}", [value for _, value in known], [name for name, _ in known])
    return tuple(said)


def _settings(study: StudyView) -> Mapping[str, str]:
    """Return what a comparison should find equal, in words, the most telling first."""
    spec = study.spec
    training = spec.training
    warmup = (
        f" over {scalar(training.warmup_fraction)} of the steps"
        if training.schedule == "warmup-cosine"
        else ""
    )
    return {
        "epochs": str(study.epochs),
        "batch size": str(study.batch_size),
        "schedule": f"{training.schedule}{warmup}",
        "weight decay of biases and norms": "on" if training.decay_1d else "off",
        "trials per arm": str(spec.budget.trials_per_arm),
        "replicates": str(spec.budget.replicates),
        "sampler": spec.sampler,
        "pruner": str(spec.pruner),
        "epoch whose value counts": spec.objective.at,
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
        for kind in kinds[:_MOST_SAID]
    ]
    return [f"Not the same {what}: {'; '.join(parts)}."]


def _names(studies: Sequence[StudyView]) -> list[str]:
    """Return what sentences call the studies: their titles, with the id where two are alike."""
    times = Counter(study.name for study in studies)
    return [
        f"“{study.name}”" if times[study.name] == 1 else f"“{study.name}” ({study.id})" for study in studies
    ]
