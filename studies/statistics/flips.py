"""Budgets at which the lead changes from one arm to another."""

__all__ = ["Flip", "lead_changes"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction
from studies.statistics.orientation import oriented


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A change of the lead: from `trials` on, `after` leads instead of `before`."""

    trials: int
    before: str
    after: str


def lead_changes(
    curves: Mapping[str, ArrayLike],
    trials: ArrayLike,
    *,
    direction: Direction,
    margin: float = 0.0,
    lasting: float = 1.25,
) -> tuple[Flip, ...]:
    """Return the budgets at which the leading arm changes, in ascending order.

    An arm that draws level does not take the lead. A lead is ignored if it never exceeds `margin`, or if it
    ends before the budget has grown by the factor `lasting`, unless it lasts to the end.

    Args:
        curves: arm to its curve, [K] at the budgets of `trials`; NaN while it has no value.
        trials: [K] budgets, ascending.
        direction: which way is better.
        margin: difference up to which two arms count as tied, such as the standard error of one value.
        lasting: factor by which the budget must grow during a lead for the lead to count.
    """
    if not curves:
        return ()
    arms = list(curves)
    budgets = np.asarray(trials, dtype=np.float64)
    # [A, K], larger is better; an arm without a value is behind every arm that has one.
    values = np.stack([oriented(curve, direction) for curve in curves.values()])
    values = np.where(np.isnan(values), -np.inf, values)
    leads = _leads(values)
    if not leads:
        return ()
    before = leads[0][1]
    ends = [*(begin for begin, _ in leads[1:]), budgets.size]
    flips: list[Flip] = []
    for (begin, leader), end in zip(leads, ends, strict=True):
        ahead = values[leader, begin:end] > values[before, begin:end] + margin
        lasts = end == budgets.size or budgets[end] >= lasting * budgets[begin]
        if leader != before and lasts and bool(ahead.any()):
            flips.append(Flip(trials=int(budgets[begin]), before=arms[before], after=arms[leader]))
            before = leader
    return tuple(flips)


def _leads(values: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return where each lead begins and which arm has it, in order; empty before any arm has a value."""
    leads: list[tuple[int, int]] = []
    for at, column in enumerate(values.T):
        best = int(np.argmax(column))
        if column[best] > (column[leads[-1][1]] if leads else -np.inf):
            leads.append((at, best))
    return leads
