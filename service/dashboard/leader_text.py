"""Which arm leads the search, in words: a first impression, since search values do not compare arms."""

__all__ = ["describe_leader", "ranked"]

from collections.abc import Mapping, Sequence

from studies.catalog import WorkloadCard
from studies.direction import best_value, sign
from studies.formatting import metric
from studies.views import ArmView, Best, BestValue


def ranked(arms: Sequence[ArmView], card: WorkloadCard) -> list[tuple[ArmView, Best]]:
    """Return the arms that have a completed trial with their best, best first; ties keep their order."""
    with_best = [(arm, arm.best) for arm in arms if arm.best is not None]
    return sorted(with_best, key=lambda pair: -sign(card.direction) * pair[1].value)


def describe_leader(best: Sequence[BestValue], card: WorkloadCard, titles: Mapping[str, str]) -> str | None:
    """Return the leading arms with their value, e.g. 'AdamP 98.12 %'; None before a trial has completed.

    Args:
        best: the best of each arm that has a completed trial, arms in their order.
        card: the workload's card.
        titles: titles of optimizers by name; an arm with a name of its own is called by that.
    """
    values = [best_value((one.highest, one.lowest), card.direction) for one in best]
    if not values:
        return None
    lead = best_value(values, card.direction)
    leaders = [
        titles.get(one.arm, one.arm) if one.arm == one.optimizer else one.arm
        for one, value in zip(best, values, strict=True)
        if value == lead
    ]
    return f"{', '.join(leaders[:3])}{' …' if len(leaders) > 3 else ''} {metric(lead, card.unit)}"
