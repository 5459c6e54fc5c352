"""What is shown of a budget verdict: its differences to the leading arm, and at which budgets."""

__all__ = ["arms_in_view", "budgets_to_show", "differences_to_leader", "has_budget_verdict"]

from collections.abc import Iterable
from typing import Final

from studies.analysis.views import BudgetVerdict, DifferencePoint, StudyAnalysis

_IN_VIEW: Final = 5.0


def has_budget_verdict(analysis: StudyAnalysis) -> bool:
    """Return whether a study has enough paired trials for a budget verdict, now or once they have ended.

    The confirmed configurations are then judged as configurations, and not as results of their optimizers.
    """
    return analysis.by_budget is not None and analysis.by_budget.state != "too few pairs"


def differences_to_leader(verdict: BudgetVerdict) -> dict[str, tuple[DifferencePoint, ...]]:
    """Return each other arm minus the leader over all budgets, the best at the primary budget first.

    Empty unless the arms have been judged.
    """
    if not verdict.arms:
        return {}
    leader = verdict.arms[0].arm
    found = {pair.first: pair.points for pair in verdict.differences if pair.second == leader}
    found |= {
        pair.second: tuple(_turned(point) for point in pair.points)
        for pair in verdict.differences
        if pair.first == leader
    }
    return {each.arm: found[each.arm] for each in verdict.arms if each.arm in found}


def arms_in_view(verdict: BudgetVerdict) -> frozenset[str]:
    """Return the arms whose differences fit one chart; all arms if there are no differences.

    An arm far behind would squeeze the differences of all others. It is left out if it is many times farther
    behind the leader than the next arm, or than half the width of that arm's band if this is larger.
    """
    differences = differences_to_leader(verdict)
    at_primary = {
        name: point
        for name, points in differences.items()
        for point in points
        if point.trials == verdict.primary
    }
    if not at_primary:
        return frozenset(each.arm for each in verdict.arms)
    distances = {name: abs(point.difference) for name, point in at_primary.items()}
    nearest = min(distances, key=lambda name: distances[name])
    low, high = at_primary[nearest].low, at_primary[nearest].high
    half_width = 0.0 if low is None or high is None else (high - low) / 2
    reach = _IN_VIEW * max(distances[nearest], half_width)
    return frozenset({verdict.arms[0].arm, *(name for name, d in distances.items() if d <= reach)})


def budgets_to_show(primary: int, budgets: Iterable[int]) -> list[int]:
    """Return the budgets that tables show, ascending: 2 (or the smallest), the primary and the largest."""
    every = sorted({*budgets, primary})
    return sorted({2 if 2 in every else every[0], primary, every[-1]})


def _turned(point: DifferencePoint) -> DifferencePoint:
    return DifferencePoint(
        trials=point.trials,
        difference=-point.difference,
        low=None if point.high is None else -point.high,
        high=None if point.low is None else -point.low,
    )
