"""The finding in one sentence: who is better by the verdict, or, before any, who leads the search.

Never more than the record says.
"""

__all__ = ["finding"]

import math
from collections.abc import Sequence
from typing import Final

from studies.analysis.limits import limits
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.verdicts import Verdict, diverged
from studies.analysis.views import Confirmed, Finding, PairVerdict, RankFlip, Word
from studies.analysis.wording import ahead_by, capitalized, confirmed_unit, listed, standing
from studies.formatting import count, difference, metric, metric_interval, metric_unit, plural
from studies.states import StudyState, TrialState
from studies.statistics.paired import mean_interval

_WORDS: Final[tuple[Word, ...]] = ("better", "undecided", "worse")


def finding(
    reading: StudyResults,
    verdict: Verdict,
    losses: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
    flips: Sequence[RankFlip],
) -> Finding:
    """Return what the study found and its limits.

    Args:
        reading: the study.
        verdict: what its confirmed scores say.
        losses: arms that are behind one they contain.
        confirmed: its confirmed configurations.
        flips: budgets at which the lead by validation changes.
    """
    contenders = [arm for arm in reading.arms if arm.best is not None]
    is_confirmed = bool(contenders) and all(arm.is_confirmed for arm in contenders)
    if not contenders:
        sentence = _nothing(reading)
    elif not is_confirmed:
        sentence = _by_search(reading, contenders)
    elif len(contenders) == 1:
        sentence = _alone(reading, contenders[0], confirmed)
    else:
        sentence = _by_verdict(reading, contenders, verdict, losses, confirmed)
    so_far = "" if reading.is_closed or not contenders else "So far, "
    return Finding(
        sentence=f"{so_far}{sentence if so_far else capitalized(sentence)}.",
        winner=verdict.winner if is_confirmed and len(contenders) > 1 else None,
        limits=limits(reading, verdict, confirmed, flips),
    )


def _by_verdict(
    reading: StudyResults,
    contenders: Sequence[ArmResults],
    verdict: Verdict,
    losses: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
) -> str:
    # There are no ranks while, or where, an arm has nothing confirmed.
    order = [rank.arm for rank in verdict.ranks] or _by_mean(reading, contenders, confirmed)
    rest = [_pair(verdict, order[0], name) for name in order[1:]]
    beaten, level, ahead = (
        [reading.arm(_other(pair, order[0])).label for pair in rest if _word(pair, order[0]) == word]
        for word in _WORDS
    )
    if len(rest) == 1:
        said = _standing(reading, rest[0])
    elif len(beaten) == len(rest):
        said = _won(reading, order[0], rest)
    else:
        against = [f"undecided against {listed(level)}"] if level else []
        against += [f"better than {listed(beaten)}"] if beaten else []
        against += [f"worse than {listed(ahead)}"] if ahead else []
        reached = _reached(reading, reading.arm(order[0]), confirmed)
        said = (
            f"no arm is better than every other: {reading.arm(order[0]).label} leads with "
            f"{reached}, {' and '.join(against)}"
        )
    under = [loss for loss in losses if loss.is_certain]
    notes = [
        f"{loss.arm.label} contains {loss.other.label} and is under-tuned, not worse"
        for loss in under
        if loss.is_under_tuned
    ]
    notes += [
        (
            f"{loss.arm.label} would equal {loss.other.label} at settings that the "
            f"space of {loss.arm.label} leaves out"
        )
        for loss in under
        if not loss.is_under_tuned
    ]
    return "; ".join([said, *notes[:3], *_absent(reading)])


def _absent(reading: StudyResults) -> list[str]:
    """Return what is to be said of the arms that have nothing to show."""
    hopeless = [arm.label for arm in reading.arms if arm.is_hopeless]
    without = [arm.label for arm in reading.arms if arm.best is None and not arm.is_hopeless]
    said = [f"{listed(hopeless)} never trained to the end"] if hopeless else []
    have = "has" if len(without) == 1 else "have"
    return (
        [*said, f"{listed(without)} {have} no completed trial{'' if reading.is_closed else ' yet'}"]
        if without
        else said
    )


def _by_mean(
    reading: StudyResults, contenders: Sequence[ArmResults], confirmed: Sequence[Confirmed]
) -> list[str]:
    def place(arm: ArmResults) -> float:
        means = _means(confirmed, arm.name)
        return reading.sign * sum(means) / len(means) if means else -math.inf

    return [arm.name for arm in sorted(contenders, key=place, reverse=True)]


def _won(reading: StudyResults, name: str, rest: Sequence[PairVerdict]) -> str:
    """Return by how much an arm is better than each of several others."""
    pair = rest[0]
    first, second = (reading.arm(each) for each in (pair.first, pair.second))
    by = ahead_by(pair, first=first.label, second=second.label, sign=reading.sign, unit=reading.card.unit)
    label, other = reading.arm(name).label, reading.arm(_other(pair, name)).label
    is_measured = (
        by is not None
        and by.who == label
        and not (pair.covers == "signs" and any(diverged(reading, first, second)))
    )
    margin = (
        f"by {by.amount} in test {reading.card.metric}"
        if by is not None and is_measured
        else "by more wins than chance allows"
    )
    return (
        f"{label} is better than each of the {count(len(rest))} others on {confirmed_unit(pair)}: "
        f"than {other}, the next, {margin}"
    )


def _standing(reading: StudyResults, pair: PairVerdict) -> str:
    first, second = (reading.arm(name) for name in (pair.first, pair.second))
    return standing(
        pair,
        first=first.label,
        second=second.label,
        sign=reading.sign,
        unit=reading.card.unit,
        diverged=diverged(reading, first, second),
        metric=f"test {reading.card.metric}",
        is_closed=reading.is_closed,
    )


