"""The paired trials of several arms, as the budget verdict reads them.

Trials with the same replicate and pair index are a pair: they share their seed and their draws.
"""

__all__ = ["PairedArm", "PairedTrials", "paired_trials"]

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.views import BudgetState
from studies.catalog import WorkloadCard
from studies.direction import sign, worst_value
from studies.paired_looks import study_looks
from studies.statistics.budget_statistic import chosen_test
from studies.statistics.budget_verdict import ArmTrials, BudgetJudgement, judge_budgets
from studies.statistics.orientation import oriented
from studies.statistics.until_decided import Looks
from studies.trial_values import has_result, has_value, is_over, paired_tests, paired_validation
from studies.views import TrialView

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedArm:
    """The paired trials of one arm.

    Attributes:
        name: its unique name.
        label: its name in sentences.
        trials: the trial of each pair, [N], by pair index and replicate; None where there is none.
        was_stopped: whether the study was stopped among its pairs and extended, so that no other pairs count.
    """

    name: str
    label: str
    trials: tuple[TrialView | None, ...]
    was_stopped: bool = False

    @property
    def known(self) -> tuple[TrialView, ...]:
        """The trials with a result: completed or diverged."""
        return tuple(trial for trial in self.trials if trial is not None and has_result(trial))

    @property
    def diverged(self) -> int:
        """How many of them diverged."""
        return sum(not has_value(trial) for trial in self.known)


