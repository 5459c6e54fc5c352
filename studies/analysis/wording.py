"""Sentences of a verdict: which arm is better, by how much, and on how many runs."""

__all__ = [
    "Divergence",
    "Lead",
    "capitalized",
    "describe_sample",
    "has_no_difference",
    "mean_lead",
    "other_of",
    "pair_of",
    "settings",
    "verdict_clause",
    "verdict_sentence",
    "word_of",
]

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from studies.analysis.views import PairByBudget, PairVerdict, Word
from studies.formatting import difference_interval, effect_size, plural, probability, scalar
from studies.space import Parameters
from studies.statistics.verdict import PairJudgement

_Pair = TypeVar("_Pair", PairVerdict, PairByBudget)

# How a method of `studies.statistics.pair_tests` begins where there is no test.
_NO_TEST: Final = "none: "
# By how much the means of equal values may differ through rounding.
_ROUNDING: Final = 1e-13
_NEGLIGIBLE: Final = 1e-6


class Lead(NamedTuple):
    """The arm that is ahead, and by how much with its interval; both are empty if the arms are tied."""

    arm: str
    amount: str

    @property
    def clause(self) -> str:
        """The lead as a clause."""
        return f"{self.arm} is ahead by {self.amount}" if self.arm else "the arms are tied"


class Divergence(NamedTuple):
    """How many confirmation runs of a pair diverged, and how many searches found nothing that converges."""

    first: int
    second: int
    first_searches: int = 0
    second_searches: int = 0


def capitalized(sentence: str) -> str:
    """Return a sentence with a capital first letter and everything else as it is."""
    return sentence[:1].upper() + sentence[1:]


def settings(parameters: Parameters) -> str:
    """Return hyperparameters as 'delta = 0, nesterov = false'."""
    return ", ".join(f"{name} = {scalar(value)}" for name, value in parameters.items())


def describe_sample(pair: PairJudgement) -> str:
    """Return what a comparison rests on: '5 seeds', or '8 independent searches' with replicates."""
    if _has_replicates(pair):
        return plural(pair.n, "independent search", "independent searches")
    return plural(pair.n, "seed")


def has_no_difference(pair: PairJudgement | PairByBudget) -> bool:
    """Return whether a pair's mean difference is zero up to rounding."""
    if pair.difference is None:
        return False
    ends = [abs(end) for end in (pair.low, pair.high) if end is not None]
    return abs(pair.difference) <= max(_ROUNDING, _NEGLIGIBLE * max(ends, default=0.0))


def verdict_sentence(
    pair: PairJudgement,
    *,
    first: str,
    second: str,
    sign: int,
    unit: str,
    divergence: Divergence,
    is_closed: bool = True,
) -> str:
    """Return the verdict on a pair as a sentence with its p-value and effect size.

    Args:
        pair: the judgement.
        first: label of the first arm.
        second: label of the second arm.
        sign: 1 if higher values are better, -1 if lower values are.
        unit: unit of the metric.
        divergence: what diverged.
        is_closed: whether the study has closed.
    """
    clause = verdict_clause(
        pair, first=first, second=second, sign=sign, unit=unit, divergence=divergence, is_closed=is_closed
    )
    # A label at the beginning keeps its case.
    sentence = capitalized(clause) if clause.startswith("the ") else clause
    return f"{sentence}{_describe_test(pair) if pair.n > 1 else ''}."