def _means(confirmed: Sequence[Confirmed], name: str) -> list[float]:
    """Return the mean test values of an arm's best configurations, of each replicate that has one."""
    return [
        each.test_mean
        for each in confirmed
        if each.arm == name and each.configuration == "best" and each.test_mean is not None
    ]


def _reached(reading: StudyResults, arm: ArmResults, confirmed: Sequence[Confirmed]) -> str:
    """Return an arm's mean test value with its interval and what it rests on.

    With replicates over their means.
    """
    card, means = reading.card, _means(confirmed, arm.name)
    if len(arm.bests) > 1:
        over = mean_interval(means)
        value = metric_interval(over.mean, over.low, over.high, card.unit)
        return f"{value} test {card.metric} on {plural(over.n, 'independent search', 'independent searches')}"
    best = next(each for each in confirmed if each.arm == arm.name and each.configuration == "best")
    value = metric_interval(best.test_mean, best.test_low, best.test_high, card.unit)
    return f"{value} test {card.metric} on {plural(best.completed, 'fresh seed')}"


def _alone(reading: StudyResults, arm: ArmResults, confirmed: Sequence[Confirmed]) -> str:
    if _means(confirmed, arm.name):
        said = f"{arm.label} reaches {_reached(reading, arm, confirmed)}"
    else:
        runs = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
        what = "best configurations" if len(arm.bests) > 1 else "best configuration"
        said = (
            f"{arm.label}’s {what} diverged in "
            f"{'the only run' if runs == 1 else f'all {count(runs)} runs'} on fresh seeds"
        )
    return "; ".join(
        [
            said,
            *(["there is no other arm to compare it with"] if len(reading.arms) == 1 else _absent(reading)),
        ]
    )


def _by_search(reading: StudyResults, contenders: Sequence[ArmResults]) -> str:
    card = reading.card
    order = sorted(contenders, key=lambda arm: reading.sign * _best(arm), reverse=True)
    value = _best(order[0])
    reached = (
        f"{metric(value, card.unit)}{metric_unit(card.unit)} validation {card.metric} after {_tried(reading)}"
    )
    ending = "nothing has been confirmed on fresh seeds"
    waiting = [arm.label for arm in contenders if not arm.is_confirmed]
    if len(waiting) < len(contenders):
        ending = (
            f"{listed(waiting)} {'has' if len(waiting) == 1 else 'have'} not been confirmed on fresh seeds"
        )
    if len(reading.arms) == 1:
        return f"{order[0].label} has reached {reached} in its search; {ending}"
    level = [arm.label for arm in order if _best(arm) == value]
    rest = order[len(level) :]
    who = f"{level[0]} leads the search" if len(level) == 1 else f"{listed(level)} lead the search level,"
    if rest:
        place = "second" if len(level) == 1 else "next"
        behind = f"{place} is {rest[0].label}, {difference(_best(rest[0]), value, card.unit)} behind"
    else:
        behind = "no other arm has completed a trial" if len(level) < len(reading.arms) else ""
    return "; ".join(part for part in (f"{who} with {reached}", behind, ending) if part)


def _tried(reading: StudyResults) -> str:
    """Return how many trials the comparison rests on."""
    counts = [len(arm.spent) for arm in reading.arms]
    each = " per arm" if len(counts) > 1 else ""
    return (
        f"{plural(counts[0], 'trial')}{each}"
        if min(counts) == max(counts)
        else f"{count(min(counts))} to {count(max(counts))} trials{each}"
    )


def _nothing(reading: StudyResults) -> str:
    progress, state = reading.study.progress, reading.study.state
    if progress.finished == 0:
        match state:
            case StudyState.QUEUED:
                return "nothing has been measured yet: the study waits for a dispatcher"
            case StudyState.RUNNING | StudyState.STOPPING | StudyState.CANCELLING:
                return (
                    f"no trial has finished yet: {plural(progress.running, 'trial')} in training, "
                    f"{plural(progress.epochs_done, 'epoch')} done"
                )
            case StudyState.PAUSED:
                return "the study was paused before any trial had finished"
            case StudyState.FAILED:
                return "the study failed before any trial had finished"
            case StudyState.COMPLETED | StudyState.CANCELLED:
                return f"the study was {state.value} before any trial had finished"
    kinds = (
        (progress.diverged, "diverged"),
        (progress.failed, "failed"),
        (progress.pruned, "pruned"),
        (progress.cancelled, "cancelled"),
    )
    parts = [f"{count(n)} {what}" for n, what in kinds if n]
    return f"no trial has completed: of {plural(progress.finished, 'finished trial')}, {', '.join(parts)}"


def _best(arm: ArmResults) -> float:
    assert arm.best is not None, "asked of contenders"
    assert arm.best.trial.value is not None, "a best trial has a value"
    return arm.best.trial.value


def _pair(verdict: Verdict, one: str, other: str) -> PairVerdict:
    return next(pair for pair in verdict.pairs if {pair.first, pair.second} == {one, other})


def _word(pair: PairVerdict, name: str) -> Word:
    """Return what an arm of a pair is, measured against the other."""
    turned: dict[Word, Word] = {"better": "worse", "worse": "better", "undecided": "undecided"}
    return pair.word if pair.first == name else turned[pair.word]


def _other(pair: PairVerdict, name: str) -> str:
    return pair.second if pair.first == name else pair.first
