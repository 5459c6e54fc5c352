"""The luck of one search: how much its chosen configuration would vary if the search were repeated.

Take two arms with one optimizer and one space, whose samplers draw differently. They end at different
configurations, and no number of seeds makes these equal, so a comparison of optimizers has to allow for this.

The luck is estimated from parts of the one search. Draw m of its n trials: the best of them by validation is
the trial of rank r with probability C(n - r, m - 1) / C(n, m), which is about 2^-r for a half. The variance
of the test values under these weights is the variance between the choices of searches that are shorter by
this factor. It includes seed noise and the gap between the splits.
"""

__all__ = ["SearchLuck", "search_luck"]

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign

_SHARE = 1 / 2
_ADAPTIVE_SHARE = 1 / 4


@dataclass(frozen=True, kw_only=True)
class SearchLuck:
    """How much the configuration that a search chose would vary if the search were repeated.

    Attributes:
        by_validation: variance between parts of the search of the validation value of the choice, in the
            metric's unit squared.
        by_test: the same for its test value; None if test values are not stored.
        df: degrees of freedom of these variances.
        is_choice: whether there was anything to choose; a search of one trial has no luck.
    """

    by_validation: float
    by_test: float | None
    df: float
    is_choice: bool = True

    def variance(self, *, noise: float) -> float:
        """Return the variance, between repeated searches, of the true test value of the chosen configuration.

        It is the larger of two estimates. `by_test` includes everything that makes the test value of the
        choice uncertain, but rests on a few trials. `by_validation` lacks what validation values cannot show:
        of configurations that look alike, the luckiest is chosen, so its true value varies additionally by up
        to the noise of one run (tau^2 s^2 / (tau^2 + s^2) for noise s and a normal spread tau among the
        contenders). Half of noise^2, its value at tau = s, is added to it; all of noise^2 is added if no test
        values are stored.

        Args:
            noise: standard deviation of one run of a configuration over seeds.
        """
        if not self.is_choice:
            return 0.0
        if self.by_test is None:
            return self.by_validation + noise**2
        return max(self.by_test, self.by_validation + noise**2 / 2)


def search_luck(
    values: ArrayLike,
    *,
    direction: Direction,
    adaptive: bool,
    tests: ArrayLike | None = None,
) -> SearchLuck | None:
    """Return the luck of a search from its trials, or None if it cannot be estimated.

    It cannot be estimated if a search of several trials has fewer than two values.

    The parts are halves; for an adaptive search they are quarters, because its trials lie closer together
    than trials of different searches would. The estimate has two errors. Parts of one search resemble each
    other, which makes it too small: by a factor of about 0.8 on the scale of standard deviations for a normal
    spread of the trials, and 0.7 for an exponential upper tail. Shorter searches end further from the best,
    which makes it too large: by 2^(2/d) near the best point of a smooth surface in d dimensions.
    `docs/statistics.md` shows how often verdicts based on it are wrong.

    Args:
        values: validation values [N]; NaN without one (pruned, failed), which are left out; infinite where
            diverged, which ranks last.
        direction: which way is better.
        adaptive: whether the sampler learned from earlier trials.
        tests: test values [N] of the same trials; one that is not finite counts as not stored.

    Raises:
        ValueError: values and tests differ in length.

    Source: the weights are those of the unbiased expected best of m out of n (Tang et al., Showing Your Work
    Doesn't Always Work, ACL 2020).
    """
    validation = np.asarray(values, dtype=np.float64)
    test = np.full_like(validation, np.nan) if tests is None else np.asarray(tests, dtype=np.float64)
    if test.shape != validation.shape:
        raise ValueError(
            f"expected as many test values as validation values, got {test.shape} and {validation.shape}"
        )
    if validation.size == 1:
        return SearchLuck(by_validation=0.0, by_test=0.0, df=1.0, is_choice=False)
    ended = ~np.isnan(validation)
    validation, test = validation[ended], test[ended]
    finite = np.isfinite(validation)
    if finite.sum() < 2:
        return None
    weights = _chances(validation, direction, share=_ADAPTIVE_SHARE if adaptive else _SHARE)
    known = finite & np.isfinite(test)
    # At least the test value of the best trial is needed, and some others.
    has_tests = bool(weights[known].sum() > 0.75 * weights[finite].sum() and known.sum() > 1)
    return SearchLuck(
        by_validation=_variance(validation[finite], weights[finite]),
        by_test=_variance(test[known], weights[known]) if has_tests else None,
        df=max(1.0, _effective(weights[known if has_tests else finite]) - 1),
    )


def _chances(values: NDArray[np.float64], direction: Direction, *, share: float) -> NDArray[np.float64]:
    """Return each trial's chance [N] to be the best of a randomly drawn share of the trials.

    Trials with equal values share their chances.
    """
    n = values.size
    m = max(1, int(n * share))
    rank = np.arange(1, n)
    # Compute C(n - r, m - 1) / C(n, m) by ratios: the binomials of a long search overflow.
    by_rank = m / n * np.cumprod(np.concatenate([[1.0], (n - rank - m + 1) / (n - rank)]))
    _, places, counts = np.unique(-sign(direction) * values, return_inverse=True, return_counts=True)
    return (np.add.reduceat(by_rank, np.cumsum(counts) - counts) / counts)[places]


def _variance(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the variance of values [N] under weights [N], which need not add up to 1."""
    share = weights / weights.sum()
    return float(share @ (values - share @ values) ** 2)


def _effective(weights: NDArray[np.float64]) -> float:
    """Return the number of equal weights with the same effect: (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())
