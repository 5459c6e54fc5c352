"""The budget verdict: which optimizer is better after k trials of tuning, in words and sentences."""

__all__ = ["budget_clause", "budget_verdict", "metrics_by_budget"]

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from studies.analysis.paired_trials import PairedArm, PairedTrials
from studies.analysis.views import (
    ArmAtBudget,
    BudgetRange,
    BudgetVerdict,
    DifferenceByBudget,
    DifferencePoint,
    PairByBudget,
)
from studies.analysis.wording import capitalized, mean_lead
from studies.direction import Direction, sign
from studies.formatting import p_value, plural, probability
from studies.statistics.budget_verdict import (
    LEAST_PAIRS,
    TRIALS_PER_BUDGET,
    BudgetDifference,
    PairAtBudget,
)
from studies.statistics.holm import holm
from studies.statistics.until_decided import Looks, PairAtLook
from studies.statistics.verdict import LEVEL, Word

_OF_SEVERAL: Final = " after correction for all pairs of arms"


def budget_verdict(trials: PairedTrials) -> BudgetVerdict:
    """Return the verdict on every pair of arms by their paired trials.

    No arm is judged before every paired trial has ended in every arm: to judge again with each new trial
    would be wrong more often than 5 times in 100.

    Args:
        trials: the paired trials.
    """
    why_none = _why_none(trials)
    verdict = BudgetVerdict(
        state=trials.state,
        why_none=why_none,
        primary=trials.primary,
        planned=trials.planned,
        n=trials.n,
        ended=trials.ended,
        looks=() if trials.looks is None else trials.looks.planned,
        diverged_value=trials.diverged_value(),
        arms=(),
        pairs=(),
        differences=(),
    )
    if trials.state != "judged" or trials.primary is None or (trials.looks and not trials.looks.done):
        return verdict
    judgement = trials.judge()
    unit, direction = trials.card.unit, trials.card.direction
    labels = {arm.name: arm.label for arm in trials.arms}
    found = judgement.pairs if trials.looks is None else tuple(each.at for each in trials.looks.pairs)
    pairs = tuple(
        _pair(
            each,
            p_corrected=each.p_corrected,
            word=each.word,
            labels=labels,
            primary=trials.primary,
            direction=direction,
            unit=unit,
            correction=_OF_SEVERAL if len(found) > 1 else "",
        )
        for each in found
    )
    if trials.looks is not None:
        pairs = _with_looks(pairs, trials.looks, judgement.pairs, labels)
    return verdict.model_copy(
        update={
            "arms": _arms(trials, trials.primary, pairs),
            "pairs": pairs,
            "differences": tuple(
                _difference(each, [int(k) for k in judgement.budgets], labels, direction)
                for each in judgement.band
            ),
        }
    )


def metrics_by_budget(trials: PairedTrials, metrics: Sequence[str]) -> dict[str, tuple[PairByBudget, ...]]:
    """Return the verdict on every pair of arms by further metrics; empty before the study's own is given.

    The trials are chosen by the objective's validation values. The p-values of all pairs by all of the
    metrics are corrected together by Holm's method. There is none if pairs were added until the objective had
    decided, because the number of pairs then depends on results.

    Args:
        trials: the paired trials.
        metrics: names of the metrics.
    """
    if trials.state != "judged" or trials.primary is None or trials.looks is not None:
        return {}
    judged = {metric: trials.judge(metric).pairs for metric in metrics}
    corrected = iter(holm([pair.p for pairs in judged.values() for pair in pairs]))
    total = sum(len(pairs) for pairs in judged.values())
    family = f" after correction for {plural(total, 'comparison')}" if total > 1 else ""
    labels = {arm.name: arm.label for arm in trials.arms}
    found: dict[str, tuple[PairByBudget, ...]] = {}
    for metric, pairs in judged.items():
        card = trials.card.by_metric(metric)
        found[metric] = tuple(
            _pair(
                each,
                p_corrected=(p := float(next(corrected))),
                word=_word(each.difference, p, card.direction),
                labels=labels,
                primary=trials.primary,
                direction=card.direction,
                unit=card.unit,
                correction=family,
            )
            for each in pairs
        )
    return found


