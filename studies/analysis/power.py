"""What a finished study could have detected by its paired trials, and the cost of detecting half of it."""

__all__ = ["study_power"]

import math
from collections.abc import Sequence

import numpy as np

from studies.analysis.by_budget import budget_verdict
from studies.analysis.paired_trials import PairedArm, PairedTrials, paired_trials
from studies.analysis.power_views import PairGap, StudyPower
from studies.analysis.study_results import study_results
from studies.formatting import count, difference, duration, plural
from studies.statistics.budget_verdict import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.power import PairPower, pair_power
from studies.views import StudyRecord


def study_power(record: StudyRecord) -> StudyPower:
    """Return the gaps that a study could have detected in 80 %, and what half of them would take.

    The figures are those of the budget verdict: its jackknife errors at the primary budget, and the level
    of a pair that keeps the chance of any wrong word of the study at 5 %.

    Args:
        record: everything that is stored of the study.
    """
    results = study_results(record)
    paired = paired_trials(results)
    if paired is None:
        why = (
            "The study has no paired trials, so what it could have detected is not known; submit it with "
            "`search: {paired: 32}`."
        )
    elif paired.looks is not None:
        why = (
            "The study adds pairs until its arms are decided, so the gap that it detects is not fixed; "
            "`tangent submit --validate-only` says what gaps of several sizes take."
        )
    else:
        why = budget_verdict(paired).why_none
    found = () if paired is None or why is not None else _gaps(paired)
    power = StudyPower(
        study_id=results.study.id,
        metric=results.card.metric,
        unit=results.card.unit,
        direction=results.card.direction,
        primary=None if paired is None else paired.primary,
        arms=len(results.arms),
        why_none=why,
        detectable=None,
        pairs_for_half=None,
        trials_for_half=None,
        seconds_for_half=None,
        pairs=found,
        sentence=why or "",
    )
    return power if paired is None or why is not None else _with_worst(power, paired)


def _gaps(paired: PairedTrials) -> tuple[PairGap, ...]:
    by_name = {arm.name: arm for arm in paired.arms}
    powers = pair_power(
        paired.values(),
        direction=paired.card.direction,
        primary=paired.primary or 1,
        diverged=paired.diverged_value(),
    )
    return tuple(_gap(power, (by_name[power.first], by_name[power.second])) for power in powers)


def _gap(power: PairPower, arms: Sequence[PairedArm]) -> PairGap:
    trials, seconds = _cost(power.for_half, arms)
    return PairGap(
        first=power.first,
        second=power.second,
        n=power.n,
        detectable=power.detectable if math.isfinite(power.detectable) else None,
        pairs_for_half=power.for_half,
        trials_for_half=trials,
        seconds_for_half=seconds,
    )


def _cost(pairs: int | None, arms: Sequence[PairedArm]) -> tuple[int | None, float | None]:
    """Return how many trials of these arms the pairs have, and their training seconds."""
    if pairs is None:
        return None, None
    means = [float(np.mean([trial.cost_s for trial in arm.known])) for arm in arms if arm.known]
    return pairs * len(arms), pairs * sum(means) if len(means) == len(arms) else None


def _with_worst(power: StudyPower, paired: PairedTrials) -> StudyPower:
    """Return the figures of the pair of arms that needs the largest gap, and its sentence."""
    known = [pair for pair in power.pairs if pair.detectable is not None]
    if not known:
        needed = max(LEAST_PAIRS, TRIALS_PER_BUDGET * (power.primary or 0))
        why = (
            "No difference between two arms varies over the pairs, so what they detect is not known."
            if any(pair.n >= needed for pair in power.pairs)
            else f"No two arms have the {needed} pairs of trials with a result in both that are needed."
        )
        return power.model_copy(update={"why_none": why, "sentence": why})
    worst = max(known, key=lambda pair: pair.detectable or 0.0)
    trials, seconds = _cost(worst.pairs_for_half, paired.arms)
    gap = worst.detectable or 0.0
    between = "the two arms" if power.arms == 2 else "any two arms"
    sentence = (
        f"After {plural(power.primary or 0, 'trial')} of tuning, {plural(worst.n, 'pair')} of trials call a "
        f"gap of {difference(gap, 0.0, power.unit)} between {between} in 80 % of such studies."
    )
    if worst.pairs_for_half is not None and trials is not None:
        spent = f", about {duration(seconds)} of training" if seconds is not None else ""
        sentence += (
            f" Half of that takes {count(worst.pairs_for_half)} pairs with `verdict_at: {power.primary}`: "
            f"{plural(trials, 'trial')} of {plural(power.arms, 'arm')}{spent}."
        )
    return power.model_copy(
        update={
            "detectable": gap,
            "pairs_for_half": worst.pairs_for_half,
            "trials_for_half": trials,
            "seconds_for_half": seconds,
            "sentence": sentence,
        }
    )
