"""The differences of arms by tuning budget, with what each trial contributes to their error.

In this module values are oriented: larger is better.
"""

__all__ = ["ArmTrials", "Contrast", "PairedArms", "degrees_of_freedom", "multipliers"]

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction, sign
from studies.statistics.budget_statistic import RankedTrials
from studies.statistics.orientation import oriented
from studies.statistics.paired import effective_df, t_p_value

_Floats = NDArray[np.float64]

_DRAWS: Final = 4000
_SEED: Final = 20_211


@dataclass(frozen=True, kw_only=True)
class ArmTrials:
    """The trials of one arm, in the order of their pairs.

    Attributes:
        name: the arm.
        validation: [N] validation values; NaN where a pair has no result, the worst infinity where it
            diverged.
        test: [N] test values of the same trials; what is not finite counts like a diverged trial.
    """

    name: str
    validation: _Floats
    test: _Floats


class PairedArms:
    """The oriented trials of all arms, and their contrasts."""

    def __init__(
        self, arms: Sequence[ArmTrials], *, direction: Direction, diverged: float | None, is_paired: bool
    ) -> None:
        """Orient the values; raises ValueError if the arms are paired and their numbers of trials differ."""
        if is_paired and len({arm.validation.size for arm in arms}) > 1:
            raise ValueError(
                "expected paired arms with the same number of trials, got "
                + ", ".join(f"{arm.validation.size} of {arm.name}" for arm in arms)
            )
        self.signed: Literal[1, -1] = sign(direction)
        self._validation = [oriented(arm.validation, direction) for arm in arms]
        self._tests = _tests(arms, direction, diverged)
        self._known = [~np.isnan(values) for values in self._validation]
        self._is_paired = is_paired
        self._offsets = np.cumsum([0, *(arm.validation.size for arm in arms)])
        self.units = arms[0].validation.size if is_paired else int(self._offsets[-1])
        # An arm is in many pairs, most often with all its trials.
        self._rankings: dict[tuple[int, bytes], RankedTrials] = {}
        self._influences: dict[tuple[int, bytes, bytes], _Influence] = {}

    def count(self, i: int, j: int) -> int:
        """Return the pairs of trials of two arms; the smaller number of trials if they are not paired."""
        return int(min(rows.sum() for rows in self._rows(i, j)))

    def curve(self, arm: int, ks: NDArray[np.int64]) -> _Floats:
        """Return the arm's expected test value of the choice at each budget, [K], oriented.

        It is NaN at budgets above the arm's number of trials.
        """
        values = np.full(ks.size, math.nan)
        within = ks <= self._known[arm].sum()
        if within.any():
            values[within] = self._ranked(arm, self._known[arm]).chosen(ks[within])
        return values

    def contrast(self, i: int, j: int, ks: NDArray[np.int64]) -> "Contrast":
        """Return the difference of two arms at each budget."""
        rows = self._rows(i, j)
        return Contrast.of(
            [self._influence(arm, of_arm, ks) for arm, of_arm in zip((i, j), rows, strict=True)],
            rows=rows,
            offsets=(0, 0) if self._is_paired else (int(self._offsets[i]), int(self._offsets[j])),
            units=self.units,
            budgets=ks,
            is_paired=self._is_paired,
        )

    def _rows(self, i: int, j: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        one, other = self._known[i], self._known[j]
        return (one & other, one & other) if self._is_paired else (one, other)

    def _influence(self, arm: int, rows: NDArray[np.bool_], ks: NDArray[np.int64]) -> "_Influence":
        key = arm, rows.tobytes(), ks.tobytes()
        if key not in self._influences:
            self._influences[key] = _Influence.of(self._ranked(arm, rows), ks)
        return self._influences[key]

    def _ranked(self, arm: int, rows: NDArray[np.bool_]) -> RankedTrials:
        key = arm, rows.tobytes()
        if key not in self._rankings:
            self._rankings[key] = RankedTrials.of(self._validation[arm][rows], self._tests[arm][rows])
        return self._rankings[key]


@dataclass(frozen=True)
class _Influence:
    """One arm's statistic at each budget, [K], and the jackknife's deviations of each trial, [K, n]."""

    value: _Floats
    deviations: _Floats

    @classmethod
    def of(cls, ranked: RankedTrials, ks: NDArray[np.int64]) -> Self:
        """Return the parts at each budget."""
        without = ranked.chosen_without_each(ks)
        n = without.shape[1]
        deviations = math.sqrt((n - 1) / n) * (without - without.mean(axis=1, keepdims=True))
        return cls(ranked.chosen(ks), deviations)


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms at some budgets.

    Attributes:
        difference: [K] first minus second, oriented.
        deviations: [K, units] the part of each trial or pair of trials; 0 for those of other arms.
        df: [K] degrees of freedom of the standard error.
    """

    difference: _Floats
    deviations: _Floats
    df: _Floats

    @classmethod
    def of(
        cls,
        parts: Sequence[_Influence],
        *,
        rows: Sequence[NDArray[np.bool_]],
        offsets: Sequence[int],
        units: int,
        budgets: NDArray[np.int64],
        is_paired: bool,
    ) -> "Contrast":
        """Return the difference of two arms from their own parts."""
        deviations = np.zeros((len(budgets), units))
        for part, of_arm, offset, signed in zip(parts, rows, offsets, (1, -1), strict=True):
            deviations[:, offset + np.flatnonzero(of_arm)] += signed * part.deviations
        counts = [part.deviations.shape[1] for part in parts]
        if is_paired:
            df = degrees_of_freedom(counts[0], budgets)
        else:
            variances = [(part.deviations**2).sum(axis=1) for part in parts]
            own = [degrees_of_freedom(n, budgets) for n in counts]
            df = np.array(
                [
                    effective_df([(float(v[k]), float(f[k])) for v, f in zip(variances, own, strict=True)])
                    if any(v[k] > 0 for v in variances)
                    else math.nan
                    for k in range(len(budgets))
                ]
            )
        return cls(parts[0].value - parts[1].value, deviations, df)

    @functools.cached_property
    def error(self) -> _Floats:
        """[K] standard errors; 0 where the difference does not vary."""
        found = np.sqrt((self.deviations**2).sum(axis=1))
        # Equal numbers may differ by their rounding.
        return np.where(found > 1e-12 * np.maximum(np.abs(self.difference), 1e-300), found, 0.0)

    @property
    def unit(self) -> NDArray[np.float32]:
        """[K, units] deviations divided by their standard error; 0 where nothing varies."""
        error = self.error[:, None]
        shares = np.divide(self.deviations, error, out=np.zeros_like(self.deviations), where=error > 0)
        return shares.astype(np.float32)

    def p(self, k: int) -> float:
        """Return the p-value at the k-th budget; NaN where the difference does not vary."""
        error = float(self.error[k])
        return (
            t_p_value(float(self.difference[k]), error=error, df=float(self.df[k])) if error > 0 else math.nan
        )


def degrees_of_freedom(n: int, budgets: NDArray[np.int64]) -> _Floats:
    """Return the degrees of freedom of the jackknife's standard error at each budget, [K].

    The best of k depends on about n/k of the trials, and more than one of them matters. The factor and the
    bound for k = 2 and 3 are calibrated by simulation (docs/statistics.md).
    """
    return np.minimum(n / np.minimum(budgets, 2), 1.5 * n / budgets) - 1


@functools.lru_cache(maxsize=8)
def multipliers(units: int) -> NDArray[np.float32]:
    """Return the bootstrap's random multipliers, [draws, units]; always the same."""
    return np.random.default_rng(_SEED).normal(size=(_DRAWS, units)).astype(np.float32)


def _tests(arms: Sequence[ArmTrials], direction: Direction, diverged: float | None) -> list[_Floats]:
    """Return oriented test values in which those that are not finite have one value for all arms."""
    found = [np.where(np.isfinite(arm.test), arm.test, np.nan) * sign(direction) for arm in arms]
    finite = np.concatenate(found)
    finite = finite[~np.isnan(finite)]
    value = float(finite.min()) if diverged is None and finite.size else sign(direction) * (diverged or 0.0)
    return [
        np.where(np.isnan(tests) | ~np.isfinite(arm.validation), value, tests)
        for arm, tests in zip(arms, found, strict=True)
    ]
