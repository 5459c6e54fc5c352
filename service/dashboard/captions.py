"""Who leads a search, in words: a first look, never a winner, for nothing of a search has been confirmed."""

__all__ = ["leader", "ranked"]

from collections.abc import Sequence

from service.dashboard.figures.chart import label
from studies.analysis.numbers import metric
from studies.catalog import WorkloadCard
from studies.views import ArmView, Best


def ranked(arms: Sequence[ArmView], card: WorkloadCard) -> list[tuple[ArmView, Best]]:
    """Return the arms that have a completed trial with their best, best first; arms that are level keep their order."""
    have = [(arm, arm.best) for arm in arms if arm.best is not None]
    return sorted(have, key=lambda pair: pair[1].value, reverse=card.direction == "maximize")


def leader(arms: Sequence[ArmView], card: WorkloadCard) -> str | None:
    """Return who leads the search with how much, e.g. 'AdamP 98.12 %', or None before any trial has completed."""
    order = ranked(arms, card)
    if not order:
        return None
    value = order[0][1].value
    level = [label(arm) for arm, best in order if best.value == value]
    return f"{', '.join(level[:3])}{' …' if len(level) > 3 else ''} {metric(value, card.unit)}"