def budget_clause(pair: PairByBudget, labels: Mapping[str, str], *, metric: str, unit: str, sign: int) -> str:
    """Return which of two arms is better, or ahead, and by how much, without its budget and full stop.

    Args:
        pair: the verdict, with a difference.
        labels: names of the arms in sentences.
        metric: what the difference is measured in, e.g. 'test accuracy'; left out if empty.
        unit: its unit.
        sign: 1 if higher values are better, -1 if lower values are.
    """
    first, second = labels[pair.first], labels[pair.second]
    lead = mean_lead(pair, first=first, second=second, sign=sign, unit=unit)
    if lead is None or not lead.arm:
        return f"{first} and {second} are tied"
    amount = f"{lead.amount} in {metric}" if metric else lead.amount
    if pair.word == "undecided":
        return f"{first} and {second} cannot be told apart: {lead.arm} is ahead by {amount}"
    return f"{lead.arm} is better than {second if lead.arm == first else first} by {amount}"


def _why_none(trials: PairedTrials) -> str | None:
    if trials.state == "too few pairs":
        return (
            f"There is no budget verdict: it needs {LEAST_PAIRS} pairs of trials, and the study "
            f"has {trials.planned}. Submit it with a larger `search.paired`."
        )
    if trials.state == "in progress" and trials.looks is not None:
        looks = trials.looks
        decided = sum(pair.at.word != "undecided" for pair in looks.pairs)
        are = "is" if decided == 1 else "are"
        return (
            f"Pairs of trials are added until the arms are decided: {decided} of "
            f"{plural(len(looks.pairs), 'pair')} of arms {are} so far. The next look is at "
            f"{plural(trials.planned, 'pair')} of trials, of which {trials.ended} have ended in every arm."
        )
    if trials.state == "in progress":
        have = "has" if trials.ended == 1 else "have"
        return (
            f"The verdict on the optimizers follows when all {plural(trials.planned, 'pair')} of trials have "
            f"ended in every arm; so far {trials.ended} {have}."
        )
    if trials.looks is not None and not trials.looks.done:
        return f"The study ended before its first look, at {plural(trials.planned, 'pair')} of trials."
    if len(trials.arms) < 2:
        return "The study has one arm, so there is nothing to compare."
    return None


def _arms(trials: PairedTrials, primary: int, pairs: Sequence[PairByBudget]) -> tuple[ArmAtBudget, ...]:
    """Return every arm at the primary budget, best first; arms without a value come last."""
    signed = sign(trials.card.direction)
    values = {
        arm.name: float(trials.reached(arm, [primary])[0]) if len(arm.known) >= primary else math.nan
        for arm in trials.arms
    }
    standings = {name: -math.inf if math.isnan(v) else signed * v for name, v in values.items()}
    better = {arm.name: 0 for arm in trials.arms}
    worse = dict(better)
    for pair in pairs:
        if pair.word != "undecided":
            up, down = (pair.first, pair.second) if pair.word == "better" else (pair.second, pair.first)
            better[up] += 1
            worse[down] += 1

    def place(arm: PairedArm) -> ArmAtBudget:
        own = standings[arm.name]
        level = sum(other == own for other in standings.values())
        low, high = 1 + worse[arm.name], len(trials.arms) - better[arm.name]
        rank = sum(other > own for other in standings.values()) + (level + 1) / 2
        return ArmAtBudget(
            arm=arm.name,
            trials=len(arm.known),
            diverged=arm.diverged,
            value=_known(values[arm.name]),
            # Pairs leave out trials whose partner has no result, so values and pairs may disagree.
            rank=min(max(rank, low), high),
            low=low,
            high=high,
        )

    return tuple(sorted(map(place, trials.arms), key=lambda arm: arm.rank))


def _pair(
    found: PairAtBudget,
    *,
    p_corrected: float,
    word: Word,
    labels: Mapping[str, str],
    primary: int,
    direction: Direction,
    unit: str,
    correction: str,
) -> PairByBudget:
    pair = PairByBudget(
        first=found.first,
        second=found.second,
        word=word,
        n=found.n,
        difference=_known(found.difference),
        low=_known(found.low),
        high=_known(found.high),
        p=_known(found.p),
        p_corrected=_known(p_corrected),
        reason="",
    )
    after = f"after {plural(primary, 'trial')} of tuning each"
    first, second = labels[found.first], labels[found.second]
    if pair.difference is None:
        needed = max(LEAST_PAIRS, TRIALS_PER_BUDGET * primary)
        reason = (
            f"{first} and {second} cannot be compared {after}: {plural(found.n, 'pair')} of trials "
            f"{'has' if found.n == 1 else 'have'} a result in both, and {needed} are needed."
        )
    else:
        clause = budget_clause(pair, labels, metric="", unit=unit, sign=sign(direction))
        test = (
            "; no test is possible, because no pair of trials changes the difference"
            if pair.p_corrected is None
            else f", {probability(pair.p_corrected)}{correction}"
        )
        reason = f"{capitalized(after)}, {clause} on {plural(found.n, 'pair')} of trials{test}."
    return pair.model_copy(update={"reason": reason})


