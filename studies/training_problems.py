"""What keeps a study's training settings from being used with its workload and resources."""

__all__ = ["training_problems"]

from studies.catalog import WorkloadCard
from studies.errors import SpecProblem
from studies.spec import StudySpec


def training_problems(spec: StudySpec, workload: WorkloadCard | None) -> list[SpecProblem]:
    """Return the settings that this workload, or the resources of a pack, do not allow."""
    training, found = spec.training, list[SpecProblem]()
    if training.precision == "fp16" and not spec.resources.gpus_per_pack:
        found.append(
            SpecProblem(
                "/training/precision",
                "expected a GPU for fp16, got packs without one; write bf16, or set resources.gpus_per_pack",
            )
        )
    if workload is None:
        return found
    if training.label_smoothing and workload.takes_label_smoothing is False:
        found.append(
            SpecProblem(
                "/training/label_smoothing",
                f"expected 0, got {training.label_smoothing:g}: the loss of {spec.workload} has no argument "
                "label_smoothing; add `label_smoothing: float = 0.0` to it and restart the dispatcher",
            )
        )
    if spec.budget.steps is not None:
        # Batches of several passes over the data may share a step.
        return [*found, *_steps_problems(spec, workload)]
    examples = workload.examples.get("train")
    batch = training.batch_size or workload.batch_size
    if examples is not None and batch <= examples < batch * training.accumulation_steps:
        found.append(
            SpecProblem(
                "/training/accumulation_steps",
                f"expected at most {examples // batch}, because a step takes as many batches of {batch} from "
                f"the {examples} training examples of {spec.workload}, got {training.accumulation_steps}",
            )
        )
    return found


def _steps_problems(spec: StudySpec, workload: WorkloadCard) -> list[SpecProblem]:
    """Return why a trial of a workload cannot be trained for a number of steps."""
    processes = spec.resources.processes_per_trial
    if workload.kind == "script":
        why = f"{workload.name} has a loop of its own, which alone knows its steps"
    elif processes > 1:
        why = f"the {processes} processes of a trial share the batches of whole epochs only"
    else:
        return []
    found = f"expected a budget of epochs, because {why}; write epochs instead of steps and evaluate_every"
    return [SpecProblem("/budget/steps", found)]
