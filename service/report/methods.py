"""How a study was done, in English for a paper's section on methods, written from its spec and plan.

Nothing here is a result.
"""

__all__ = ["Methods", "methods"]

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from service.pruner_text import describe_pruning_method
from service.report.method_of_search import budget_said, sampler_said
from service.report.method_of_verdict import confirmation_said, curves_said, verdict_said
from service.report.references import Citations
from studies.analysis.views import StudyAnalysis
from studies.analysis.wording import listed
from studies.direction import higher_or_lower
from studies.formatting import count, plural, scalar
from studies.space import AnyDimension, Choices, Fixed, Range
from studies.states import CLOSED_STUDY_STATES
from studies.views import ArmView, StudyView


class Methods(BaseModel):
    """How a study was done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paragraphs: tuple[str, ...] = Field(description="The text, in plain English without markup.")
    references: tuple[str, ...] = Field(description="What the text cites, in the order of first mention.")


def methods(study: StudyView, arms: Sequence[ArmView], analysis: StudyAnalysis) -> Methods:
    """Return the methods of a study; of one that is still open, as far as it has come."""
    cite = Citations()
    paragraphs = (
        _workload(study, arms),
        _training(study, arms, cite),
        _spaces(arms),
        " ".join(
            (
                *sampler_said(study, arms, cite),
                *describe_pruning_method(study, cite),
                *budget_said(study, arms),
            )
        ),
        " ".join(confirmation_said(study, analysis)),
        " ".join((*verdict_said(analysis, cite), *curves_said(analysis, cite))),
        _software(study),
    )
    return Methods(paragraphs=tuple(text for text in paragraphs if text), references=cite.references)


def _workload(study: StudyView, arms: Sequence[ArmView]) -> str:
    card = study.workload_card
    names = listed([arm.label for arm in arms], most=len(arms))
    what = f"We studied {names}" if len(arms) == 1 else f"We compared {names}"
    epoch = (
        "after its last epoch"
        if study.spec.objective.at == "last"
        else "at the epoch, of all, where it was best"
    )
    unit = (
        ""
        if card.unit in {"", "none"}
        else f", in {'fractions of 1' if card.unit == 'fraction' else card.unit}"
    )
    state = (
        ""
        if study.state in CLOSED_STUDY_STATES
        else f" The study is not finished: it is {study.state.value}."
    )
    splits = (
        "The examples are split once, the same for every trial, into "
        f"{count(card.examples['train'])} training, {count(card.examples['validation'])} "
        f"validation and {count(card.examples['test'])} test examples; the"
    )
    # A function of the weights alone has no examples: all there is to split is the function itself.
    begun = splits if card.examples["test"] > 1 else "The"
    return (
        f"{what} on the workload {card.name}: {_ended(card.description)} Data: {_ended(card.source)} "
        f"{begun} model has {count(card.parameters)} trainable parameters. A trial's value is the "
        f"{card.metric} on the validation split {epoch} "
        f"({higher_or_lower(card.direction)} is better{unit}). Configurations were "
        f"chosen by validation alone; the test split served for reporting only, at the same epoch.{state}"
    )


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _training(study: StudyView, arms: Sequence[ArmView], cite: Citations) -> str:
    training = study.spec.training
    match training.schedule:
        case "constant":
            schedule = "a constant learning rate"
        case "cosine":
            schedule = f"a learning rate that falls to zero along a cosine {cite('cosine')}"
        case "warmup-cosine":
            share = f"{100 * training.warmup_fraction:g} %"
            schedule = (
                f"a learning rate that rises linearly over the first {share} of the steps "
                f"{cite('warm-up')} and then falls to zero along a cosine "
            )
            schedule += cite("cosine")
    said = [
        (
            f"Every trial was trained for {plural(study.epochs, 'epoch')} at batch size "
            f"{count(study.batch_size)} with {schedule}."
        )
    ]
    own = [arm.label for arm in arms if arm.optimizer.schedule == "constant"]
    if own and training.schedule != "constant":
        have = (
            "has a schedule of its own and was" if len(own) == 1 else "have schedules of their own and were"
        )
        said.append(f"{listed(own, most=len(own))} {have} run without it.")
    if not training.decay_1d:
        said.append(
            "Weight decay was not applied to parameters of fewer than two dimensions, such as biases "
            "and the scales of normalisation."
        )
    said.append(
        "A trial's seed fixes its initialisation and the order of its batches. Both were the same in "
        "every arm, so that nothing but the optimizer differs between arms; all seeds derive from the "
        f"study's seed {study.spec.seed}."
    )
    return " ".join(said)


def _spaces(arms: Sequence[ArmView]) -> str:
    return " ".join(("The search spaces were:", *(_space(arm) for arm in arms)))


def _space(arm: ArmView) -> str:
    """Return an arm's optimizer and space in one sentence."""
    card = arm.optimizer
    searched = [
        f"{name} {_dimension(dimension)}"
        for name, dimension in arm.space.items()
        if not isinstance(dimension, Fixed)
    ]
    fixed = [
        f"{name} = {scalar(dimension.value)}"
        for name, dimension in arm.space.items()
        if isinstance(dimension, Fixed)
    ]
    settings = [f"{name} = {scalar(value)}" for name, value in card.arguments.items()]
    shown = arm.label if arm.label == card.title else f"{card.title}, here called {arm.label}"
    parts = [
        f"{shown} ({card.reference}), searched over {', '.join(searched)}"
        if searched
        else f"{shown} ({card.reference}), nothing searched",
        *([f"fixed: {', '.join((*fixed, *settings))}"] if fixed or settings else []),
        *(
            f"{name} searched only where {c.parameter} is above {c.above:g}"
            for name, c in card.conditions.items()
            if not isinstance(arm.space[name], Fixed)
        ),
        *(f"configurations kept to {constraint}" for constraint in card.constraints),
    ]
    return f"{'; '.join(parts)}."


def _dimension(dimension: AnyDimension) -> str:
    match dimension:
        case Range():
            kinds = (
                *(["whole numbers"] if dimension.integer else []),
                *(["log scale"] if dimension.log else []),
            )
            return f"from {dimension.low:g} to {dimension.high:g}" + (
                f" ({', '.join(kinds)})" if kinds else ""
            )
        case Choices():
            return f"in {{{', '.join(scalar(choice) for choice in dimension.choices)}}}"
        case Fixed():
            return f"= {scalar(dimension.value)}"


def _software(study: StudyView) -> str:
    if not study.environment:
        return "The versions of the software that trained it are not on record."
    return (
        "Software and machines, as the runs recorded them: "
        f"{', '.join(f'{name} {value}' for name, value in sorted(study.environment.items()))}."
    )
