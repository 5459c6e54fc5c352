"""How the difference of two optimizers has narrowed: the budget verdict after fewer pairs of trials."""

__all__ = ["narrowing"]

import math
from typing import Final

import numpy as np

from studies.analysis.paired_trials import PairedTrials
from studies.direction import sign
from studies.live_views import NarrowedDifference
from studies.paired_search import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.budget_verdict import ArmTrials, judge_at

_MOST_POINTS: Final = 8
_MOST_ARMS: Final = 6


def narrowing(paired: PairedTrials | None) -> tuple[NarrowedDifference, ...]:
    """Return the differences to the leading arm after more and more pairs of trials.

    They are not verdicts: an interval that is looked at again and again misses more often than 5 times in
    100. Empty without paired trials, and before enough pairs have ended for the primary budget.

    Args:
        paired: the paired trials of a study, None if it has none.
    """
    if paired is None or paired.primary is None or len(paired.arms) < 2:
        return ()
    arms = [arm for arm in paired.values() if not np.isnan(arm.validation).all()]
    known = ~np.any([np.isnan(arm.validation) for arm in arms], axis=0)
    least, most = max(LEAST_PAIRS, TRIALS_PER_BUDGET * paired.primary), int(known.sum())
    if len(arms) < 2 or most < least:
        return ()
    places = np.flatnonzero(known)
    # An arm that was added later may have no results yet.
    measured = {arm.name for arm in arms}
    reached = {
        arm.name: float(paired.reached(arm, [paired.primary])[0])
        for arm in paired.arms
        if arm.name in measured
    }
    finite = [arm.name for arm in arms if math.isfinite(reached[arm.name])]
    if len(finite) < 2:
        return ()
    leader, *others = sorted(finite, key=lambda name: -sign(paired.card.direction) * reached[name])[
        :_MOST_ARMS
    ]
    found: list[NarrowedDifference] = []
    for n in sorted({round(n) for n in np.linspace(least, most, _MOST_POINTS)}):
        first = places[:n]
        judged = judge_at(
            [
                ArmTrials(name=arm.name, validation=arm.validation[first], test=arm.test[first])
                for arm in arms
            ],
            direction=paired.card.direction,
            primary=paired.primary,
            pairs=[(other, leader) for other in others],
            diverged=paired.diverged_value(),
            correction="holm",
        )
        found += [
            NarrowedDifference(
                arm=each.first,
                leader=leader,
                pairs=n,
                difference=each.difference,
                low=each.low,
                high=each.high,
            )
            for each in judged
            if math.isfinite(each.difference) and math.isfinite(each.low)
        ]
    return tuple(found)
