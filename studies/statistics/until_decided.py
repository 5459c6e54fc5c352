"""Deciding pairs of arms while paired trials are added, without raising the chance of a wrong word.

A study looks at fixed numbers of pairs. An error-spending function allots the 5 % to the looks, and a pair of
arms that was decided at one look stays decided. What a look decides depends only on the pairs up to it, so
the whole history is recomputed from stored trials at any time.
"""

__all__ = [
    "TYPICAL_SPREAD",
    "ExpectedCost",
    "Looks",
    "PairAtLook",
    "expected_cost",
    "judge_looks",
    "look_levels",
    "looks",
]

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction
from studies.statistics.budget_contrasts import ArmTrials, degrees_of_freedom
from studies.statistics.budget_verdict import PairAtBudget, judge_at
from studies.statistics.verdict import LEVEL, Word

_Floats = NDArray[np.float64]
_Masks = NDArray[np.bool_]

TYPICAL_SPREAD: Final = 1.6
"""The `spread` of `expected_cost` before anything is known, in points (hundredths) of an accuracy.

It is that of arms whose peaks lie a tenth of an axis apart, at k = 4 (docs/statistics.md).
"""

_NODES: Final = 161
_STUDIES: Final = 1000
_SEED: Final = 7


def looks(first: int, most: int) -> tuple[int, ...]:
    """Return the numbers of pairs at which a study looks: each a quarter more than the last, up to `most`.

    Args:
        first: pairs at the first look, which should be at least four times the primary budget.
        most: the most pairs; at least `first`.

    Raises:
        ValueError: `first` is below 1 or above `most`.
    """
    if not 1 <= first <= most:
        raise ValueError(f"expected the first look at 1 to {most} pairs, got {first}")
    found = [first]
    while found[-1] < most:
        step = max(4, found[-1] // 4)
        # The last block is not a small rest.
        found.append(most if found[-1] + step + step // 2 > most else found[-1] + step)
    return tuple(found)


@functools.lru_cache(maxsize=32)
def look_levels(planned: tuple[int, ...], *, level: float = LEVEL) -> tuple[float, ...]:
    """Return the two-sided level at each look, so that the chance of any wrong call in all is `level`.

    By the look with a share t of the most pairs, 2 - 2 Phi(z / sqrt(t)) of the level is spent, z being the
    normal deviate of `level`: almost nothing early, and the last level is close to `level`.

    Args:
        planned: pairs at each look, ascending; the last one is the most there can be.
        level: in all looks together.

    Raises:
        ValueError: the looks do not ascend.

    Source: Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70 (1983), with the
    spending function of O'Brien and Fleming's type; the recursion is Armitage, McPherson and Rowe's, Repeated
    significance tests on accumulating data, Journal of the Royal Statistical Society A 132 (1969).
    """
    # Scipy has no stubs.
    from scipy.special import ndtr, ndtri  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if not planned or any(later <= earlier for earlier, later in itertools.pairwise((0, *planned))):
        raise ValueError(f"expected ascending numbers of pairs, got {list(planned)}")
    z = -float(ndtri(level / 2))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    found: list[float] = []
    # The Brownian motion at the last look, at quadrature points inside its bounds, with their probability.
    places, mass, before, spent = np.zeros(1), np.ones(1), 0.0, 0.0
    for pairs in planned:
        share = pairs / planned[-1]
        sd = math.sqrt(share - before)
        total = 2 * float(ndtr(-z / math.sqrt(share)))
        low, high = 0.0, 10 * math.sqrt(share)
        for _ in range(60):
            bound = (low + high) / 2
            outside = float(mass @ (ndtr((-bound - places) / sd) + ndtr((places - bound) / sd)))
            low, high = (bound, high) if outside > total - spent else (low, bound)
        bound = high
        found.append(2 * float(ndtr(-bound / math.sqrt(share))))
        inside = bound * nodes
        density = np.exp(-0.5 * ((inside[:, None] - places) / sd) ** 2) @ mass / (sd * math.sqrt(2 * math.pi))
        places, mass, before, spent = inside, density * weights * bound, share, total
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class PairAtLook:
    """What the looks so far say about two arms.

    Attributes:
        at: the pair at the look that decided it, otherwise at the last look that compared it. Its interval
            holds the true difference in all looks together, for this pair alone.
        look: how many pairs of trials there were at that look; None before the first look.
        level: the level at that look; None before the first look.
    """

    at: PairAtBudget
    look: int | None
    level: float | None


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the looks so far have decided.

    Attributes:
        planned: pairs of trials at each look, ascending.
        levels: the two-sided level at each of them.
        done: how many looks there were.
        pairs: the pairs of arms that are to be decided, in the order given.
        dropped: arms that take part in no further block: each lost all its pairs, at the look given.
        following: pairs of trials at the next look; None if everything is decided or no look is left.
    """

    planned: tuple[int, ...]
    levels: tuple[float, ...]
    done: int
    pairs: tuple[PairAtLook, ...]
    dropped: dict[str, int]
    following: int | None

    @property
    def is_decided(self) -> bool:
        """Whether every pair is decided."""
        return all(pair.at.word != "undecided" for pair in self.pairs)


def judge_looks(
    arms: Sequence[ArmTrials],
    *,
    ended: int,
    planned: Sequence[int],
    direction: Direction,
    primary: int,
    pairs: Sequence[tuple[str, str]] | None = None,
    can_drop: bool = False,
    diverged: float | None = None,
) -> Looks:
    """Return what a study with planned looks has decided by now.

    At each look the pairs of arms that are still undecided are one family, whose p-values are corrected
    together and compared with the look's level. That is a closed test: every set of pairs that holds a pair
    decided earlier has been rejected by then.

    Args:
        arms: paired, of one length; NaN for pairs of trials that an arm has no result of or did not train.
        ended: leading pairs of trials that have ended in every arm that was not dropped.
        planned: pairs of trials at each look, as `looks` gives them.
        direction: which way is better.
        primary: the budget at which words are given, in trials.
        pairs: names of the arms to decide between; by default every pair.
        can_drop: whether an arm that lost all its pairs takes part in no further block.
        diverged: the test value of a diverged trial; by default the worst at each look.

    Source: Maurer and Bretz, Multiple testing in group sequential trials using graphical approaches,
    Statistics in Biopharmaceutical Research 5 (2013), for step-down tests at several looks.
    """
    asked = list(itertools.combinations((arm.name for arm in arms), 2)) if pairs is None else list(pairs)
    levels = look_levels(tuple(planned))
    found = {pair: _nothing(pair) for pair in asked}
    dropped: dict[str, int] = {}
    done = sum(pairs_at <= ended for pairs_at in planned)
    for look, level in zip(planned[:done], levels, strict=False):
        open_pairs = [pair for pair in asked if found[pair].at.word == "undecided"]
        if not open_pairs:
            done = planned.index(look)
            break
        needed = {name for pair in open_pairs for name in pair}
        judged = judge_at(
            [_until(arm, look) for arm in arms if arm.name in needed],
            direction=direction,
            primary=primary,
            pairs=open_pairs,
            level=level,
            diverged=diverged,
        )
        for pair, at in zip(open_pairs, judged, strict=True):
            found[pair] = PairAtLook(at=at, look=look, level=level)
        if can_drop:
            for arm in arms:
                own = [_word(found[pair].at, arm.name) for pair in asked if arm.name in pair]
                if own and arm.name not in dropped and set(own) == {"worse"}:
                    dropped[arm.name] = look
    is_open = any(pair.at.word == "undecided" for pair in found.values())
    return Looks(
        planned=tuple(planned),
        levels=levels,
        done=done,
        pairs=tuple(found.values()),
        dropped=dropped,
        following=planned[done] if is_open and done < len(planned) else None,
    )


@dataclass(frozen=True, kw_only=True)
class ExpectedCost:
    """What deciding is expected to cost if neighbouring arms differ by a gap.

    Attributes:
        gap: the true difference of neighbouring arms, in the metric's unit.
        pairs: the mean number of pairs of trials until all these pairs of arms are decided or none are left.
        trials: the mean number of paired trials of all arms.
        decided: the share of studies that decide all these pairs of arms.
    """

    gap: float
    pairs: float
    trials: float
    decided: float


def expected_cost(
    *,
    gap: float,
    spread: float,
    arms: int,
    primary: int,
    planned: Sequence[int],
    pairs: Sequence[tuple[int, int]] | None = None,
    can_drop: bool = False,
) -> ExpectedCost:
    """Return what a study with planned looks costs on average if its arms are evenly spaced by a gap.

    It simulates the arms' statistics as normal, with p-values by Student's t that are corrected by Holm's
    method, from fixed seeds.

    Args:
        gap: the true difference of neighbouring arms at the primary budget.
        spread: standard error of the difference of two arms times sqrt(n / k), in the unit of the gap
            (`studies.statistics.power.pair_power` estimates it from a finished study).
        arms: how many arms there are.
        primary: the budget k.
        planned: pairs of trials at each look.
        pairs: places of the arms to decide between; by default every pair.
        can_drop: whether an arm that lost all its pairs takes part in no further block.
    """
    # Scipy has no stubs.
    from scipy.special import stdtr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    rng = np.random.default_rng(_SEED)
    levels = look_levels(tuple(planned))
    steps = np.diff((0, *planned))
    noise = rng.normal(size=(_STUDIES, len(planned), arms)) * np.sqrt(steps)[:, None]
    values = np.cumsum(noise, axis=1) * spread * math.sqrt(primary / 2) / np.array(planned)[:, None]
    values = values + gap * np.arange(arms)
    places = np.array(list(itertools.combinations(range(arms), 2)) if pairs is None else list(pairs))
    rivals = np.bincount(places.ravel(), minlength=arms)
    first, second = places.T
    is_open: _Masks = np.ones((_STUDIES, len(places)), dtype=bool)
    worse: _Masks = np.zeros((_STUDIES, arms, arms), dtype=bool)
    took, lasted = np.zeros((_STUDIES, arms)), np.zeros(_STUDIES)
    for look, (count, level, step) in enumerate(zip(planned, levels, steps, strict=True)):
        running: _Masks = np.logical_or.reduce(is_open, axis=1)
        lost = (np.sum(worse, axis=2) == rivals) & (rivals > 0) & can_drop
        took += step * (running[:, None] & ~lost)
        lasted = np.where(running, count, lasted)
        difference = values[:, look, first] - values[:, look, second]
        df = float(degrees_of_freedom(count, np.array([primary]))[0])
        p = 2 * stdtr(df, -np.abs(difference) / (spread * math.sqrt(primary / count)))
        decided = is_open & _holm_rejects(np.where(is_open, p, np.inf), level)
        worse[:, first, second] |= decided & (difference < 0)
        worse[:, second, first] |= decided & (difference > 0)
        is_open = is_open & ~decided
    return ExpectedCost(
        gap=gap,
        pairs=float(lasted.mean()),
        trials=float(took.sum(axis=1).mean()),
        decided=1 - float(np.logical_or.reduce(is_open, axis=1).mean()),
    )


def _holm_rejects(p: _Floats, level: float) -> _Masks:
    """Return which of a study's hypotheses Holm's method rejects, [studies, M]; inf for none."""
    order = np.argsort(p, axis=1)
    counts = np.isfinite(p).sum(axis=1, keepdims=True, dtype=np.float64)
    factors = np.maximum(counts - np.arange(p.shape[1], dtype=np.float64), 1.0)
    is_large = np.take_along_axis(p, order, axis=1) * factors >= level
    passes: _Masks = np.cumsum(is_large, axis=1) == 0
    found: _Masks = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(found, order, passes, axis=1)
    return found


def _until(arm: ArmTrials, pairs: int) -> ArmTrials:
    return replace(arm, validation=arm.validation[:pairs], test=arm.test[:pairs])


def _nothing(pair: tuple[str, str]) -> PairAtLook:
    nan = math.nan
    first, second = pair
    at = PairAtBudget(
        first=first,
        second=second,
        n=0,
        word="undecided",
        difference=nan,
        low=nan,
        high=nan,
        p=nan,
        p_corrected=nan,
    )
    return PairAtLook(at=at, look=None, level=None)


def _word(pair: PairAtBudget, name: str) -> Word:
    """Return the word from the view of one of the two arms."""
    if pair.word == "undecided" or name == pair.first:
        return pair.word
    return "worse" if pair.word == "better" else "better"
