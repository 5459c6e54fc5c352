"""What keeps a study's training settings from being used with its workload and resources."""

__all__ = ["measured_card", "training_problems", "used_values"]

from collections.abc import Iterable, Mapping

from studies.catalog import Catalog, Needs, WorkloadCard, average_of
from studies.errors import SpecProblem, json_pointer
from studies.space import AnyDimension, Choices, Fixed, Range, Scalar, Space
from studies.spec import StudySpec
from studies.training_settings import PREFIX

_NEEDED: dict[Needs, str] = {
    "closure": "a second pass over each batch",
    "curvature": "gradients that can be differentiated again",
}


def training_problems(
    spec: StudySpec, workload: WorkloadCard | None, spaces: Mapping[str, Space], catalog: Catalog
) -> list[SpecProblem]:
    """Return the settings, fixed or searched, and the optimizers that this workload does not allow.

    Args:
        spec: the study.
        workload: its workload; None if that is unknown.
        spaces: the complete space of each arm without another problem, by the arm's name.
        catalog: where the optimizers are looked up.
    """
    if workload is None:
        return []
    found = _step_problems(spec, workload, spaces, catalog)
    if spec.training.label_smoothing:
        found += _smoothing_problems(spec, workload, "", Fixed(value=spec.training.label_smoothing))
    for arm, space in spaces.items():
        smoothing = space.get(f"{PREFIX}label_smoothing", Fixed(value=0.0))
        found += _smoothing_problems(spec, workload, arm, smoothing)
    if spec.training.ema_evaluation == "beside":
        found += _average_problems(spec, spaces)
    if spec.budget.steps is not None:
        # Batches of several passes over the data may share a step.
        return [*dict.fromkeys(found), *_steps_problems(spec, workload)]
    for arm, space in (spaces or {"": Space()}).items():
        found += _accumulation_problems(spec, workload, arm, space)
    return list(dict.fromkeys(found))


def measured_card(spec: StudySpec, workload: WorkloadCard) -> tuple[WorkloadCard, list[SpecProblem]]:
    """Return the workload's card with the metrics of average weights, if the study evaluates them beside.

    The second value is why it cannot: then the card is as it was.
    """
    if spec.training.ema_evaluation == "instead":
        return workload, []
    pointer = "/training/ema_evaluation"
    if workload.kind == "script":
        why = f"{workload.name} has a loop of its own, which evaluates what it wants"
        found = f"expected 'instead', because {why}; report what its average weights measure as a metric"
        return workload, [SpecProblem(pointer, found)]
    try:
        return workload.with_averages(), []
    except ValueError:
        found = (
            f"expected at most 31 further metrics of {workload.name}, and names of at most 58 characters "
            "that do not end with ' (EMA)'; write 'instead', or change the metrics on its card"
        )
        return workload, [SpecProblem(pointer, found)]


def used_values(spec: StudySpec, spaces: Iterable[Space], setting: str) -> set[Scalar]:
    """Return the values of a training setting in a study's trials; of a range, its ends.

    Args:
        spec: the study.
        spaces: the complete space of each arm.
        setting: the setting's name.
    """
    found: set[Scalar] = set()
    for space in spaces:
        match space.get(f"{PREFIX}{setting}", Fixed(value=getattr(spec.training, setting))):
            case Range(low=low, high=high):
                found |= {low, high}
            case Choices(choices=choices):
                found |= set(choices)
            case Fixed(value=value):
                found.add(value)
    return found


def _pointer(spec: StudySpec, arm: str, setting: str) -> str:
    """Return where a study sets something of the training for an arm."""
    name = f"{PREFIX}{setting}"
    for n, each in enumerate(spec.arms):
        if each.name == arm and name in each.space:
            return json_pointer("arms", n, "space", name)
    return json_pointer("space", name) if arm and name in spec.space else json_pointer("training", setting)


