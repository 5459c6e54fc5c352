"""The answers of a study with paired trials: which optimizer is better, and which configuration to ship."""

__all__ = ["optimizer_sentence", "shipping_sentences"]

from collections.abc import Sequence

from studies.analysis.by_budget import budget_clause
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.views import BudgetVerdict, Confirmed, PairByBudget, PairVerdict
from studies.analysis.wording import Lead, mean_lead, other_of, pair_of, word_of
from studies.formatting import (
    count,
    difference_range,
    listed,
    metric,
    metric_interval,
    metric_unit,
    plural,
)


def optimizer_sentence(results: StudyResults, verdict: BudgetVerdict) -> str:
    """Return which optimizer is better, at which tuning budget and by how much.

    Args:
        results: a study of two arms or more.
        verdict: its budget verdict, with words.
    """
    leader = verdict.arms[0].arm
    # In the order of the arms: the next best comes first.
    of_leader = [pair_of(verdict.pairs, leader, other.arm) for other in verdict.arms[1:]]
    known = [pair for pair in of_leader if pair.difference is not None]
    if not known:
        have = "has" if verdict.n == 1 else "have"
        return (
            f"There is no verdict on the optimizers: {count(verdict.n)} of {plural(verdict.planned, 'pair')} "
            f"of trials {have} a result in every arm."
        )
    if len(of_leader) == 1:
        clause = _clause(results, known[0])
    elif len(known) == len(of_leader) and all(pair.word == "undecided" for pair in verdict.pairs):
        clause = _all_level(results, verdict)
    elif all(word_of(pair, leader) == "better" for pair in of_leader):
        lead = _lead(results, known[0])
        by = "" if lead is None else f", by {lead.amount} in {_metric(results)}"
        clause = (
            f"{results.arm(leader).label} is better than each of the {count(len(of_leader))} other arms; "
            f"it beats {_label(results, known[0], leader)}, the next best{by}"
        )
    else:
        clause = _of_several(results, leader, known)
    without = [_label(results, pair, leader) for pair in of_leader if pair.difference is None]
    if without:
        clause += f"; there is no comparison with {listed(without)}"
    reversals = [each for each in verdict.differences if each.is_reversed]
    reversals.sort(key=lambda each: leader not in {each.first, each.second})
    order = f" The order depends on the budget: {reversals[0].sentence}" if reversals else ""
    after = f"After {plural(verdict.primary or 0, 'trial')} of tuning each, {clause}."
    return after + order


def shipping_sentences(
    results: StudyResults,
    verdict: BudgetVerdict,
    pairs: Sequence[PairVerdict],
    confirmed: Sequence[Confirmed],
    order: Sequence[str],
) -> tuple[str, ...]:
    """Return which configuration to ship, and a second sentence if the two verdicts disagree.

    Args:
        results: the study.
        verdict: its budget verdict.
        pairs: the verdict on every pair of configurations.
        confirmed: the confirmed configurations.
        order: the arms with a confirmed configuration, the best mean first.
    """
    chosen = results.arm(order[0])
    best = _best(confirmed, chosen)
    if best is None or best.test_mean is None:
        return ("No configuration can be recommended: all that were confirmed diverged on fresh seeds.",)
    card = results.card
    value = metric_interval(best.test_mean, best.test_low, best.test_high, card.unit)
    sentence = (
        f"Of the configurations found, ship that of {chosen.label} (trial {best.number}): it reaches {value} "
        f"{_metric(results)} on {plural(best.completed, 'fresh seed')}"
    )
    if best.diverged:
        sentence += f", but diverged on {count(best.diverged)}"
    others = [pair_of(pairs, chosen.name, name) for name in order[1:]]
    beaten, level, ahead = (
        [pair for pair in others if word_of(pair, chosen.name) == word]
        for word in ("better", "undecided", "worse")
    )
    if beaten:
        sentence += f" and is better than {_those(results, beaten, chosen)}{_by(results, beaten, chosen)}"
    if level and len(level) == len(others) > 1:
        sentence += f"; those of the {count(len(level))} other arms may be as good"
    elif level:
        sentence += f"; {_those(results, level, chosen)} may be as good{_by(results, level, chosen)}"
    if ahead:
        sentence += f"; {_those(results, ahead, chosen)} did better on more seeds"
    contradiction = _contradiction(results, verdict, chosen)
    return (f"{sentence}.", *([contradiction] if contradiction else []))


