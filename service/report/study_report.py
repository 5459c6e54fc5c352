"""The content of a study's report, independent of its format.

It holds the study, its analysis, its methods section, and its configurations as Python code.
"""

__all__ = ["ReportedConfiguration", "StudyReport", "report_of"]

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from service.report.methods import Methods, methods
from studies.analysis.views import StudyAnalysis
from studies.frozen_model import FrozenModel
from studies.layers import ArmLayers
from studies.recipe import call
from studies.space import Parameters
from studies.training_program import training_program
from studies.views import ArmView, StudyView


class ReportedConfiguration(FrozenModel):
    """One configuration of an arm: its best one or its defaults."""

    arm: str = Field(description="Name of the arm.")
    optimizer: str = Field(description="Name of the arm's optimizer.")
    configuration: Literal["best", "defaults"] = Field(
        description="The best of the search by validation, or the arm's defaults."
    )
    replicate: int | None = Field(
        description="The replicate of the search that found it, from 0; null if it was not confirmed."
    )
    number: int = Field(description="Number of the trial of the search that it comes from.")
    parameters: Parameters = Field(description="The hyperparameters.")
    call: str = Field(description="The optimizer's constructor call alone, on one line.")
    python: str = Field(
        description="Python that builds the optimizer and its schedule for `model`, ready to paste."
    )


class StudyReport(FrozenModel):
    """A study with its results and methods."""

    study: StudyView = Field(description="The study.")
    arms: tuple[ArmView, ...] = Field(description="The arms, with their search spaces.")
    analysis: StudyAnalysis = Field(description="The analysis of the study.")
    methods: Methods = Field(description="The methods section, for a paper.")
    configurations: tuple[ReportedConfiguration, ...] = Field(
        description="For each arm its best configuration, one per replicate, then its defaults."
    )
    layers: tuple[ArmLayers, ...] = Field(
        description="What the layers of the arms' runs measured on average, by arm."
    )


def report_of(
    study: StudyView,
    arms: Sequence[ArmView],
    analysis: StudyAnalysis,
    *,
    layers: Sequence[ArmLayers] = (),
) -> StudyReport:
    """Return the report of a study in its current state, with what its arms' layers measured."""
    return StudyReport(
        study=study,
        arms=tuple(arms),
        analysis=analysis,
        methods=methods(study, arms, analysis),
        configurations=tuple(found for arm in arms for found in _configurations(study, arm, analysis)),
        layers=tuple(layers),
    )


def _configurations(study: StudyView, arm: ArmView, analysis: StudyAnalysis) -> list[ReportedConfiguration]:
    """Return an arm's confirmed configurations, or else the best of its search, followed by its defaults."""
    confirmed = [
        found for found in analysis.confirmed if found.arm == arm.name and found.configuration == "best"
    ]
    best = [("best", found.replicate, found.number, found.parameters) for found in confirmed]
    if not best and arm.best is not None:
        best = [("best", None, arm.best.number, arm.best.parameters)]
    return [
        ReportedConfiguration(
            arm=arm.name,
            optimizer=arm.optimizer.name,
            configuration="best" if kind == "best" else "defaults",
            replicate=replicate,
            number=number,
            parameters=parameters,
            call=call(arm.optimizer, parameters, decay_1d=study.spec.training.decay_1d),
            python=training_program(
                arm.optimizer,
                parameters,
                study.spec.training.settings(batch_size=study.batch_size),
                workload=study.workload_card,
                epochs=study.epochs,
                interval_steps=study.interval_steps,
            ),
        )
        for kind, replicate, number, parameters in (*best, ("defaults", None, 0, arm.defaults))
    ]
