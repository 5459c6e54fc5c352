"""The results of a study, arm by arm: the trials of its searches and their confirmation runs."""

__all__ = [
    "ArmResults",
    "ConfirmedConfiguration",
    "StudyResults",
    "has_ended",
    "study_results",
]

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from studies.catalog import WorkloadCard
from studies.direction import Direction, better, rank_key, sign, worst_value
from studies.space import ConfigurationKey, configuration_key
from studies.spec import ADAPTIVE_SAMPLERS
from studies.states import (
    CLOSED_STUDY_STATES,
    FINISHED_TRIAL_STATES,
    RESULT_STATES,
    StudyState,
    TrialState,
)
from studies.trial_values import has_test, has_value, value_on_test
from studies.trials import Measurement
from studies.usable_values import ArmTally
from studies.views import ArmView, StudyRecord, StudyView, TrialView

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class ConfirmedConfiguration:
    """A configuration of a search and its confirmation runs.

    Attributes:
        trial: the trial of the search that it comes from.
        runs: its confirmation runs, in the order of the study's fresh seeds.
    """

    trial: TrialView
    runs: tuple[TrialView, ...]


@dataclass(frozen=True, kw_only=True)
class ArmResults:
    """The results of one arm.

    Attributes:
        view: the arm as the store returns it.
        label: its name in sentences.
        trials: the trials of its search, by number.
        spent: the trials that completed, diverged or were pruned, in the order in which they ended.
        bests: the best configuration of each replicate of the search; None if no trial has completed.
        best: the best of these configurations, or None.
        defaults: the configuration of trial 0, or None before there is one.
        runs: all confirmation runs, those of earlier best configurations too.
    """

    view: ArmView
    label: str
    trials: tuple[TrialView, ...]
    spent: tuple[TrialView, ...]
    bests: tuple[ConfirmedConfiguration | None, ...]
    best: ConfirmedConfiguration | None
    defaults: ConfirmedConfiguration | None
    runs: tuple[TrialView, ...]

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.view.name

    @property
    def completed(self) -> tuple[TrialView, ...]:
        """The trials that completed with a value."""
        return tuple(trial for trial in self.spent if has_value(trial))

    @property
    def confirming(self) -> tuple[TrialView, ...]:
        """The confirmation runs of its best configurations, each once.

        Two searches may have found the same configuration, and then share its runs.
        """
        return tuple({run.id: run for each in self.bests if each is not None for run in each.runs}.values())

    @property
    def is_confirmed(self) -> bool:
        """Whether a best configuration has run on a fresh seed."""
        return any(has_ended(run) for run in self.confirming)

    @property
    def lost_searches(self) -> int:
        """The number of searches, of several, in which trials diverged and none completed."""
        lost = {
            trial.replicate
            for trial in self.spent
            if trial.state is TrialState.DIVERGED and self.bests[trial.replicate] is None
        }
        return len(lost) if len(self.bests) > 1 else 0

    @property
    def is_hopeless(self) -> bool:
        """Whether trials have diverged and none has completed."""
        return self.best is None and any(trial.state is TrialState.DIVERGED for trial in self.spent)

    @property
    def tally(self) -> ArmTally:
        """How the trials of its search have ended."""
        tally = ArmTally()
        ended = [trial for trial in self.trials if trial.state in FINISHED_TRIAL_STATES]
        for trial in sorted(ended, key=lambda trial: (trial.ended_at or _NEVER, trial.number)):
            is_lost = trial.state is TrialState.COMPLETED and not has_value(trial)
            tally.add(TrialState.DIVERGED if is_lost else trial.state, reason=trial.reason)
        return tally

    @property
    def is_unusable(self) -> bool:
        """Whether no trial of its search has a usable value, and more trials would not change that."""
        planned = self.view.progress.trials
        ended = sum(trial.state in FINISHED_TRIAL_STATES for trial in self.trials)
        return self.tally.is_unusable(is_over=ended >= planned)


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """The results of one study.

    Attributes:
        study: the study as the store returns it.
        arms: the results of its arms, in order.
        seeds: the fresh seeds of its confirmation runs, in their order.
        measurements: the measurements of confirmation runs and best trials, by trial id.
    """

    study: StudyView
    arms: tuple[ArmResults, ...]
    seeds: tuple[int, ...]
    measurements: dict[str, tuple[Measurement, ...]]

    @property
    def card(self) -> WorkloadCard:
        """The workload's card."""
        return self.study.workload_card

    @property
    def direction(self) -> Direction:
        """Whether higher or lower values are better."""
        return self.study.workload_card.direction

    @property
    def sign(self) -> int:
        """1 if higher values are better, -1 if lower values are."""
        return sign(self.direction)

    @property
    def worst(self) -> float:
        """The value that stands for a trial that diverged."""
        return worst_value(self.direction)

    @property
    def is_closed(self) -> bool:
        """Whether the study has closed, so that no more results will come."""
        return self.study.state in CLOSED_STUDY_STATES

    @property
    def unusable_arms(self) -> tuple[ArmResults, ...]:
        """The arms of a closed study that have no usable value."""
        return tuple(arm for arm in self.arms if arm.is_unusable) if self.is_closed else ()

    @property
    def is_stopped(self) -> bool:
        """Whether the study closed before its search had run all of its trials."""
        progress = self.study.progress
        return self.is_closed and (
            self.study.state is not StudyState.COMPLETED
            or progress.finished < progress.trials
            or progress.cancelled > 0
        )

    @property
    def is_exchangeable(self) -> bool:
        """Whether the order of an arm's trials carries no information.

        That holds if each was drawn independently of the others, and trained to its end.
        """
        return self.study.spec.sampler in {"random", "qmc"} and self.study.spec.pruner.kind == "none"

    @property
    def is_adaptive(self) -> bool:
        """Whether the sampler learns from earlier trials."""
        return self.study.spec.sampler in ADAPTIVE_SAMPLERS

    @property
    def has_enough_pairs(self) -> bool:
        """Whether the paired trials of the search decide which optimizer is better."""
        return self.study.spec.search.verdict_at is not None

    def arm(self, name: str) -> ArmResults:
        """Return the arm with this name, which must exist."""
        return next(arm for arm in self.arms if arm.name == name)

    def values(self, trials: Sequence[TrialView]) -> NDArray[np.float64]:
        """Return validation values [N].

        The worst infinity stands for a trial that diverged, NaN for one without a value (pruned, failed, not
        ended).
        """
        return np.array(
            [
                t.value if has_value(t) else self.worst if t.state is TrialState.DIVERGED else math.nan
                for t in trials
            ],
            dtype=np.float64,
        )

    def tests(self, trials: Sequence[TrialView], *, metric: str | None = None) -> NDArray[np.float64]:
        """Return test values [N] of a metric, by default the objective, with the stand-ins of `values`."""
        worst = self.worst_of(metric)
        found = [value_on_test(trial, metric) for trial in trials]
        return np.array(
            [
                value if value is not None else worst if t.state is TrialState.DIVERGED else math.nan
                for t, value in zip(trials, found, strict=True)
            ],
            np.float64,
        )

    def worst_of(self, metric: str | None) -> float:
        """Return the value of a metric, by default the objective, that stands for a trial that diverged."""
        return worst_value(self.card.by_metric(metric or self.card.metric).direction)


