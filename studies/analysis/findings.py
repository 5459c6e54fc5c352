"""The finding of a study: the verdict, or the leader of the search before there is one.

With paired trials it has two sentences: which optimizer is better, and which configuration to ship.
"""

__all__ = ["finding"]

import math
from collections.abc import Sequence
from typing import Final

from studies.analysis.limits import limits
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.two_answers import optimizer_sentence, shipping_sentences
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.verdicts import count_divergence
from studies.analysis.views import BudgetVerdict, Confirmed, Finding, PairVerdict, RankFlip, Word
from studies.analysis.wording import (
    capitalized,
    describe_sample,
    mean_lead,
    other_of,
    pair_of,
    verdict_clause,
    word_of,
)
from studies.formatting import count, difference, listed, metric, metric_interval, metric_unit, plural
from studies.states import StudyState, TrialState
from studies.statistics.paired import mean_interval
from studies.statistics.verdict import Judgement

_WORDS: Final[tuple[Word, ...]] = ("better", "undecided", "worse")
_MOST_QUALIFICATIONS: Final = 3


def finding(
    results: StudyResults,
    judgement: Judgement,
    pairs: Sequence[PairVerdict],
    under_tuned: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
    flips: Sequence[RankFlip],
    by_budget: BudgetVerdict | None,
) -> Finding:
    """Return what the study found, and the limits of that.

    Args:
        results: the study.
        judgement: the result of `judge_arms`.
        pairs: the verdict on every pair of arms.
        under_tuned: the arms that are behind an arm they contain.
        confirmed: the confirmed configurations.
        flips: budgets at which the lead by validation changes.
        by_budget: the verdict on the optimizers by their paired trials.
    """
    contenders = [arm for arm in results.arms if arm.best is not None]
    is_confirmed = bool(contenders) and all(arm.is_confirmed for arm in contenders)
    # There are no ranks while an arm has no confirmed configuration.
    order = [rank.arm for rank in judgement.ranks] or _by_mean(results, contenders, confirmed)
    unusable = [
        f"no trial of {arm.label} has a usable value: {arm.tally.describe()}" for arm in results.unusable_arms
    ]
    if by_budget is not None and results.has_enough_pairs and len(results.arms) > 1 and contenders:
        winner, ship = _winner(by_budget), order[0] if is_confirmed else None
        shipping = (
            shipping_sentences(results, by_budget, pairs, confirmed, order)
            if is_confirmed
            else (_unconfirmed(results, contenders),)
        )
        sentences = [f"{capitalized('; '.join(unusable))}."] if unusable else []
        if by_budget.pairs:
            sentences += [optimizer_sentence(results, by_budget), *shipping]
        elif is_confirmed or results.is_closed:
            sentences += [by_budget.why_none or "", *shipping]
        else:
            sentences += [f"So far, {_by_search(results, contenders)}.", by_budget.why_none or ""]
    else:
        winner, ship = judgement.winner if is_confirmed and len(contenders) > 1 else None, None
        if not contenders:
            sentence = _without_results(results)
        elif not is_confirmed:
            sentence = _by_search(results, contenders)
        elif len(contenders) == 1:
            sentence = _of_one_arm(results, contenders[0], confirmed)
        else:
            sentence = _by_verdict(results, order, pairs, under_tuned, confirmed)
        is_all = len(unusable) == len(results.arms)
        sentence = "; ".join(unusable if is_all else [*unusable, sentence])
        is_preliminary = bool(contenders) and not results.is_closed
        sentences = [f"So far, {sentence}." if is_preliminary else f"{capitalized(sentence)}."]
    return Finding(
        sentence=" ".join(sentences),
        sentences=tuple(sentences),
        winner=winner,
        ship=ship,
        limits=limits(results, pairs, confirmed, flips, by_budget),
    )


def _winner(verdict: BudgetVerdict) -> str | None:
    """Return the arm that is better than every other after the primary number of trials."""
    best = verdict.arms[0] if verdict.arms else None
    return best.arm if best is not None and best.high == 1 else None


def _unconfirmed(results: StudyResults, contenders: Sequence[ArmResults]) -> str:
    """Return what is known of the configuration to ship before every best one has run on fresh seeds."""
    if not results.is_closed and results.study.spec.confirmation.seeds:
        return "Which configuration to ship follows from runs on fresh seeds after the search."
    best = max(contenders, key=lambda arm: results.sign * _best(arm))
    unit = results.card.unit
    assert best.best is not None, "a contender has a best trial"
    return (
        "Which configuration to ship is not confirmed on fresh seeds; by validation it is that of "
        f"{best.label} (trial {best.best.trial.number}), with {metric(_best(best), unit)}{metric_unit(unit)}."
    )


