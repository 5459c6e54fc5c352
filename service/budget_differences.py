"""What is shown of a verdict by budget: its differences to the leading arm, and at which budgets."""

__all__ = ["budgets_to_show", "differences_to_leader", "has_budget_verdict"]

from collections.abc import Iterable

from studies.analysis.views import BudgetVerdict, DifferencePoint, StudyAnalysis


def has_budget_verdict(analysis: StudyAnalysis) -> bool:
    """Return whether a study has enough paired trials for a verdict by budget, now or once they have ended.

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
