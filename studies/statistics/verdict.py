"""Which optimizer is better, and how sure that is.

Every pair of arms by its confirmed scores, Holm-corrected, and the ranks that follow.

A verdict is about optimizers tuned with the study's budget, not about two configurations;
`studies.statistics.pair_tests` tells what it rests on.
"""

__all__ = ["LEVEL", "ArmScores", "Judgement", "PairJudgement", "RankJudgement", "Word", "judge"]

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction, sign
from studies.statistics.holm import holm
from studies.statistics.orientation import oriented
from studies.statistics.pair_tests import Covers, Evidence, Record, compare
from studies.statistics.search_luck import search_luck

Word = Literal["better", "worse", "undecided"]

LEVEL = 0.05
"""The corrected p-value below which a verdict is not `undecided`."""


@dataclass(frozen=True, kw_only=True)
class ArmScores:
    """What an arm has to show.

    Attributes:
        name: of the arm.
        scores: test values [R, S] of each replicate's best configuration on S fresh seeds, the same seeds in
            every arm; NaN: not run (yet), the worst infinity (-inf where more is better, inf where less is):
            diverged. [0, S] or all NaN: no confirmed configuration.
        search_values: validation values [N] of the search's trials, in any order; NaN: none (pruned, failed),
            the worst infinity: diverged. Read with one replicate only.
        adaptive: whether the sampler learns from earlier trials (tpe, gp, cmaes).
        search_tests: test values [N] of the same trials, where they are on record: they show how a choice by
            validation fares on the test split, and without them the gap between the splits is not allowed
            for.
    """

    name: str
    scores: NDArray[np.float64]
    search_values: NDArray[np.float64]
    adaptive: bool
    search_tests: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class PairJudgement:
    """Which of two arms is better.

    The fields of `studies.analysis.views.PairVerdict` but its sentence, in the metric's own unit and
    direction.

    Attributes:
        first: name of one arm.
        second: name of the other.
        word: what the first is, measured against the second.
        n: pairs of runs on equal seeds that both arms have, or with several replicates the number that either
            arm has at least.
        difference: mean difference, first less second, over pairs in which both runs finished; None without
            any.
        low: lower end of its 95 % interval, which covers what `covers` says; None by signs.
        high: upper end of it.
        seeds_low: lower end of the 95 % interval over seeds for these configurations alone.
        seeds_high: upper end of it.
        p: two-sided p-value; None where nothing can be said.
        p_holm: the same after Holm's correction over all pairs.
        effect_size: Hedges' g_z of the paired differences.
        method: how p was computed, or why it was not.
        covers: which luck interval and p allow for.
    """

    first: str
    second: str
    word: Word
    n: int
    difference: float | None
    low: float | None
    high: float | None
    seeds_low: float | None
    seeds_high: float | None
    p: float | None
    p_holm: float | None
    effect_size: float | None
    method: str
    covers: Covers


