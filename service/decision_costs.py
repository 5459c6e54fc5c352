"""What a study can show and what it costs to decide its arms, estimated before it starts."""

__all__ = ["DecisionCost", "decision_costs", "visible_gap"]

from typing import Final

from pydantic import Field

from studies.frozen_model import FrozenModel
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec

_GAPS: Final = (0.5, 1.0, 2.0, 5.0)
# The number of pairs of arms grows with the square, and so does the time of the simulation.
_MOST_ARMS: Final = 16


class DecisionCost(FrozenModel):
    """The average cost of a study if its arms, in order, are a certain gap apart."""

    gap: float = Field(description="True difference of neighbouring arms, in percentage points.")
    trials: float = Field(description="Mean number of trials of the search, all arms together.")
    decided: float = Field(description="Share of such studies that decide all requested pairs, in [0, 1].")


def decision_costs(spec: StudySpec, plan: ResolvedStudy, *, unpaired: int) -> tuple[DecisionCost, ...]:
    """Return the cost for gaps of 0.5, 1, 2 and 5 points.

    Empty if the study adds no pairs, has more than 16 arms, or is judged by a metric that is not a fraction,
    whose spread is not known.

    Args:
        spec: the study.
        plan: the same study, resolved.
        unpaired: trials of the search that are not paired, all arms together.
    """
    search, arms = spec.search, len(plan.arms)
    if search.until is None or search.verdict_at is None:
        return ()
    if plan.workload.unit != "fraction" or not 2 <= arms <= _MOST_ARMS:
        return ()
    # The client and the command line import the model above, but never this and with it numpy.
    from studies.statistics.until_decided import TYPICAL_SPREAD, expected_cost, looks

    planned = looks(search.pairs, search.pairs + search.most_added)
    places = {arm.name: place for place, arm in enumerate(plan.arms)}
    asked = search.until.pairs
    pairs = None if asked is None else [(places[first], places[second]) for first, second in asked]
    found = [
        expected_cost(
            gap=gap,
            spread=TYPICAL_SPREAD,
            arms=arms,
            primary=search.verdict_at,
            planned=planned,
            pairs=pairs,
            can_drop=search.until.drop_losers,
        )
        for gap in _GAPS
    ]
    return tuple(
        DecisionCost(gap=cost.gap, trials=unpaired + cost.trials, decided=cost.decided) for cost in found
    )


def visible_gap(spec: StudySpec, plan: ResolvedStudy) -> float | None:
    """Return the true difference of two arms, in percentage points, that the study detects in 80 %.

    With `until` it is that of all pairs that may be added. None if there is no budget verdict, if there is
    one arm, or if the study is judged by a metric that is not a fraction, whose spread is not known.

    Args:
        spec: the study.
        plan: the same study, resolved.
    """
    search, arms = spec.search, len(plan.arms)
    if search.verdict_at is None or arms < 2 or plan.workload.unit != "fraction":
        return None
    # See above.
    from studies.statistics.power import detectable_gap
    from studies.statistics.until_decided import TYPICAL_SPREAD
    from studies.statistics.verdict import LEVEL

    asked = None if search.until is None else search.until.pairs
    judged = arms * (arms - 1) // 2 if asked is None else len(asked)
    return detectable_gap(
        TYPICAL_SPREAD,
        n=search.pairs + search.most_added,
        primary=search.verdict_at,
        # All pairs of arms share the 5 %; the verdict's own correction is a little less strict.
        level=LEVEL / judged,
    )
