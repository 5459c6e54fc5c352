"""The verdict on every pair of arms by their confirmed scores, Holm-corrected, and the ranks that follow.

A verdict is about optimizers tuned with the study's budget, unless it is asked for the configurations alone.
The tests themselves are in `studies.statistics.pair_tests`.
"""

__all__ = [
    "LEVEL",
    "ArmRank",
    "ArmScores",
    "Judgement",
    "PairJudgement",
    "Question",
    "Word",
    "judge",
    "judge_together",
]

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from studies.direction import Direction, sign
from studies.frozen_model import FrozenModel
from studies.statistics.holm import holm
from studies.statistics.orientation import oriented
from studies.statistics.pair_tests import Covers, Evidence, Record, compare, compare_configurations
from studies.statistics.search_luck import search_luck

Word = Literal["better", "worse", "undecided"]
Question = Literal["optimizers", "configurations"]
"""What a verdict is about: optimizers tuned with the study's budget, or the configurations that it found."""

LEVEL = 0.05
"""The corrected p-value below which a verdict is not `undecided`."""


@dataclass(frozen=True, kw_only=True)
class ArmScores:
    """The scores of one arm, and the search that they come from.

    Attributes:
        name: name of the arm.
        scores: test values [R, S] of each replicate's best configuration on S fresh seeds, the same seeds in
            every arm; NaN: not run (yet), the worst infinity (-inf where higher is better, inf where lower
            is): diverged. [0, S] or all NaN: no confirmed configuration.
        search_values: validation values [N] of the search's trials, in any order; NaN: none (pruned, failed),
            the worst infinity: diverged. Read with one replicate only.
        adaptive: whether the sampler learns from earlier trials (tpe, gp, cmaes).
        search_tests: test values [N] of the same trials, where they are stored. They show how a choice by
            validation does on the test split; without them the gap between the splits is not allowed for.
        search_direction: which way validation values are better, if the search did not choose by the metric
            of the scores but by another one; None if it did. Test values are needed then.
    """

    name: str
    scores: NDArray[np.float64]
    search_values: NDArray[np.float64]
    adaptive: bool
    search_tests: NDArray[np.float64] | None = None
    search_direction: Direction | None = None


class PairJudgement(FrozenModel):
    """Which of two arms is better, in the metric's own unit and direction."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    word: Word = Field(description="The first arm measured against the second.")
    n: int = Field(
        description=(
            "Pairs of runs on the same seeds; with replicates of the search, the replicates of the arm "
            "that has fewer."
        )
    )
    difference: float | None = Field(
        description=(
            "Mean of the paired differences in the test value, first minus second, over pairs in which "
            "both runs finished; null without any."
        )
    )
    low: float | None = Field(
        description=(
            "Lower end of its 95 % interval, which allows for the sources of chance that `covers` names; "
            "null for a sign test."
        )
    )
    high: float | None = Field(description="Upper end of that interval.")
    seeds_low: float | None = Field(
        description=(
            "Lower end of the 95 % interval for these two configurations alone: over seeds, with the "
            "searches taken as given."
        )
    )
    seeds_high: float | None = Field(description="Upper end of that interval.")
    p: float | None = Field(description="Two-sided p-value; null where no test is possible.")
    p_holm: float | None = Field(
        description=(
            "The p-value after Holm's correction over all pairs of the study; below "
            "0.05 the word is not 'undecided'."
        )
    )
    effect_size: float | None = Field(
        description=(
            "Mean difference over the standard deviation of the differences, "
            "with Hedges' small-sample correction."
        )
    )
    method: str = Field(description="How the p-value was computed, or why it was not.")
    covers: Covers = Field(description="The sources of chance that the interval and p-value allow for.")


class ArmRank(FrozenModel):
    """The rank of an arm among all arms; 1 is the best."""

    arm: str = Field(description="Name of the arm.")
    # Arms with more diverged than finished runs come last.
    rank: float = Field(
        description="Rank by confirmed mean test value; tied arms share the mean of their ranks."
    )
    low: int = Field(
        description="Best rank that the data allow: one more than the number of arms shown to be better."
    )
    high: int = Field(
        description="Worst rank that the data allow: the number of arms less those shown to be worse."
    )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on all arms of a study.

    Attributes:
        pairs: every pair of arms, in the order given.
        ranks: best first; empty unless every arm has a confirmed configuration.
        winner: the arm that is better than every other, or None.
    """

    pairs: tuple[PairJudgement, ...]
    ranks: tuple[ArmRank, ...]
    winner: str | None


