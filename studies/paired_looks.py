"""What a study that adds pairs until its arms are decided has decided by now, from its stored trials."""

__all__ = ["pairs_of_replicate", "study_looks"]

import math
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from studies.catalog import WorkloadCard
from studies.direction import worst_value
from studies.spec import StudySpec
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.until_decided import Looks, judge_looks, looks
from studies.views import TrialView

_ENDED: Final = FINISHED_TRIAL_STATES - {TrialState.CANCELLED}


def study_looks(spec: StudySpec, card: WorkloadCard, trials: Iterable[TrialView]) -> Looks:
    """Return what a study's looks at its pairs have decided.

    Pairs are ordered by their index, then by their replicate, so that the first n are those of a look at n.

    Args:
        spec: the study, which adds pairs until its arms are decided.
        card: the workload, by the study's objective.
        trials: the study's trials.
    """
    search = spec.search
    assert search.until is not None, "the study adds pairs"
    assert search.verdict_at is not None, "it has enough pairs for a verdict"
    planned = looks(search.pairs, search.until.max_pairs * search.replicates)
    of_arms: dict[str, dict[int, TrialView]] = {arm.name: {} for arm in spec.arms}
    for trial in trials:
        if trial.phase == "search" and trial.pair_index is not None and trial.replicate < search.replicates:
            of_arms[trial.arm][trial.pair_index * search.replicates + trial.replicate] = trial
    arms = [_arm_trials(name, found, planned[-1], card) for name, found in of_arms.items()]
    dropped: dict[str, int] = {}
    while True:
        found = judge_looks(
            arms,
            ended=_ended(of_arms, dropped, most=planned[-1]),
            planned=planned,
            direction=card.direction,
            primary=search.verdict_at,
            pairs=search.until.pairs,
            can_drop=search.until.drop_losers,
            diverged=card.chance,
        )
        # An arm that a look has dropped does not delay the next one.
        if found.dropped == dropped:
            return found
        dropped = found.dropped


def pairs_of_replicate(pairs: int, replicate: int, *, replicates: int) -> int:
    """Return how many of the first pairs of a study belong to one of its replicates."""
    return max(0, -(-(pairs - replicate) // replicates))


def _ended(of_arms: Mapping[str, Mapping[int, TrialView]], dropped: Mapping[str, int], *, most: int) -> int:
    """Return how many leading pairs have ended in every arm that takes part in them."""
    for place in range(most):
        for name, found in of_arms.items():
            trial = found.get(place)
            takes_part = place < dropped.get(name, most)
            if takes_part and (trial is None or trial.state not in _ENDED):
                return place
    return most


def _arm_trials(name: str, found: Mapping[int, TrialView], most: int, card: WorkloadCard) -> ArmTrials:
    """Return an arm's results; the worst infinity of a diverged trial, NaN without a result."""
    validation, test = np.full(most, math.nan), np.full(most, math.nan)
    for place, trial in found.items():
        if place < most and trial.state is TrialState.DIVERGED:
            validation[place] = worst_value(card.direction)
        elif place < most and trial.state is TrialState.COMPLETED:
            validation[place] = worst_value(card.direction) if trial.value is None else trial.value
            test[place] = math.nan if trial.test_value is None else trial.test_value
    return ArmTrials(name=name, validation=validation, test=test)
