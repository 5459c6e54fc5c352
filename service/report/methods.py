"""The methods section of a report, in the English of a paper, written from a study's spec and plan.

It contains no results.
"""

__all__ = ["Methods", "methods"]

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from service.pruner_text import describe_pruning_method
from service.report.method_of_search import describe_budget, describe_sampler
from service.report.method_of_training import describe_training
from service.report.method_of_verdict import (
    describe_budget_verdict,
    describe_comparison,
    describe_confirmation,
    describe_curves,
)
from service.report.references import Citations
from studies.analysis.views import StudyAnalysis
from studies.catalog import WorkloadCard
from studies.direction import higher_or_lower
from studies.formatting import count, listed, plural, scalar
from studies.frozen_model import FrozenModel
from studies.space import AnyDimension, Choices, Fixed, Range
from studies.states import CLOSED_STUDY_STATES
from studies.views import ArmView, StudyView

_SPLITS: Final[dict[Literal["train", "validation", "test"], str]] = {
    "train": "training",
    "validation": "validation",
    "test": "test",
}


class Methods(FrozenModel):
    """The methods section of a report."""

    paragraphs: tuple[str, ...] = Field(description="The paragraphs, in plain English without markup.")
    references: tuple[str, ...] = Field(
        description="The works that the text cites, in order of first mention."
    )


def methods(study: StudyView, arms: Sequence[ArmView], analysis: StudyAnalysis) -> Methods:
    """Return the methods of a study; those of an open study describe its progress so far."""
    cite = Citations()
    paragraphs = (
        _describe_workload(study, arms),
        describe_training(study, arms, cite),
        _describe_spaces(arms),
        " ".join(
            (
                *describe_sampler(study, arms, analysis.by_budget, cite),
                *describe_pruning_method(study, cite),
                *describe_budget(study, arms, analysis.by_budget),
            )
        ),
        " ".join(describe_budget_verdict(study, analysis, cite)),
        " ".join(describe_confirmation(study, analysis)),
        " ".join((*describe_comparison(analysis, cite), *describe_curves(analysis, cite))),
        _describe_software(study),
    )
    return Methods(paragraphs=tuple(text for text in paragraphs if text), references=cite.references)


def _describe_workload(study: StudyView, arms: Sequence[ArmView]) -> str:
    card = study.workload_card
    names = listed([arm.label for arm in arms], most=len(arms))
    what = f"We studied {names}" if len(arms) == 1 else f"We compared {names}"
    epoch = "after its last epoch" if study.spec.objective.at == "last" else "at the epoch where it was best"
    unit = (
        ""
        if card.unit in {"", "none"}
        else f", {'as a fraction of 1' if card.unit == 'fraction' else f'in {card.unit}'}"
    )
    state = (
        ""
        if study.state in CLOSED_STUDY_STATES
        else f" The study is not finished: it is {study.state.value}."
    )
    described = f": {_with_full_stop(card.description)}" if card.description else "."
    source = f"Data: {_with_full_stop(card.source)} " if card.source else ""
    model = (
        "" if card.parameters is None else f"The model has {plural(card.parameters, 'trainable parameter')}. "
    )
    return (
        f"{what} on the workload {card.name}{described} {source}{_describe_splits(card)}{model}"
        "A trial's value is the "
        f"{card.metric} on the validation split {epoch} "
        f"({higher_or_lower(card.direction)} is better{unit}). Configurations were "
        f"chosen by their validation values only; the test split was used only for reporting, at the same "
        f"epoch.{state}"
    )


def _describe_splits(card: WorkloadCard) -> str:
    sizes = card.examples
    # A function of the weights alone has no examples to split.
    if len(sizes) < len(_SPLITS) or sizes["test"] <= 1:
        return ""
    return (
        "The examples are split once, in the same way for every trial, into "
        f"{listed([f'{count(sizes[split])} {name}' for split, name in _SPLITS.items()], most=3)} examples. "
    )


def _with_full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _describe_spaces(arms: Sequence[ArmView]) -> str:
    return " ".join(("The search spaces were:", *(_describe_space(arm) for arm in arms)))


def _describe_space(arm: ArmView) -> str:
    """Return one sentence on an arm's optimizer and search space."""
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
    fixed += [
        f"{h.name} = {h.follows}"
        for h in card.hyperparameters
        if h.follows is not None and h.name not in arm.space
    ]
    settings = [f"{name} = {scalar(value)}" for name, value in card.arguments.items()]
    shown = arm.label if arm.label == card.title else f"{card.title}, called {arm.label} here"
    parts = [
        f"{shown} ({card.reference}), searched over {', '.join(searched)}"
        if searched
        else f"{shown} ({card.reference}), without searched hyperparameters",
        *([f"fixed: {', '.join((*fixed, *settings))}"] if fixed or settings else []),
        *(
            f"{name} searched only if {condition}"
            for name, condition in arm.conditions.items()
            if not isinstance(arm.space[name], Fixed)
        ),
        *(f"subject to {constraint}" for constraint in card.constraints),
    ]
    return f"{'; '.join(parts)}."


def _dimension(dimension: AnyDimension) -> str:
    match dimension:
        case Range():
            kinds = (
                *(["integers"] if dimension.integer else []),
                *(["log scale"] if dimension.log else []),
            )
            return f"from {scalar(dimension.low)} to {scalar(dimension.high)}" + (
                f" ({', '.join(kinds)})" if kinds else ""
            )
        case Choices():
            return f"in {{{', '.join(scalar(choice) for choice in dimension.choices)}}}"
        case Fixed():
            return f"= {scalar(dimension.value)}"


def _describe_software(study: StudyView) -> str:
    if not study.environment:
        return "The versions of the software were not recorded."
    return (
        "Software and hardware, as recorded by the runs: "
        f"{', '.join(f'{name} {value}' for name, value in sorted(study.environment.items()))}."
    )
