"""Sentences of a verdict: who is better, by how much and on how many runs.

Never more than the figures say.
"""

__all__ = [
    "Ahead",
    "Diverged",
    "ahead_by",
    "capitalized",
    "confirmed_unit",
    "is_level",
    "listed",
    "reason",
    "settings",
    "standing",
]

from collections.abc import Sequence
from typing import Final, NamedTuple

from studies.analysis.views import PairVerdict
from studies.formatting import difference_interval, effect_size, plural, probability, scalar
from studies.space import Parameters
from studies.statistics.verdict import PairJudgement

_MOST_NAMES: Final = 4
# How `studies.statistics.pair_tests` begins to say why it could not test.
_NO_TEST: Final = "none: "
# What a difference of equal means may come to.
_ROUNDING: Final = 1e-13
_NEGLIGIBLE: Final = 1e-6


class Ahead(NamedTuple):
    """Who is ahead, with the amount and its interval; of arms that are level nobody is."""

    who: str
    amount: str

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.who} is ahead by {self.amount}" if self.who else "they are level"


class Diverged(NamedTuple):
    """How many confirmation runs of a pair's best configurations diverged.

    Also how many of its searches had nothing else to show.
    """

    first: int
    second: int
    first_searches: int = 0
    second_searches: int = 0


def listed(names: Sequence[str], *, most: int = _MOST_NAMES) -> str:
    """Return 'A', 'A and B' or 'A, B and C'; of more than `most` the first and how many others."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {plural(len(names) - most, 'other')}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def capitalized(sentence: str) -> str:
    """Return a sentence with its first letter large, the others as they are."""
    return sentence[:1].upper() + sentence[1:]


def settings(parameters: Parameters) -> str:
    """Return hyperparameters as 'delta = 0, nesterov = false'."""
    return ", ".join(f"{name} = {scalar(value)}" for name, value in parameters.items())


def confirmed_unit(pair: PairJudgement | PairVerdict) -> str:
    """Return what a pair's comparison rests on.

    '5 seeds', or '8 independent searches' where the search was repeated.
    """
    return (
        plural(pair.n, "independent search", "independent searches")
        if _is_repeated(pair)
        else plural(pair.n, "seed")
    )


def is_level(pair: PairJudgement | PairVerdict) -> bool:
    """Return whether a pair's difference is nothing but rounding."""
    if pair.difference is None:
        return False
    ends = [abs(end) for end in (pair.low, pair.high) if end is not None]
    return abs(pair.difference) <= max(_ROUNDING, _NEGLIGIBLE * max(ends, default=0.0))


def reason(
    pair: PairJudgement | PairVerdict,
    *,
    first: str,
    second: str,
    sign: int,
    unit: str,
    diverged: Diverged,
    is_closed: bool = True,
) -> str:
    """Return a pair's word in a sentence, with its figures.

    Args:
        pair: what was judged.
        first: what people call the one.
        second: what people call the other.
        sign: 1 where more is better, -1 where less is.
        unit: the metric's.
        diverged: what of it diverged.
        is_closed: whether nothing more comes.
    """
    said = standing(
        pair, first=first, second=second, sign=sign, unit=unit, diverged=diverged, is_closed=is_closed
    )
    return f"{said}{_figures(pair) if pair.n > 1 else ''}."


def standing(
    pair: PairJudgement | PairVerdict,
    *,
    first: str,
    second: str,
    sign: int,
    unit: str,
    diverged: Diverged,
    metric: str = "",
    is_closed: bool = True,
) -> str:
    """Return who of a pair is better, or ahead, by how much and on what, without a full stop.

    Args:
        pair: what was judged.
        first: what people call the one.
        second: what people call the other.
        sign: 1 where more is better, -1 where less is.
        unit: the metric's.
        diverged: what of it diverged.
        metric: what the difference is measured in, 'test accuracy'; by default it is not said.
        is_closed: whether nothing more comes.
    """
    if pair.n == 0:
        return (
            f"{first} and {second} cannot be compared{'' if is_closed else ' yet'}: there is no pair of "
            "confirmation runs on equal seeds"
        )
    if pair.n == 1 and pair.word == "undecided":
        of = "search" if _is_repeated(pair) else "pair of runs"
        return (
            f"{first} against {second} is undecided: a single {of} says nothing of "
            f"chance{_lost(diverged, first, second, [])}"
        )
    by = ahead_by(pair, first=first, second=second, sign=sign, unit=unit)
    measured = f" in {metric}" if metric and by is not None and by.amount else ""
    on = f"on {confirmed_unit(pair)}"
    if any(diverged) and pair.covers == "signs":
        # What differs where both finished is no measure of a verdict that counts the runs that did not.
        finished = [] if by is None else [f"where both finished {by.said}{measured}"]
        on += _lost(diverged, first, second, finished)
        by, measured = None, ""
    else:
        on += _lost(diverged, first, second, [])
    if pair.word != "undecided":
        better, worse = (first, second) if pair.word == "better" else (second, first)
        return (
            f"{better} is better than "
            f"{worse}{'' if by is None or by.who != better else f' by {by.amount}{measured}'} {on}"
        )
    return f"{first} against {second} is undecided{'' if by is None else f': {by.said}{measured}'} {on}"


def ahead_by(
    pair: PairJudgement | PairVerdict, *, first: str, second: str, sign: int, unit: str
) -> Ahead | None:
    """Return who is ahead by the mean difference and by how much, e.g. '1.2 points (0.4 to 2.0)'.

    None without one.

    Args:
        pair: what was judged.
        first: what people call the one.
        second: what people call the other.
        sign: 1 where more is better, -1 where less is.
        unit: the metric's.
    """
    if pair.difference is None:
        return None
    if is_level(pair):
        return Ahead("", "")
    turn = 1 if pair.difference > 0 else -1
    ends = [None if end is None else turn * end for end in (pair.low, pair.high)]
    low, high = ends if turn > 0 else reversed(ends)
    return Ahead(
        first if turn == sign else second, difference_interval(turn * pair.difference, low, high, unit)
    )


def _is_repeated(pair: PairJudgement | PairVerdict) -> bool:
    # By signs, too, searches are counted where they were repeated.
    return pair.covers == "replicates" or "replicates" in pair.method


def _figures(pair: PairJudgement | PairVerdict) -> str:
    if pair.p is None and pair.method.startswith(_NO_TEST):
        return f", and there is no test: {pair.method.removeprefix(_NO_TEST)}"
    p = pair.p_holm if pair.p_holm is not None else pair.p
    by_signs = " by the sign test" if pair.covers == "signs" else ""
    said = (
        []
        if p is None
        else [f"{probability(p)}{by_signs}{' after Holm’s correction' if pair.p_holm is not None else ''}"]
    )
    if pair.effect_size is not None and not is_level(pair):
        said.append(
            f"effect size {effect_size(pair.effect_size)}{'' if _is_repeated(pair) else ' over seeds'}"
        )
    return "".join(f", {each}" for each in said)


def _lost(diverged: Diverged, first: str, second: str, besides: Sequence[str]) -> str:
    """Return in brackets what diverged, and what there is to say besides."""
    said = [
        f"{who} diverged in {plural(n, 'run')}"
        for who, n in ((first, diverged.first), (second, diverged.second))
        if n
    ]
    searches = ((first, diverged.first_searches), (second, diverged.second_searches))
    said += [
        f"{plural(n, 'search', 'searches')} of {who} came to nothing but divergence"
        for who, n in searches
        if n
    ]
    return f" ({'; '.join([' and '.join(said), *besides])})" if said else ""