def _by_verdict(
    results: StudyResults,
    order: Sequence[str],
    pairs: Sequence[PairVerdict],
    under_tuned: Sequence[UnderTunedArm],
    confirmed: Sequence[Confirmed],
) -> str:
    of_leader = [pair_of(pairs, order[0], name) for name in order[1:]]
    beaten, undecided, ahead = (
        [results.arm(other_of(pair, order[0])).label for pair in of_leader if word_of(pair, order[0]) == word]
        for word in _WORDS
    )
    if len(of_leader) == 1:
        verdict = _pair_clause(results, of_leader[0])
    elif len(beaten) == len(of_leader):
        verdict = _winner_clause(results, order[0], of_leader)
    else:
        against = [f"it is better than {listed(beaten)}"] if beaten else []
        against += (
            [f"worse than {listed(ahead)}" if against else f"it is worse than {listed(ahead)}"]
            if ahead
            else []
        )
        open_ones = f"the comparison with {listed(undecided)} is undecided"
        against += [open_ones] if undecided else []
        verdict = (
            f"no arm is better than all others. {results.arm(order[0]).label} leads with "
            f"{_reached(results, results.arm(order[0]), confirmed)}; {' and '.join(against)}"
        )
    certain = [each for each in under_tuned if each.is_certain]
    qualifications = [
        f"{each.arm.label} contains {each.other.label} and is under-tuned, not worse"
        for each in certain
        if each.is_under_tuned
    ]
    qualifications += [
        f"{each.arm.label} contains {each.other.label}, but at settings that its space excludes"
        for each in certain
        if not each.is_under_tuned
    ]
    return "; ".join([verdict, *qualifications[:_MOST_QUALIFICATIONS], *_arms_without_results(results)])


def _arms_without_results(results: StudyResults) -> list[str]:
    """Return clauses on the arms that have no completed trial."""
    # The finding begins with the arms that have no usable value.
    others = [arm for arm in results.arms if arm not in results.unusable_arms]
    hopeless = [arm.label for arm in others if arm.is_hopeless]
    without = [arm.label for arm in others if arm.best is None and not arm.is_hopeless]
    clauses = [f"no trial of {listed(hopeless)} converged"] if hopeless else []
    if without:
        have = "has" if len(without) == 1 else "have"
        clauses.append(f"{listed(without)} {have} no completed trial{'' if results.is_closed else ' yet'}")
    return clauses


def _by_mean(
    results: StudyResults, contenders: Sequence[ArmResults], confirmed: Sequence[Confirmed]
) -> list[str]:
    """Return the names of arms by their confirmed mean, best first."""

    def signed_mean(arm: ArmResults) -> float:
        means = _means(confirmed, arm.name)
        return results.sign * sum(means) / len(means) if means else -math.inf

    return [arm.name for arm in sorted(contenders, key=signed_mean, reverse=True)]


def _winner_clause(results: StudyResults, name: str, pairs: Sequence[PairVerdict]) -> str:
    """Return by how much an arm is better than the next of several others."""
    pair = pairs[0]
    first, second = (results.arm(each) for each in (pair.first, pair.second))
    lead = mean_lead(pair, first=first.label, second=second.label, sign=results.sign, unit=results.card.unit)
    label, next_best = results.arm(name).label, results.arm(other_of(pair, name)).label
    is_measured = not (pair.covers == "signs" and any(count_divergence(results, first, second)))
    if lead is not None and lead.arm == label and is_measured:
        margin = f"by {lead.amount} in test {results.card.metric}"
    else:
        margin = "by more wins than chance allows"
    return (
        f"{label} is better than each of the {count(len(pairs))} other arms on {describe_sample(pair)}; "
        f"it beats {next_best}, the next best, {margin}"
    )


def _pair_clause(results: StudyResults, pair: PairVerdict) -> str:
    first, second = (results.arm(name) for name in (pair.first, pair.second))
    return verdict_clause(
        pair,
        first=first.label,
        second=second.label,
        sign=results.sign,
        unit=results.card.unit,
        divergence=count_divergence(results, first, second),
        metric=f"test {results.card.metric}",
        is_closed=results.is_closed,
    )


def _means(confirmed: Sequence[Confirmed], name: str) -> list[float]:
    """Return the mean test value of an arm's best configuration in each replicate that has one."""
    return [
        each.test_mean
        for each in confirmed
        if each.arm == name and each.configuration == "best" and each.test_mean is not None
    ]