def judge(arms: Sequence[ArmScores], *, direction: Direction, about: Question = "optimizers") -> Judgement:
    """Return the verdict on every pair of arms, the ranks and the winner.

    The word is `better` or `worse` where Holm's corrected p is below 0.05, else `undecided`;
    `docs/statistics.md` reports how often it is wrong.

    Args:
        arms: in the study's order.
        direction: whether higher or lower scores are better.
        about: what the verdict is about; of configurations there is one row of scores for each arm.

    Raises:
        ValueError: if two arms share a name, their scores are not [R, S] with one S, or a score is the best
            infinity.
    """
    [judgement] = judge_together([(arms, direction)], about=about)
    return judgement


def judge_together(
    questions: Sequence[tuple[Sequence[ArmScores], Direction]], *, about: Question = "optimizers"
) -> tuple[Judgement, ...]:
    """Return the verdict by each of several metrics, with p-values corrected over all pairs of all of them.

    Args:
        questions: for each metric the arms with their scores, and which way it is better.
        about: as in `judge`.

    Raises:
        ValueError: as `judge`, for any of the metrics.
    """
    evidence: list[list[Evidence]] = []
    records: list[list[Record]] = []
    for arms, direction in questions:
        _check(arms)
        records.append([_record(arm, direction) for arm in arms])
        test = compare if about == "optimizers" else compare_configurations
        evidence.append([test(one, other) for one, other in itertools.combinations(records[-1], 2)])
    adjusted = iter(holm([found.p for each in evidence for found in each]))
    return tuple(
        _judge(arms, of_arms, each, list(itertools.islice(adjusted, len(each))), direction=direction)
        for (arms, direction), of_arms, each in zip(questions, records, evidence, strict=True)
    )


def _judge(
    arms: Sequence[ArmScores],
    records: Sequence[Record],
    evidence: Sequence[Evidence],
    adjusted: Sequence[float],
    *,
    direction: Direction,
) -> Judgement:
    pairs = itertools.combinations(range(len(arms)), 2)
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
    values = oriented(arm.search_values, arm.search_direction or direction)
    # Replicates show the luck of a search themselves.
    luck = (
        search_luck(values, direction="maximize", adaptive=arm.adaptive, tests=tests)
        if len(arm.scores) < 2
        else None
    )
    if luck is not None and luck.is_choice and arm.search_direction is not None:
        # The validation values are in another unit than the scores.
        luck = replace(luck, by_validation=0.0) if luck.by_test is not None else None
    return Record(scores=oriented(arm.scores, direction), luck=luck)


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
) -> tuple[ArmRank, ...]:
    """Return the places of arms with oriented scores [R, S].

    They follow from how many others each is better and worse than.
    """
    if any(np.isnan(runs).all() for runs in scores.values()):
        return ()
    standings = {arm: _standing(runs) for arm, runs in scores.items()}
    found: list[ArmRank] = []
    for arm, own in standings.items():
        level = sum(other == own for other in standings.values())
        rank = sum(other > own for other in standings.values()) + (level + 1) / 2
        low, high = 1 + behind.get(arm, 0), len(scores) - ahead.get(arm, 0)
        # Arms need not have run all the same seeds, so that means and pairs may disagree; the pairs are the
        # fairer.
        found.append(ArmRank(arm=arm, rank=min(max(rank, low), high), low=low, high=high))
    return tuple(sorted(found, key=lambda rank: rank.rank))


def _standing(scores: NDArray[np.float64]) -> float:
    """Return the mean over the finished runs of an arm; -inf where more of them diverged."""
    finite = scores[np.isfinite(scores)]
    return float(finite.mean()) if finite.size and finite.size >= np.isinf(scores).sum() else -math.inf


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