def _all_level(results: StudyResults, verdict: BudgetVerdict) -> str:
    """Return the range of the values of several arms of which no two can be told apart."""
    best, worst = verdict.arms[0], verdict.arms[-1]
    low, high = (
        metric(arm.value, results.card.unit) + metric_unit(results.card.unit) for arm in (worst, best)
    )
    return (
        f"no two of the {count(len(verdict.arms))} arms can be told apart: they reach from {low} "
        f"({results.arm(worst.arm).label}) to {high} ({results.arm(best.arm).label}) {_metric(results)}"
    )


def _of_several(results: StudyResults, leader: str, pairs: Sequence[PairByBudget]) -> str:
    """Return which arms the leader of several beats, and which comparisons are undecided."""
    label = results.arm(leader).label
    beaten, level, ahead = (
        [pair for pair in pairs if word_of(pair, leader) == word] for word in ("better", "undecided", "worse")
    )
    clauses: list[str] = []
    if beaten:
        sizes = [abs(pair.difference or 0.0) for pair in beaten]
        names = listed([_label(results, pair, leader) for pair in beaten])
        by = difference_range(min(sizes), max(sizes), results.card.unit)
        clauses.append(f"{label} is better than {names} by {by} in {_metric(results)}")
    if ahead:
        names = listed([_label(results, pair, leader) for pair in ahead])
        clauses.append(f"{label} is worse than {names}")
    if level:
        names = listed([_label(results, pair, leader) for pair in level])
        clauses.append(
            f"the comparison with {names} is undecided" if beaten else f"{label} cannot be told from {names}"
        )
        lead = _lead(results, level[0])
        if lead is not None and lead.arm == label and not beaten:
            next_best = _label(results, level[0], leader)
            clauses.append(f"it is ahead of {next_best}, the next, by {lead.amount} in {_metric(results)}")
    return "; ".join(clauses)


def _clause(results: StudyResults, pair: PairByBudget) -> str:
    labels = {arm.name: arm.label for arm in results.arms}
    return budget_clause(pair, labels, metric=_metric(results), unit=results.card.unit, sign=results.sign)


def _metric(results: StudyResults) -> str:
    return f"test {results.card.metric}"


def _lead(results: StudyResults, pair: PairByBudget | PairVerdict) -> Lead | None:
    return mean_lead(
        pair,
        first=results.arm(pair.first).label,
        second=results.arm(pair.second).label,
        sign=results.sign,
        unit=results.card.unit,
    )


def _contradiction(results: StudyResults, verdict: BudgetVerdict, chosen: ArmResults) -> str | None:
    """Return how both verdicts can be true if the configuration is not from the better optimizer."""
    if not verdict.pairs or verdict.arms[0].arm == chosen.name:
        return None
    leader = verdict.arms[0].arm
    if word_of(pair_of(verdict.pairs, leader, chosen.name), leader) != "better":
        return None
    return (
        f"Both are true: searches with {results.arm(leader).label} reach more on average after "
        f"{plural(verdict.primary or 0, 'trial')}, yet this study’s search with {chosen.label} found the "
        "better configuration."
    )


def _those(results: StudyResults, pairs: Sequence[PairVerdict], chosen: ArmResults) -> str:
    """Return 'that of A' or 'those of A and B'."""
    labels = [_label(results, pair, chosen.name) for pair in pairs]
    return f"{'that' if len(labels) == 1 else 'those'} of {listed(labels)}"


def _by(results: StudyResults, pairs: Sequence[PairVerdict], chosen: ArmResults) -> str:
    """Return by how much the chosen configuration is ahead of a single other; empty for several."""
    if len(pairs) != 1 or pairs[0].covers == "signs":
        return ""
    lead = _lead(results, pairs[0])
    if lead is None or lead.arm != chosen.label:
        return ""
    return f" by {lead.amount}" if pairs[0].word != "undecided" else f" ({lead.amount} behind)"


def _best(confirmed: Sequence[Confirmed], arm: ArmResults) -> Confirmed | None:
    """Return the confirmation of the best configuration of all searches of an arm."""
    return next(
        (
            each
            for each in confirmed
            if each.arm == arm.name
            and each.configuration == "best"
            and arm.best is not None
            and each.number == arm.best.trial.number
        ),
        None,
    )


def _label(results: StudyResults, pair: PairByBudget | PairVerdict, name: str) -> str:
    """Return the label of the arm that a pair compares with this one."""
    return results.arm(other_of(pair, name)).label