def _with_looks(
    pairs: Sequence[PairByBudget],
    looks: Looks,
    every: Sequence[PairAtBudget],
    labels: Mapping[str, str],
) -> tuple[PairByBudget, ...]:
    """Return the pairs with the look that each rests on, and those that the study is not asked to decide."""
    found = [
        pair.model_copy(
            update={"look": each.look, "level": each.level, "reason": _at_look(pair.reason, each)}
        )
        for pair, each in zip(pairs, looks.pairs, strict=True)
    ]
    asked = {frozenset((pair.first, pair.second)) for pair in pairs}
    found += [
        PairByBudget(
            first=each.first,
            second=each.second,
            word="undecided",
            n=each.n,
            difference=None,
            low=None,
            high=None,
            p=None,
            p_corrected=None,
            reason=f"The study does not compare {labels[each.first]} with {labels[each.second]}.",
        )
        for each in every
        if frozenset((each.first, each.second)) not in asked
    ]
    return tuple(found)


def _at_look(reason: str, pair: PairAtLook) -> str:
    if pair.look is None or pair.level is None:
        return reason
    level = p_value(pair.level)
    return f"{reason.removesuffix('.')} (at the look at {plural(pair.look, 'pair')}, whose level is {level})."


def _word(difference: float, p: float, direction: Direction) -> Word:
    if not p < LEVEL or not difference:
        return "undecided"
    return "better" if sign(direction) * difference > 0 else "worse"


def _difference(
    found: BudgetDifference, budgets: Sequence[int], labels: Mapping[str, str], direction: Direction
) -> DifferenceByBudget:
    ranges = _ranges(found, budgets, direction)
    return DifferenceByBudget(
        first=found.first,
        second=found.second,
        points=tuple(
            DifferencePoint(trials=k, difference=float(d), low=_known(low), high=_known(high))
            for k, d, low, high in zip(budgets, found.difference, found.low, found.high, strict=True)
        ),
        ranges=ranges,
        is_reversed=len({each.better for each in ranges}) > 1,
        sentence=_describe_ranges(found, ranges, budgets, labels),
    )


def _ranges(found: BudgetDifference, budgets: Sequence[int], direction: Direction) -> tuple[BudgetRange, ...]:
    """Return the stretches of budgets over which the band lies on one side of 0."""
    signs = sign(direction) * (np.where(found.low > 0, 1, 0) - np.where(found.high < 0, 1, 0))
    starts = [0, *(n for n in range(1, len(signs)) if signs[n] != signs[n - 1])]
    ends = [*(start - 1 for start in starts[1:]), len(signs) - 1]
    return tuple(
        BudgetRange(
            better=found.first if signs[start] > 0 else found.second,
            worse=found.second if signs[start] > 0 else found.first,
            low=budgets[start],
            high=budgets[end],
        )
        for start, end in zip(starts, ends, strict=True)
        if signs[start]
    )


def _describe_ranges(
    found: BudgetDifference,
    ranges: Sequence[BudgetRange],
    budgets: Sequence[int],
    labels: Mapping[str, str],
) -> str:
    """Return for which budgets the band shows which arm to be better, in a sentence."""
    first, second = labels[found.first], labels[found.second]
    least, most = budgets[0], budgets[-1]
    if not ranges:
        return f"The band shows neither {first} nor {second} to be better with up to {_trials(most)}."
    if (ranges[0].low, ranges[0].high) == (least, most):
        better, worse = labels[ranges[0].better], labels[ranges[0].worse]
        return f"{better} is better than {worse} with any number of trials of tuning up to {most}."

    def stretch(each: BudgetRange) -> str:
        if each.low == each.high:
            return f"with {_trials(each.low)}"
        if each.low == least:
            return f"with up to {_trials(each.high)}"
        return f"with {each.low} to {_trials(each.high)}"

    parts = [
        f"{labels[each.better]} {stretch(each)}"
        if n
        else f"{labels[each.better]} is better than {labels[each.worse]} {stretch(each)} of tuning"
        for n, each in enumerate(ranges)
    ]
    return f"{', '.join(parts)}."


def _trials(n: int) -> str:
    return plural(n, "trial")


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
