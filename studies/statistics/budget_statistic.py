"""The expected test value of the best of k trials by validation, and what it is without each trial.

In this module all values are oriented: larger is better, and a diverged trial has the validation value -inf.
"""

__all__ = ["RankedTrials", "chosen_test", "chosen_test_without_each"]

import functools
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]
_Whole = NDArray[np.int64]


def chosen_test(validation: ArrayLike, test: ArrayLike, budgets: ArrayLike) -> _Floats:
    """Return the expected test value of the best of k trials by validation at each budget k, [K].

    It is the mean, over all sets of k of the n trials, of the test value of the set's best trial by
    validation:

        U_k = sum_r C(n-r, k-1) / C(n, k) t_(r), r = 1..n the rank by validation, 1 the best.

    Trials of equal validation value share their weights, so their order does not matter. It is unbiased for
    trials that are drawn independently.

    Args:
        validation: [N] validation values, oriented; -inf for a diverged trial.
        test: [N] finite test values of the same trials, oriented.
        budgets: [K] numbers of trials, each from 1 to N.

    Raises:
        ValueError: a budget is below 1 or above N.
    """
    return RankedTrials.of(validation, test).chosen(budgets)


def chosen_test_without_each(validation: ArrayLike, test: ArrayLike, budgets: ArrayLike) -> _Floats:
    """Return `chosen_test` without each trial in turn, [K, N], in the order given.

    It takes O(K N + N log N) steps.

    Args:
        validation: [N] as in `chosen_test`.
        test: [N] as in `chosen_test`.
        budgets: [K] numbers of trials, each from 1 to N - 1.

    Raises:
        ValueError: a budget is below 1 or above N - 1.
    """
    return RankedTrials.of(validation, test).chosen_without_each(budgets)


@dataclass(frozen=True)
class RankedTrials:
    """Trials in groups of equal validation values, the best group first.

    Attributes:
        tests: [N] test values in the order given.
        groups: [N] each trial's group.
        starts: [G] how many trials come before each group.
        ends: [G] `starts` of the next group.
        sums: [G] the sum of a group's test values.
    """

    tests: _Floats
    groups: _Whole
    starts: _Whole
    ends: _Whole
    sums: _Floats

    @classmethod
    def of(cls, validation: ArrayLike, test: ArrayLike) -> Self:
        """Rank trials by validation; both arrays as `chosen_test` takes them."""
        values = np.asarray(validation, dtype=np.float64)
        tests = np.asarray(test, dtype=np.float64)
        _, groups, sizes = np.unique(-values, return_inverse=True, return_counts=True)
        ends = np.cumsum(sizes)
        sums = np.bincount(groups, weights=tests, minlength=len(sizes)).astype(np.float64)
        return cls(tests, groups, ends - sizes, ends, sums)

    def chosen(self, budgets: ArrayLike) -> _Floats:
        """Return `chosen_test` at each budget, [K]."""
        heads = _cumulative_weights(self.tests.size, _checked(budgets, self.tests.size))
        shares = (heads[:, self.ends] - heads[:, self.starts]) / (self.ends - self.starts)
        return shares @ self.sums

    def chosen_without_each(self, budgets: ArrayLike) -> _Floats:
        """Return `chosen_test` without each trial in turn, [K, N], in the order given."""
        last = self.tests.size - 1
        heads = _cumulative_weights(last, _checked(budgets, last))
        starts, ends, sums = self.starts, self.ends, self.sums
        sizes = ends - starts
        # A group of equal validation values stays in its place if a later trial is left out, and moves up by
        # one place if an earlier one is. The first group never moves, and the last one never stays.
        stays = (heads[:, np.minimum(ends, last)] - heads[:, starts]) / sizes * sums
        moves = (heads[:, ends - 1] - heads[:, np.maximum(starts - 1, 0)]) / sizes * sums
        shrinks = (heads[:, ends - 1] - heads[:, starts]) / np.maximum(sizes - 1, 1)
        earlier = np.cumsum(stays, axis=1) - stays
        later = np.cumsum(moves[:, ::-1], axis=1)[:, ::-1] - moves
        group = self.groups
        rest = sums[group] - self.tests
        return earlier[:, group] + later[:, group] + shrinks[:, group] * rest


def _checked(budgets: ArrayLike, most: int) -> _Whole:
    ks = np.asarray(budgets, dtype=np.int64)
    if ks.size and (ks.min() < 1 or ks.max() > most):
        raise ValueError(f"expected budgets from 1 to {most}, got {ks.min()} to {ks.max()}")
    return ks


def _cumulative_weights(n: int, budgets: _Whole) -> _Floats:
    """Return the chance that the best of k of n trials is among the first r of them, r = 0..n, [K, n + 1]."""
    return _cached_weights(n, tuple(budgets.tolist()))


# An analysis asks for the same few again for every arm and pair of arms.
@functools.lru_cache(maxsize=16)
def _cached_weights(n: int, budgets: tuple[int, ...]) -> _Floats:
    # The chance that none of k drawn trials is among the first r: a product of ratios below 1.
    drawn = np.array(budgets, dtype=np.int64)[:, None]
    places = np.arange(n, dtype=np.float64)
    misses = np.cumprod(np.maximum(n - places - drawn, 0) / (n - places), axis=1)
    return np.concatenate([np.zeros((len(budgets), 1)), 1 - misses], axis=1).astype(np.float64)
