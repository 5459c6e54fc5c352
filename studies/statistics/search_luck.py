"""How much luck there is in one search.

Had it been run again, how far off might the configuration that it chooses be?

Two arms with one optimizer and one space, whose samplers draw differently, end at different configurations,
and no number of seeds makes these equal: a comparison of optimizers has to allow for it. One search tells of
another by its own parts. Draw m of its n trials: the best of them by validation is the trial of rank r with
probability C(n - r, m - 1) / C(n, m), which is about 2^-r for a half. The variance of the test values under
these weights is that between the choices of searches so much shorter, seed noise and the gap between the
splits included.
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
    """How far the configuration that a search chose would vary, were the search repeated.

    Attributes:
        by_validation: variance of the validation value of the chosen one between parts of the search, in the
            metric's unit squared.
        by_test: the same of its test value; None where test values are not on record.
        df: degrees of freedom that these are worth.
        is_choice: whether there was anything to choose; a search of one trial has no luck.
    """

    by_validation: float
    by_test: float | None
    df: float
    is_choice: bool = True

    def variance(self, *, noise: float) -> float:
        """Return the variance, between repeated searches, of the chosen configuration's worth.

        What counts is what it is worth on the test split.

        The larger of two estimates counts. `by_test` shows whatever makes the chosen one's test value
        uncertain, but rests on a few trials. `by_validation` lacks what validation values cannot show: of
        configurations that look alike the luckiest is chosen, so that its true value varies besides by up to
        the noise of one run (tau^2 s^2 / (tau^2 + s^2) for noise s and a normal spread tau among the
        contenders). Half of noise^2, its value at tau = s, is added to it, and all of it where no test values
        are on record.

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
    """Return the luck of a search from its trials, or None where fewer than two of several have a value.

    Then nothing can be said.

    Parts are halves, and quarters of an adaptive search, whose trials lie closer together than those of
    another one would. Where that errs: parts of one search resemble each other, which makes it too small, by
    about 0.8 on the scale of standard deviations with a normal spread of the trials and 0.7 with an
    exponential upper tail; shorter searches are further from the best, which makes it too large, by 2^(2/d)
    near the best point of a smooth surface in d dimensions. `docs/statistics.md` tells how often the verdicts
    built on it are wrong.

    Args:
        values: validation values [N]; NaN without one (pruned, failed), which are left out; infinite where
            diverged: they rank last.
        direction: which way is better.
        adaptive: whether the sampler learned from earlier trials.
        tests: test values [N] of the same trials; one that is not finite counts as not on record.

    Raises:
        ValueError: values and tests differ in length.

    Source: the weights are those of the unbiased expected best of m out of n (Tang et al., Showing Your Work
    Doesn't Always Work, ACL 2020).
    """
    shown = np.asarray(values, dtype=np.float64)
    told = np.full_like(shown, np.nan) if tests is None else np.asarray(tests, dtype=np.float64)
    if told.shape != shown.shape:
        raise ValueError(
            f"expected as many test values as validation values, got {told.shape} and {shown.shape}"
        )
    if shown.size == 1:
        return SearchLuck(by_validation=0.0, by_test=0.0, df=1.0, is_choice=False)
    ended = ~np.isnan(shown)
    shown, told = shown[ended], told[ended]
    finite = np.isfinite(shown)
    if finite.sum() < 2:
        return None
    weights = _chances(shown, direction, share=_ADAPTIVE_SHARE if adaptive else _SHARE)
    known = finite & np.isfinite(told)
    # The best trial's own test value at least has to be there, and others beside it.
    is_told = bool(weights[known].sum() > 0.75 * weights[finite].sum() and known.sum() > 1)
    return SearchLuck(
        by_validation=_variance(shown[finite], weights[finite]),
        by_test=_variance(told[known], weights[known]) if is_told else None,
        df=max(1.0, _effective(weights[known if is_told else finite]) - 1),
    )


def _chances(values: NDArray[np.float64], direction: Direction, *, share: float) -> NDArray[np.float64]:
    """Return each trial's chance [N] to be the best of a share of the trials drawn at random.

    Equal values share theirs.
    """
    n = values.size
    m = max(1, int(n * share))
    rank = np.arange(1, n)
    # C(n - r, m - 1) / C(n, m) by its ratios: binomials of a long search overflow.
    by_rank = m / n * np.cumprod(np.concatenate([[1.0], (n - rank - m + 1) / (n - rank)]))
    _, places, counts = np.unique(-sign(direction) * values, return_inverse=True, return_counts=True)
    return (np.add.reduceat(by_rank, np.cumsum(counts) - counts) / counts)[places]


def _variance(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the variance of values [N] under weights [N], which need not add up to 1."""
    share = weights / weights.sum()
    return float(share @ (values - share @ values) ** 2)


def _effective(weights: NDArray[np.float64]) -> float:
    """Return how many equal weights would be worth as much: (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())