def _step_problems(
    spec: StudySpec, workload: WorkloadCard, spaces: Mapping[str, Space], catalog: Catalog
) -> list[SpecProblem]:
    """Return why an arm's optimizer would not get what its steps need besides gradients."""
    found: list[SpecProblem] = []
    for n, arm in enumerate(spec.arms):
        card = catalog.optimizers.get(arm.optimizer)
        if card is None or card.needs == "gradients":
            continue
        own = [spaces[arm.name]] if arm.name in spaces else []
        if workload.kind == "script":
            why = f"{workload.name} has a loop of its own, which gives gradients only; name another workload"
        elif card.needs in workload.refuses:
            why = f"the card of {workload.name} refuses that; name another workload"
        elif spec.resources.processes_per_trial > 1:
            why = "several processes of a trial share gradients only; set processes_per_trial to 1"
        elif "fp16" in used_values(spec, own or [Space()], "precision"):
            why = "fp16 scales the loss for gradients only; set training.precision to float32 or bf16"
        else:
            continue
        expected = f"expected an optimizer that steps from the gradients alone, got {card.name}"
        found.append(
            SpecProblem(
                json_pointer("arms", n, "optimizer"),
                f"{expected}, which needs {_NEEDED[card.needs]}: {why}, or another optimizer",
            )
        )
    return found


def _smoothing_problems(
    spec: StudySpec, workload: WorkloadCard, arm: str, dimension: AnyDimension
) -> list[SpecProblem]:
    """Return why an arm cannot smooth labels."""
    most = _largest(dimension)
    if workload.takes_label_smoothing is not False or not most:
        return []
    return [
        SpecProblem(
            _pointer(spec, arm, "label_smoothing"),
            f"expected 0, got {'' if isinstance(dimension, Fixed) else 'up to '}{most:g}: the loss of "
            f"{workload.name} has no argument label_smoothing; add `label_smoothing: float = 0.0` to it and "
            "restart the dispatcher, or remove this",
        )
    ]


def _average_problems(spec: StudySpec, spaces: Mapping[str, Space]) -> list[SpecProblem]:
    """Return why average weights have nothing to show beside the weights."""
    found: list[SpecProblem] = []
    for arm, space in (spaces or {"": Space()}).items():
        decay = space.get(f"{PREFIX}ema_decay", Fixed(value=spec.training.ema_decay))
        pointer = _pointer(spec, arm, "ema_decay")
        if not _largest(decay):
            why = "expected a decay above 0, because ema_evaluation is 'beside'; write one, such as 0.999"
            found.append(SpecProblem(pointer, why))
        elif not isinstance(decay, Fixed) and not (spec.objective.metric or "").endswith(average_of("")):
            why = (
                "expected one value, because the average weights change only metrics with ' (EMA)' after "
                "their names, and the objective is another; name one as objective.metric, or fix ema_decay"
            )
            found.append(SpecProblem(pointer, why))
    return found


def _accumulation_problems(
    spec: StudySpec, workload: WorkloadCard, arm: str, space: Space
) -> list[SpecProblem]:
    """Return why an epoch would have no step with the largest batches and the most of them in a step."""
    examples, training = workload.examples.get("train"), spec.training
    fixed = {
        "batch_size": training.batch_size or workload.batch_size,
        "accumulation_steps": training.accumulation_steps,
    }
    batch, steps = (
        _largest(space.get(f"{PREFIX}{name}", Fixed(value=value))) for name, value in fixed.items()
    )
    if examples is None or not batch <= examples < batch * steps:
        return []
    return [
        SpecProblem(
            _pointer(spec, arm, "accumulation_steps"),
            f"expected at most {examples // batch:g}, because a step takes as many batches of {batch:g} from "
            f"the {examples} training examples of {spec.workload}, got {steps:g}",
        )
    ]


def _largest(dimension: AnyDimension) -> float:
    """Return the largest value of a dimension of numbers."""
    match dimension:
        case Range():
            return dimension.high
        case Choices():
            values: tuple[Scalar, ...] = dimension.choices
        case Fixed():
            values = (dimension.value,)
    return max(float(value) for value in values)


def _steps_problems(spec: StudySpec, workload: WorkloadCard) -> list[SpecProblem]:
    """Return why a trial of a workload cannot be trained for a number of steps."""
    processes = spec.resources.processes_per_trial
    # A script that counts epochs fails in its trial, and before that in the check before the first one.
    if workload.kind == "script" or processes == 1:
        return []
    found = (
        f"expected a budget of epochs, because the {processes} processes of a trial share the batches of "
        "whole epochs only; write epochs instead of steps and evaluate_every"
    )
    return [SpecProblem("/budget/steps", found)]