def _reached(results: StudyResults, arm: ArmResults, confirmed: Sequence[Confirmed]) -> str:
    """Return an arm's mean test value with its interval and sample; with replicates, over their means."""
    card, means = results.card, _means(confirmed, arm.name)
    if len(arm.bests) > 1:
        mean = mean_interval(means)
        value = metric_interval(mean.mean, mean.low, mean.high, card.unit)
        return f"{value} test {card.metric} on {plural(mean.n, 'independent search', 'independent searches')}"
    best = next(each for each in confirmed if each.arm == arm.name and each.configuration == "best")
    value = metric_interval(best.test_mean, best.test_low, best.test_high, card.unit)
    return f"{value} test {card.metric} on {plural(best.completed, 'fresh seed')}"


def _of_one_arm(results: StudyResults, arm: ArmResults, confirmed: Sequence[Confirmed]) -> str:
    if _means(confirmed, arm.name):
        clause = f"{arm.label} reaches {_reached(results, arm, confirmed)}"
    else:
        runs = sum(run.state is TrialState.DIVERGED for run in arm.confirming)
        configurations = "best configurations" if len(arm.bests) > 1 else "best configuration"
        clause = (
            f"the {configurations} of {arm.label} diverged in "
            f"{'the only run' if runs == 1 else f'all {count(runs)} runs'} on fresh seeds"
        )
    if len(results.arms) == 1:
        return f"{clause}; the study has no other arm to compare it with"
    return "; ".join([clause, *_arms_without_results(results)])


def _by_search(results: StudyResults, contenders: Sequence[ArmResults]) -> str:
    card = results.card
    order = sorted(contenders, key=lambda arm: results.sign * _best(arm), reverse=True)
    value = _best(order[0])
    reached = (
        f"{metric(value, card.unit)}{metric_unit(card.unit)} validation {card.metric} "
        f"after {_trials_spent(results)}"
    )
    ending = "nothing has been confirmed on fresh seeds"
    waiting = [arm.label for arm in contenders if not arm.is_confirmed]
    if len(waiting) < len(contenders):
        has = "has" if len(waiting) == 1 else "have"
        ending = f"{listed(waiting)} {has} not been confirmed on fresh seeds"
    if len(results.arms) == 1:
        return f"the search of {order[0].label} has reached {reached}; {ending}"
    tied = [arm.label for arm in order if _best(arm) == value]
    others = order[len(tied) :]
    leads = (
        f"{tied[0]} leads the search" if len(tied) == 1 else f"{listed(tied)} share the lead of the search"
    )
    behind = ""
    if others:
        distance = difference(_best(others[0]), value, card.unit)
        behind = f"{others[0].label} follows, {distance} behind"
    elif len(tied) < len(results.arms):
        behind = "no other arm has completed a trial"
    return "; ".join(part for part in (f"{leads} with {reached}", behind, ending) if part)


def _trials_spent(results: StudyResults) -> str:
    """Return how many trials the comparison rests on."""
    counts = [len(arm.spent) for arm in results.arms]
    per_arm = " per arm" if len(counts) > 1 else ""
    if min(counts) == max(counts):
        return f"{plural(counts[0], 'trial')}{per_arm}"
    return f"{count(min(counts))} to {count(max(counts))} trials{per_arm}"


def _without_results(results: StudyResults) -> str:
    """Return how far a study without a completed trial has come."""
    progress, state = results.study.progress, results.study.state
    if progress.finished:
        kinds = (
            (progress.diverged, "diverged"),
            (progress.failed, "failed"),
            (progress.pruned, "pruned"),
            (progress.cancelled, "cancelled"),
        )
        parts = [f"{count(n)} {kind}" for n, kind in kinds if n]
        return f"no trial has completed: of {plural(progress.finished, 'finished trial')}, {', '.join(parts)}"
    if state is StudyState.PAUSED:
        return "the study was paused before any trial had finished"
    if state is StudyState.FAILED:
        return "the study failed before any trial had finished"
    if state in {StudyState.COMPLETED, StudyState.CANCELLED}:
        return f"the study was {state.value} before any trial had finished"
    if state is StudyState.QUEUED and not progress.running:
        return "no trial has finished yet: the study is waiting for a dispatcher"
    # How many trials are running is for pages that follow the study: a finding is not written again for each.
    return "no trial has finished yet"


def _best(arm: ArmResults) -> float:
    assert arm.best is not None, "a contender has a best trial"
    assert arm.best.trial.value is not None, "a best trial has a value"
    return arm.best.trial.value
