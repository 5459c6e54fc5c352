"""Axes of charts: titles, ranges and ticks."""

__all__ = ["Axis", "fitted", "log_tick", "metric_axis", "metric_range", "sparse", "whole_axis"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from studies.catalog import WorkloadCard


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a chart.

    Attributes:
        title: what it measures, with its unit.
        is_log: whether it is a log axis.
        tick: Plotly's step between ticks, None for Plotly's choice; on a log axis 1 means powers of ten, 2
            every other power, "D2" 1, 2 and 5 of each.
        tick_format: d3 format of a linear axis.
        labels: texts at 0, 1, 2, ...; empty for an axis of numbers.
        range: the ends of the axis; None to fit the data.
    """

    title: str
    is_log: bool = False
    tick: int | str | None = None
    tick_format: str | None = None
    labels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None

    @property
    def layout(self) -> dict[str, Any]:
        """The axis in Plotly's terms, in the page's style."""
        # Plain numbers on log axes: Plotly's powers of ten need inline styles.
        scale = (
            {"type": "log", "tickformat": "~g"}
            if self.is_log
            else {"type": "linear", "tickformat": self.tick_format}
        )
        if self.labels:
            scale |= {
                "tickmode": "array",
                "tickvals": list(range(len(self.labels))),
                "ticktext": list(self.labels),
            }
        return {
            **scale,
            "dtick": self.tick,
            "title": {"text": self.title, "standoff": 8, "font": {"size": 13}},
            "range": self.range,
            "tickangle": 0,
            "gridcolor": "var(--grid)",
            "linecolor": "var(--rule-strong)",
            "zeroline": False,
            "ticks": "outside",
            "tickcolor": "var(--rule-strong)",
            "showline": True,
        }


def metric_axis(card: WorkloadCard, split: Literal["validation", "test"] = "validation") -> Axis:
    """Return the axis of the workload's metric on a split."""
    if card.unit == "fraction":
        return Axis(title=f"{split} {card.metric}", tick_format=".4~p")
    unit = "" if card.unit in {"none", ""} else f" ({card.unit})"
    return Axis(title=f"{split} {card.metric}{unit}", tick_format=".4~g")


def metric_range(card: WorkloadCard, values: Sequence[float], *, shown: float) -> tuple[float, float] | None:
    """Return a range for the metric's axis from the best value to `shown` worse, None to fit all values.

    One bad trial would squeeze all good ones into a tenth of the axis. A caption has to say what is clipped.
    Where all values are equal, the range is a tenth of the value, because Plotly's own range would run below
    0 and above 100 %.
    """
    best, worst = (max(values), min(values)) if card.direction == "maximize" else (min(values), max(values))
    if best == worst:
        room = 0.05 * abs(best) or 0.05
        return best - room, best + room
    if shown <= 0 or abs(best - worst) <= 1.5 * shown:
        return None
    room = 0.08 * shown
    return (best - shown, best + room) if card.direction == "maximize" else (best - room, best + shown)


def whole_axis(title: str, last: int) -> Axis:
    """Return an axis of whole numbers from 1 to last, with at most nine ticks, none at fractions."""
    steps = [digit * 10**power for power in range(9) for digit in (1, 2, 5)]
    step = next(step for step in steps if last <= 9 * step)
    return Axis(title=title, tick=step, tick_format="d", range=(0.5, 1.5) if last == 1 else None)


def log_tick(low: float, high: float, *, fits: int = 5) -> int | str | None:
    """Return the ticks of a log axis from low to high: at least two, and not too many.

    Where fewer than two of 1, 2 and 5 of each power of ten lie between low and high, the ticks are Plotly's,
    which are then at even steps. `fits` is how many powers of ten the axis has room for.
    """
    decades = math.log10(high / low)
    if decades > 1.5:
        return math.ceil(decades / fits)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return "D2" if sum(low <= tick <= high for tick in ticks) > 1 else None


def fitted(axis: Axis, values: Sequence[float | None]) -> Axis:
    """Return an axis with the ticks of a log axis fitted to the values; it is linear if none is positive."""
    positive = [value for value in values if value is not None and value > 0]
    if not axis.is_log or not positive:
        return replace(axis, is_log=False)
    return replace(axis, tick=log_tick(min(positive), max(positive), fits=8))


def sparse(points: int, *, offset: int) -> range:
    """Return the points of a line with markers: about twelve, shifted by `offset` so that arms differ."""
    every = max(1, points // 12)
    return range(offset % every, points, every)
