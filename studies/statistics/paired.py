"""Means and paired differences of a few runs: t intervals, exact sign tests and effect sizes."""

__all__ = [
    "MeanInterval",
    "effect_size",
    "effective_df",
    "mean_interval",
    "sign_test",
    "t_interval",
    "t_p_value",
    "varies",
]

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Accuracies may come from float32, so two equal differences of accuracies agree only to about this share of
# the values.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """A mean with its interval.

    Attributes:
        n: number of finite values.
        mean: NaN without values.
        low: lower end of the interval; NaN with fewer than two values, or if all are equal.
        high: upper end of the interval.
        sd: standard deviation of one value (n - 1); NaN with fewer than two.
    """

    n: int
    mean: float
    low: float
    high: float
    sd: float


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> MeanInterval:
    """Return the mean of the finite values [N] and its interval by Student's t.

    NaN (not run) and infinities (diverged) are left out. Values that are all equal have an sd of 0 and no
    interval: an interval of zero width would claim that no other seed can give another value.

    Args:
        values: [N], in any unit.
        confidence: how often such intervals hold the true mean.
    """
    finite = _finite(values)
    n = finite.size
    mean = float(finite.mean()) if n else math.nan
    if n < 2:
        return MeanInterval(n=n, mean=mean, low=math.nan, high=math.nan, sd=math.nan)
    if not varies(finite):
        return MeanInterval(n=n, mean=mean, low=math.nan, high=math.nan, sd=0.0)
    sd = float(finite.std(ddof=1))
    low, high = t_interval(mean, error=sd / math.sqrt(n), df=n - 1, confidence=confidence)
    return MeanInterval(n=n, mean=mean, low=low, high=high, sd=sd)


def varies(values: ArrayLike, *, scale: float | None = None) -> bool:
    """Return whether finite values [N] differ by more than rounding.

    Args:
        values: [N], at least one.
        scale: magnitude of what they were computed from; by default the largest of the values.
            Differences of accuracies need it.
    """
    array = np.asarray(values, dtype=np.float64)
    magnitude = float(np.abs(array).max()) if scale is None else scale
    return bool(np.ptp(array) > _ROUNDING * magnitude)


def t_interval(mean: float, *, error: float, df: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two ends of the interval mean -+ t * error.

    Args:
        mean: middle of the interval.
        error: standard error of the mean.
        df: degrees of freedom of the error, not necessarily whole.
        confidence: how often such intervals hold the true mean.
    """
    # Import scipy here: it takes a few hundredths of a second, which code that only reads a record need not
    # spend. Scipy has no stubs.
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    half = float(stdtrit(df, (1 + confidence) / 2)) * error
    return mean - half, mean + half


def t_p_value(mean: float, *, error: float, df: float) -> float:
    """Return the two-sided p-value of a mean against 0 by Student's t.

    Args:
        mean: the mean.
        error: its standard error, positive.
        df: degrees of freedom of the error, not necessarily whole.
    """
    # Scipy has no stubs.
    from scipy.special import stdtr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return min(1.0, 2 * float(stdtr(df, -abs(mean) / error)))


def effective_df(parts: Iterable[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances: (sum v)^2 / sum(v^2 / df), but at least 1.

    Args:
        parts: each variance with its own degrees of freedom; not all of them 0.

    Source: Satterthwaite, An approximate distribution of estimates of variance components, Biometrics
    Bulletin 2 (1946).
    """
    known = list(parts)
    return max(1.0, sum(v for v, _ in known) ** 2 / sum(v * v / df for v, df in known))


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of a number of wins and losses if both are equally likely.

    Ties are left out. Without wins and losses it is 1.
    """
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**n)


def effect_size(differences: ArrayLike) -> float:
    """Return Hedges' g_z of the finite paired differences [N].

    NaN for fewer than three differences, or if they do not vary.

    It is their mean over their standard deviation, times J(N - 1) = gamma(df / 2) / (sqrt(df / 2) gamma((df -
    1) / 2)), which removes the upward bias in small samples (J is 0 for two differences, so nothing can be
    said).

    Source: Hedges, Distribution theory for Glass's estimator of effect size, J. Educational Statistics 6
    (1981), the exact factor; Lakens, Calculating and reporting effect sizes, Frontiers in Psychology 4
    (2013), for paired differences.
    """
    finite = _finite(differences)
    df = finite.size - 1
    if df < 2 or not varies(finite):
        return math.nan
    factor = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return factor * float(finite.mean()) / float(finite.std(ddof=1))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