@dataclass(frozen=True, kw_only=True)
class PairedTrials:
    """The paired trials of several arms of one workload.

    Attributes:
        arms: in the study's order.
        primary: the budget of the words; None with too few pairs.
        card: the workload's card.
        is_closed: whether no more results will come.
        looks: what has been decided, if pairs are added until the arms are decided.
    """

    arms: tuple[PairedArm, ...]
    primary: int | None
    card: WorkloadCard
    is_closed: bool
    looks: Looks | None = None

    @property
    def planned(self) -> int:
        """Pairs that the verdict rests on when all have ended; with looks, those of the next or last one."""
        if self.looks is None:
            return len(self.arms[0].trials)
        return self.looks.following or self.looks.planned[self.looks.done - 1]

    @property
    def ended(self) -> int:
        """Pairs that have ended in every arm."""
        return sum(all(map(is_over, pair)) for pair in self._pairs)

    @property
    def n(self) -> int:
        """Pairs with a result in every arm."""
        return sum(all(has_result(trial) for trial in pair) for pair in self._pairs)

    @property
    def state(self) -> BudgetState:
        """Whether there are words, and if not, why."""
        if self.primary is None:
            return "too few pairs"
        if self.is_closed or (self.looks is not None and self.looks.following is None):
            return "judged"
        are_over = all(arm.was_stopped or all(map(is_over, arm.trials)) for arm in self.arms)
        return "judged" if self.looks is None and are_over else "in progress"

    @property
    def _pairs(self) -> list[list[TrialView | None]]:
        """The trials of each pair, without arms that were dropped before it."""
        dropped = {} if self.looks is None else self.looks.dropped
        return [
            [arm.trials[n] for arm in self.arms if n < dropped.get(arm.name, self.planned)]
            for n in range(self.planned)
        ]

    def diverged_value(self, metric: str | None = None) -> float | None:
        """Return the test value of a diverged trial, the same in every arm; None if no trial needs it.

        It is the card's chance level, or else the worst finite test value of any arm.

        Args:
            metric: another metric than the objective.
        """
        card = self.card.by_metric(metric or self.card.metric)
        values = np.concatenate([paired_tests(arm.trials, metric) for arm in self.arms])
        is_known = np.array([has_result(trial) for arm in self.arms for trial in arm.trials])
        finite = values[np.isfinite(values)]
        if not (is_known & ~np.isfinite(values)).any():
            return None
        if card.chance is not None or not finite.size:
            return card.chance
        return float(finite.min() if card.direction == "maximize" else finite.max())

    def judge(self, metric: str | None = None) -> BudgetJudgement:
        """Return the verdict on every pair of arms, and the curves, whatever has ended.

        Args:
            metric: another metric than the objective, by which the trials are still chosen. A completed trial
                without a value of it leaves out its pair.
        """
        return judge_budgets(
            self.values(metric),
            direction=self.card.by_metric(metric or self.card.metric).direction,
            primary=self.primary or 1,
            diverged=self.diverged_value(metric),
        )

    def values(self, metric: str | None = None) -> list[ArmTrials]:
        """Return the values of every arm's paired trials, as the statistics of the verdict take them.

        Args:
            metric: as in `judge`.
        """
        direction = self.card.by_metric(metric or self.card.metric).direction
        turned = sign(direction) * sign(self.card.direction)
        found: list[ArmTrials] = []
        for arm in self.arms:
            validation, tests = (
                turned * paired_validation(arm.trials, self.card.direction),
                paired_tests(arm.trials, metric),
            )
            if metric is not None:
                validation = np.where(np.isnan(tests) & np.isfinite(validation), np.nan, validation)
            found.append(ArmTrials(name=arm.name, validation=validation, test=tests))
        return found

    def reached(self, arm: PairedArm, budgets: ArrayLike) -> _Floats:
        """Return the expected test value of an arm's best of k trials by validation, [K].

        Args:
            arm: one of the arms.
            budgets: [K] numbers of trials, each from 1 to the arm's trials with a result.
        """
        validation, tests = paired_validation(arm.trials, self.card.direction), paired_tests(arm.trials)
        known = ~np.isnan(validation)
        stand_in = self.diverged_value()
        tests = np.where(np.isfinite(tests), tests, math.nan if stand_in is None else stand_in)
        return chosen_test(oriented(validation[known], self.card.direction), tests[known], budgets)

    def choices(self, arm: PairedArm, budget: int) -> _Floats:
        """Return the test value of the best by validation of each `budget` trials in turn, [N // budget].

        Each is the result of an independent search with that budget. The worst infinity stands for one in
        which all trials diverged, NaN for one without any result.

        Args:
            arm: one of the arms.
            budget: number of trials.
        """
        validation, tests = (
            oriented(paired_validation(arm.trials, self.card.direction), self.card.direction),
            paired_tests(arm.trials),
        )
        worst = worst_value(self.card.direction)
        found: list[float] = []
        for start in range(0, len(arm.trials) // budget * budget, budget):
            block = slice(start, start + budget)
            if np.isnan(validation[block]).all():
                found.append(math.nan)
                continue
            test = float(tests[block][np.nanargmax(validation[block])])
            found.append(test if math.isfinite(test) else worst)
        return np.array(found, dtype=np.float64)


def paired_trials(results: StudyResults) -> PairedTrials | None:
    """Return the paired trials of a study; None if it has none.

    Replicates pool their pairs: those with which the study was submitted. A later extension adds none, not
    even those that were missing when the study was stopped.
    """
    spec = results.study.spec
    search = spec.search
    if not search.pairs or not results.arms:
        return None
    looks = None
    if search.until is not None and search.verdict_at is not None:
        looks = study_looks(spec, results.card, [trial for arm in results.arms for trial in arm.trials])
    most = search.pairs if looks is None else looks.planned[-1]
    stopped_at = dict(search.stopped_at)
    return PairedTrials(
        arms=tuple(
            PairedArm(
                name=arm.name,
                label=arm.label,
                trials=_in_order(
                    arm,
                    most=most,
                    replicates=search.replicates,
                    stopped_at=stopped_at.get(arm.name, math.inf),
                ),
                was_stopped=arm.name in stopped_at,
            )
            for arm in results.arms
        ),
        primary=search.verdict_at,
        card=results.card,
        is_closed=results.is_closed,
        looks=looks,
    )


def _in_order(
    arm: ArmResults, *, most: int, replicates: int, stopped_at: float
) -> tuple[TrialView | None, ...]:
    """Return the trial of each of the first pairs, by pair index and then by replicate."""
    found: list[TrialView | None] = [None] * most
    for trial in arm.trials:
        if trial.pair_index is not None and trial.replicate < replicates and trial.number < stopped_at:
            place = trial.pair_index * replicates + trial.replicate
            if place < most:
                found[place] = trial
    return tuple(found)