def verdict_clause(
    pair: PairJudgement,
    *,
    first: str,
    second: str,
    sign: int,
    unit: str,
    divergence: Divergence,
    metric: str = "",
    is_closed: bool = True,
) -> str:
    """Return which arm of a pair is better or ahead, by how much and on what, without a full stop.

    Args:
        pair: the judgement.
        first: label of the first arm.
        second: label of the second arm.
        sign: 1 if higher values are better, -1 if lower values are.
        unit: unit of the metric.
        divergence: what diverged.
        metric: what the difference is measured in, e.g. 'test accuracy'; left out if empty.
        is_closed: whether the study has closed.
    """
    if pair.n == 0:
        return (
            f"{first} and {second} cannot be compared{'' if is_closed else ' yet'}: "
            "no seed has a finished confirmation run of both"
        )
    undecided = f"the comparison of {first} and {second} is undecided"
    if pair.n == 1 and pair.word == "undecided":
        sample = "search" if _has_replicates(pair) else "pair of runs"
        return (
            f"{undecided}: a single {sample} cannot tell a difference from "
            f"chance{_in_brackets(_describe_divergence(divergence, first, second))}"
        )
    lead = mean_lead(pair, first=first, second=second, sign=sign, unit=unit)
    measured = f" in {metric}" if metric and lead is not None and lead.amount else ""
    details = _describe_divergence(divergence, first, second)
    if any(divergence) and pair.covers == "signs":
        # The verdict counts runs that diverged; the mean difference leaves them out and does not measure it.
        if details and lead is not None:
            details.append(f"where both finished, {lead.clause}{measured}")
        lead, measured = None, ""
    sample = f"on {describe_sample(pair)}{_in_brackets(details)}"
    if pair.word != "undecided":
        better, worse = (first, second) if pair.word == "better" else (second, first)
        margin = "" if lead is None or lead.arm != better else f" by {lead.amount}{measured}"
        return f"{better} is better than {worse}{margin} {sample}"
    return f"{undecided}{'' if lead is None else f': {lead.clause}{measured}'} {sample}"


def mean_lead(
    pair: PairJudgement | PairByBudget, *, first: str, second: str, sign: int, unit: str
) -> Lead | None:
    """Return which arm is ahead by the mean difference and by how much, e.g. '1.2 points (0.4 to 2.0)'.

    None if there is no mean difference.

    Args:
        pair: the judgement.
        first: label of the first arm.
        second: label of the second arm.
        sign: 1 if higher values are better, -1 if lower values are.
        unit: unit of the metric.
    """
    if pair.difference is None:
        return None
    if has_no_difference(pair):
        return Lead("", "")
    turn = 1 if pair.difference > 0 else -1
    ends = [None if end is None else turn * end for end in (pair.low, pair.high)]
    low, high = ends if turn > 0 else reversed(ends)
    amount = difference_interval(turn * pair.difference, low, high, unit)
    return Lead(first if turn == sign else second, amount)


def pair_of(pairs: Sequence[_Pair], one: str, other: str) -> _Pair:
    """Return the pair of two arms, which must exist."""
    return next(pair for pair in pairs if {pair.first, pair.second} == {one, other})


def word_of(pair: PairVerdict | PairByBudget, name: str) -> Word:
    """Return the verdict on one arm of a pair, measured against the other."""
    turned: dict[Word, Word] = {"better": "worse", "worse": "better", "undecided": "undecided"}
    return pair.word if pair.first == name else turned[pair.word]


def other_of(pair: PairVerdict | PairByBudget, name: str) -> str:
    """Return the arm that a pair compares with this one."""
    return pair.second if pair.first == name else pair.first


def _has_replicates(pair: PairJudgement) -> bool:
    # A sign test, too, counts searches if they were repeated.
    return pair.covers == "replicates" or "replicates" in pair.method


def _describe_test(pair: PairJudgement) -> str:
    if pair.p is None and pair.method.startswith(_NO_TEST):
        return f"; no test is possible: {pair.method.removeprefix(_NO_TEST)}"
    p = pair.p_holm if pair.p_holm is not None else pair.p
    sign_test = " by a sign test" if pair.covers == "signs" else ""
    holm = " after Holm’s correction" if pair.p_holm is not None else ""
    figures = [] if p is None else [f"{probability(p)}{sign_test}{holm}"]
    if pair.effect_size is not None and not has_no_difference(pair):
        over = "" if _has_replicates(pair) else " over seeds"
        figures.append(f"effect size {effect_size(pair.effect_size)}{over}")
    return "".join(f", {each}" for each in figures)


def _describe_divergence(divergence: Divergence, first: str, second: str) -> list[str]:
    """Return clauses on the runs and the searches that diverged."""
    runs = [
        f"{label} diverged in {plural(n, 'run')}"
        for label, n in ((first, divergence.first), (second, divergence.second))
        if n
    ]
    searches = [
        f"every trial diverged in {plural(n, 'search', 'searches')} of {label}"
        for label, n in ((first, divergence.first_searches), (second, divergence.second_searches))
        if n
    ]
    clauses = " and ".join([*runs, *searches])
    return [clauses] if clauses else []


def _in_brackets(clauses: Sequence[str]) -> str:
    return f" ({'; '.join(clauses)})" if clauses else ""