@dataclass(frozen=True, kw_only=True)
class RankJudgement:
    """The place of an arm, 1 the best; the fields of `studies.analysis.views.ArmRank`.

    Attributes:
        arm: its name.
        rank: place by mean score; level arms share the mean of their places, and those with more diverged
            than finished runs come last.
        low: best place that it may have: one more than the arms that are better beyond doubt.
        high: worst place that it may have: the number of arms less those that are worse beyond doubt.
    """

    arm: str
    rank: float
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the confirmed scores of a study say.

    Attributes:
        pairs: every pair of arms, in the order given.
        ranks: best first; empty unless every arm has a confirmed configuration.
        winner: the arm that is better than every other, or None.
    """

    pairs: tuple[PairJudgement, ...]
    ranks: tuple[RankJudgement, ...]
    winner: str | None


def judge(arms: Sequence[ArmScores], *, direction: Direction) -> Judgement:
    """Return the verdict on every pair of arms, the ranks and the winner.

    The word is `better` or `worse` where Holm's corrected p is below 0.05, else `undecided`;
    `docs/statistics.md` tells how often it is wrong.

    Args:
        arms: in the study's order.
        direction: which way scores are better.

    Raises:
        ValueError: two arms share a name, their scores are not [R, S] with one S, or a score is the best
            infinity.
    """
    _check(arms)
    records = [_record(arm, direction) for arm in arms]
    pairs = list(itertools.combinations(range(len(arms)), 2))
    evidence = [compare(records[i], records[j]) for i, j in pairs]
    adjusted = holm([found.p for found in evidence])
    judged = tuple(
        _judgement(arms[i].name, arms[j].name, found, p_holm=float(p), sign=sign(direction))
        for (i, j), found, p in zip(pairs, evidence, adjusted, strict=True)
    )
    ahead = Counter(
        pair.first if pair.word == "better" else pair.second for pair in judged if pair.word != "undecided"
    )
    behind = Counter(
        pair.second if pair.word == "better" else pair.first for pair in judged if pair.word != "undecided"
    )
    return Judgement(
        pairs=judged,
        ranks=_ranks(
            {arm.name: record.scores for arm, record in zip(arms, records, strict=True)},
            ahead=ahead,
            behind=behind,
        ),
        winner=next((arm.name for arm in arms if ahead[arm.name] == len(arms) - 1 > 0), None),
    )


def _check(arms: Sequence[ArmScores]) -> None:
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ValueError(f"expected arms of different names, got {', '.join(names)}")
    shapes = [arm.scores.shape for arm in arms]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(
            f"expected scores [R, S] on the same S seeds in every arm, got {', '.join(map(str, shapes))}"
        )


def _record(arm: ArmScores, direction: Direction) -> Record:
    tests = None if arm.search_tests is None else oriented(arm.search_tests, direction)
    values = oriented(arm.search_values, direction)
    return Record(
        scores=oriented(arm.scores, direction),
        # Replicates show the luck of a search themselves.
        luck=search_luck(values, direction="maximize", adaptive=arm.adaptive, tests=tests)
        if len(arm.scores) < 2
        else None,
    )


def _judgement(
    first: str, second: str, found: Evidence, *, p_holm: float, sign: Literal[1, -1]
) -> PairJudgement:
    """Return a pair's judgement in the metric's own direction.

    Larger values are better where the sign is 1.
    """
    is_decided = p_holm < LEVEL and found.leans != 0
    # Turned round, the lower end of an interval is its upper.
    low, high = found.interval[::sign]
    seeds_low, seeds_high = found.seeds_interval[::sign]
    return PairJudgement(
        first=first,
        second=second,
        word="undecided" if not is_decided else "better" if found.leans > 0 else "worse",
        n=found.n,
        difference=_known(sign * found.difference),
        low=_known(sign * low),
        high=_known(sign * high),
        seeds_low=_known(sign * seeds_low),
        seeds_high=_known(sign * seeds_high),
        p=_known(found.p),
        p_holm=_known(p_holm),
        effect_size=_known(sign * found.effect_size),
        method=found.method,
        covers=found.covers,
    )


def _ranks(
    scores: Mapping[str, NDArray[np.float64]], *, ahead: Mapping[str, int], behind: Mapping[str, int]
) -> tuple[RankJudgement, ...]:
    """Return the places of arms with oriented scores [R, S].

    They follow from how many others each is better and worse than.
    """
    if any(np.isnan(runs).all() for runs in scores.values()):
        return ()
    standings = {arm: _standing(runs) for arm, runs in scores.items()}
    found: list[RankJudgement] = []
    for arm, own in standings.items():
        level = sum(other == own for other in standings.values())
        rank = sum(other > own for other in standings.values()) + (level + 1) / 2
        low, high = 1 + behind.get(arm, 0), len(scores) - ahead.get(arm, 0)
        # Arms need not have run all the same seeds, so that means and pairs may disagree; the pairs are the
        # fairer.
        found.append(RankJudgement(arm=arm, rank=min(max(rank, low), high), low=low, high=high))
    return tuple(sorted(found, key=lambda rank: rank.rank))


def _standing(scores: NDArray[np.float64]) -> float:
    """Return the mean over the finished runs of an arm; -inf where more of them diverged."""
    finite = scores[np.isfinite(scores)]
    return float(finite.mean()) if finite.size and finite.size >= np.isinf(scores).sum() else -math.inf


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
