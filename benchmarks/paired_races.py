"""Studies of arms with paired trials and a known truth, judged by tuning budget."""

__all__ = ["BudgetOutcomes", "Race", "SurfaceRace", "budget_outcomes", "is_false"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from races import LOWEST, Peak, on_examples

from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.budget_statistic import chosen_test
from studies.statistics.budget_verdict import PairAtBudget, judge_budgets

_Floats = NDArray[np.float64]
_TRUE_TRIALS = 200_000


class Race(Protocol):
    """A study whose arms have paired trials and a known truth."""

    @property
    def budget(self) -> int:
        """The primary budget, in trials."""
        ...

    @property
    def is_paired(self) -> bool:
        """Whether trial i of every arm is at the same place."""
        ...

    @property
    def equal(self) -> frozenset[tuple[int, int]]:
        """The pairs of arms that do not differ."""
        ...

    def arms(self, rng: np.random.Generator) -> list[ArmTrials]:
        """Draw one study; its arms are named `arm 0`, `arm 1` and so on."""
        ...

    def truth(self, budgets: Sequence[int]) -> _Floats:
        """Return each arm's true expected test value at each budget, [arms, K]."""
        ...


@dataclass(frozen=True, kw_only=True)
class SurfaceRace:
    """A study whose arms have paired trials.

    Attributes:
        peaks: of the arms.
        trials: paired trials of each arm.
        budget: the primary one, in trials.
        noise: standard deviation of a run's accuracy over seeds; 0.6 of a seed's effect is common to both
            splits.
        has_heavy_tails: whether a run's noise is Student's t with three degrees of freedom, scaled to the
            same standard deviation, instead of normal.
        is_paired: whether trial i of every arm is at the same place.
    """

    peaks: Sequence[Peak]
    trials: int
    budget: int
    noise: float = 0.005
    has_heavy_tails: bool = False
    is_paired: bool = True

    @property
    def equal(self) -> frozenset[tuple[int, int]]:
        """The pairs of arms with the same peak."""
        places = range(len(self.peaks))
        return frozenset((i, j) for i in places for j in places if self.peaks[i] == self.peaks[j])

    def arms(self, rng: np.random.Generator) -> list[ArmTrials]:
        """Draw one study."""
        places = [rng.random((self.trials, 2))]
        places += [places[0] if self.is_paired else rng.random((self.trials, 2)) for _ in self.peaks[1:]]
        return [
            self._measured(f"arm {n}", peak, where, rng)
            for n, (peak, where) in enumerate(zip(self.peaks, places, strict=True))
        ]

    def truth(self, budgets: Sequence[int]) -> _Floats:
        """Return each arm's true expected test value at each budget, [arms, K], from many trials."""
        rng = np.random.default_rng(9)
        places = rng.random((_TRUE_TRIALS, 2))
        many = [self._measured("", peak, places, rng) for peak in self.peaks]
        return np.array(
            [
                chosen_test(
                    arm.validation,
                    np.where(np.isnan(arm.test), LOWEST, arm.test),
                    budgets,
                )
                for arm in many
            ]
        )

    def _measured(self, name: str, peak: Peak, places: _Floats, rng: np.random.Generator) -> ArmTrials:
        true, diverged = peak.accuracy(places), peak.diverges(places)
        common, *own = (self._luck(rng, len(true)) for _ in range(3))
        validation, test = (on_examples(true + self.noise * (0.6 * common + 0.8 * each)) for each in own)
        return ArmTrials(
            name=name,
            validation=np.where(diverged, -np.inf, validation),
            test=np.where(diverged, np.nan, test),
        )

    def _luck(self, rng: np.random.Generator, size: int) -> _Floats:
        return rng.standard_t(3, size) / np.sqrt(3) if self.has_heavy_tails else rng.normal(size=size)


@dataclass(frozen=True, kw_only=True)
class BudgetOutcomes:
    """Outcomes of studies, as fractions of all of them.

    Attributes:
        false: some word contradicts the sign of the true difference; any word of arms that are equal does.
        detected: the last arm is better than every other.
        called: the mean share of the others that the last arm is better than.
        covered: the band holds the true differences of all pairs at all budgets.
        inside: the interval of the last pair at the primary budget holds its true difference.
    """

    false: float
    detected: float
    called: float
    covered: float
    inside: float


def budget_outcomes(
    race: Race, *, studies: int, seed: int, correction: Literal["holm", "max-t"] = "max-t"
) -> BudgetOutcomes:
    """Simulate studies of a race and return their outcomes."""
    rng = np.random.default_rng(seed)
    at_primary = race.truth([race.budget])[:, 0]
    equal = race.equal
    over_budgets: _Floats | None = None
    false = detected = called = covered = inside = 0.0
    last = f"arm {len(at_primary) - 1}"
    for _ in range(studies):
        found = judge_budgets(
            race.arms(rng),
            direction="maximize",
            primary=race.budget,
            diverged=LOWEST,
            is_paired=race.is_paired,
            correction=correction,
        )
        if over_budgets is None:
            over_budgets = race.truth(found.budgets.tolist())
        places = {pair: (int(pair.first[4:]), int(pair.second[4:])) for pair in found.pairs}
        false += any(is_false(pair, at_primary, equal) for pair in found.pairs)
        beaten = [pair.word == "worse" for pair in found.pairs if pair.second == last]
        detected += all(beaten)
        called += sum(beaten) / len(beaten)
        differences = [_true(over_budgets, where, equal) for where in places.values()]
        covered += all(
            bool(np.all(np.isnan(band.low) | ((band.low <= true) & (true <= band.high))))
            for band, true in zip(found.band, differences, strict=True)
        )
        final, where = list(places.items())[-1]
        true = float(_true(at_primary[:, None], where, equal)[0])
        inside += bool(np.isnan(final.low) or final.low <= true <= final.high)
    return BudgetOutcomes(
        false=false / studies,
        detected=detected / studies,
        called=called / studies,
        covered=covered / studies,
        inside=inside / studies,
    )


def is_false(pair: PairAtBudget, truth: _Floats, equal: frozenset[tuple[int, int]]) -> bool:
    """Return whether a word contradicts the sign of the true difference; any word of equal arms does.

    Args:
        pair: the pair with its word.
        truth: [arms] each arm's true value at the primary budget.
        equal: the pairs of arms that do not differ.
    """
    if pair.word == "undecided":
        return False
    first, second = int(pair.first[4:]), int(pair.second[4:])
    return (first, second) in equal or (pair.word == "better") != (truth[first] > truth[second])


def _true(curves: _Floats, where: tuple[int, int], equal: frozenset[tuple[int, int]]) -> _Floats:
    """Return a pair's true difference at each budget; exactly 0 for equal arms."""
    return (curves[where[0]] - curves[where[1]]) * (where not in equal)
