"""Who leads a search, in words: a first look, never a winner, for nothing of a search has been confirmed."""

__all__ = ["leader", "ranked"]

from collections.abc import Mapping, Sequence

from studies.catalog import WorkloadCard
from studies.direction import best_value, sign
from studies.formatting import metric
from studies.views import ArmView, Best, BestValue


def ranked(arms: Sequence[ArmView], card: WorkloadCard) -> list[tuple[ArmView, Best]]:
    """Return the arms that have a completed trial with their best, best first.

    Arms that are level keep their order.
    """
    have = [(arm, arm.best) for arm in arms if arm.best is not None]
    return sorted(have, key=lambda pair: -sign(card.direction) * pair[1].value)


def leader(best: Sequence[BestValue], card: WorkloadCard, titles: Mapping[str, str]) -> str | None:
    """Return who leads the search with how much.

    For example 'AdamP 98.12 %', or None before any trial has completed.

    Args:
        best: of each arm that has a completed trial, arms in their order.
        card: the workload's.
        titles: what optimizers are called for people, by name; an arm that was given a name of its own goes
            by that.
    """
    values = [best_value((one.highest, one.lowest), card.direction) for one in best]
    if not values:
        return None
    value = best_value(values, card.direction)
    level = [
        titles.get(one.arm, one.arm) if one.arm == one.optimizer else one.arm
        for one, has in zip(best, values, strict=True)
        if has == value
    ]
    return f"{', '.join(level[:3])}{' …' if len(level) > 3 else ''} {metric(value, card.unit)}"