def has_ended(run: TrialView) -> bool:
    """Return whether a confirmation run has a result: it completed with a test value, or diverged."""
    return run.state is TrialState.DIVERGED or has_test(run)


def study_results(record: StudyRecord) -> StudyResults:
    """Return the results that a study's record holds."""
    study = record.study
    # Every arm uses the seeds in their order.
    seeds = tuple(dict.fromkeys(run.seed for run in sorted(record.confirmations, key=lambda run: run.number)))
    trials, runs = _by_arm(record.trials), _by_arm(record.confirmations)
    replicates = max([study.spec.budget.replicates, *(trial.replicate + 1 for trial in record.trials)])
    arms = tuple(
        _arm(view, trials[view.name], runs[view.name], seeds, replicates, study.workload_card.direction)
        for view in record.arms
    )
    return StudyResults(study=study, arms=arms, seeds=seeds, measurements=record.measurements)


def _by_arm(trials: Iterable[TrialView]) -> defaultdict[str, list[TrialView]]:
    found: defaultdict[str, list[TrialView]] = defaultdict(list)
    for trial in trials:
        found[trial.arm].append(trial)
    return found


def _arm(
    view: ArmView,
    trials: list[TrialView],
    runs: list[TrialView],
    seeds: tuple[int, ...],
    replicates: int,
    direction: Direction,
) -> ArmResults:
    trials.sort(key=lambda trial: trial.number)
    position = {seed: n for n, seed in enumerate(seeds)}
    runs_of: defaultdict[ConfigurationKey, dict[int, TrialView]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.number):
        # If a fault left two runs of one configuration and seed, keep the one that has a result.
        known = runs_of[configuration_key(run.parameters)].get(run.seed)
        if known is None or known.state not in RESULT_STATES:
            runs_of[configuration_key(run.parameters)][run.seed] = run

    def configuration(trial: TrialView) -> ConfirmedConfiguration:
        found = runs_of[configuration_key(trial.parameters)]
        return ConfirmedConfiguration(
            trial=trial, runs=tuple(sorted(found.values(), key=lambda run: position[run.seed]))
        )

    best: list[TrialView | None] = [None] * replicates
    for trial in trials:
        before = best[trial.replicate]
        if has_value(trial) and (before is None or better(_value(trial), _value(before), direction)):
            best[trial.replicate] = trial
    bests = tuple(None if trial is None else configuration(trial) for trial in best)
    known = [each for each in bests if each is not None]
    return ArmResults(
        view=view,
        label=view.label,
        trials=tuple(trials),
        spent=tuple(
            sorted(
                (t for t in trials if t.state in RESULT_STATES),
                key=lambda t: (t.ended_at or _NEVER, t.number),
            )
        ),
        bests=bests,
        best=min(
            known, key=lambda each: rank_key(_value(each.trial), each.trial.number, direction), default=None
        ),
        defaults=configuration(trials[0]) if trials and trials[0].number == 0 else None,
        runs=tuple(sorted(runs, key=lambda run: run.number)),
    )


def _value(trial: TrialView) -> float:
    assert trial.value is not None, "a completed trial has a value"
    return trial.value
