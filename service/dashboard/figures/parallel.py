"""Parallel coordinates: where the best trials of each arm lie in the range of every hyperparameter."""

__all__ = ["parallel_charts"]

import math
from collections.abc import Sequence
from typing import Final

from service.dashboard.figures.axes import Axis
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from service.dashboard.theme import arm_style
from studies.direction import rank_key
from studies.formatting import ABSENT, metric, percent, plural, scalar
from studies.space import Choices, Fixed, Range, Scalar
from studies.states import TrialState
from studies.views import TrialView

_BEST: Final = 0.05
_LEAST: Final = 3
_MOST: Final = 40
_MOST_AXES: Final = 12


def parallel_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the chart; none if no arm searches two hyperparameters, or before a trial has completed."""
    dimensions: dict[str, list[Range | Choices]] = {}
    for arm in data.arms:
        for name, dimension in arm.space.items():
            if not isinstance(dimension, Fixed):
                dimensions.setdefault(name, []).append(dimension)
    # Hyperparameters that most arms search come first, so that lines have few gaps.
    names = sorted(dimensions, key=lambda name: -len(dimensions[name]))[:_MOST_AXES]
    best = {arm.name: _best(data, arm.name) for arm in data.arms}
    if len(names) < 2 or not any(best.values()):
        return ()
    drawing = Drawing(
        Axis(title="", labels=tuple(names), range=(-0.35, len(names) - 0.65)),
        Axis(title="place in the range", range=(-0.12, 1.12)),
    )
    drawing.layout["yaxis"] |= {"showticklabels": False, "showgrid": False, "ticks": "", "showline": False}
    scales = [_Scale(dimensions[name]) for name in names]
    for arm in data.arms:
        style = arm_style(arm.style)
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for trial in best[arm.name]:
            for place, (name, scale) in enumerate(zip(names, scales, strict=True)):
                if name in arm.space and name in trial.parameters:
                    x.append(place)
                    y.append(scale.at(trial.parameters[name]))
                    value = metric(trial.value, data.card.unit)
                    texts.append(f"trial {trial.number}: {name} = {scalar(trial.parameters[name])}, {value}")
            x.append(None)
            y.append(None)
            texts.append("")
        if texts:
            drawing.add(
                arm,
                x,
                y,
                mode="lines+markers",
                opacity=0.75,
                line={"color": style.colour, "dash": style.dash, "width": 1.5},
                marker={"color": style.colour, "symbol": style.marker, "size": 7},
                text=texts,
                hovertemplate=f"{arm.label} %{{text}}<extra></extra>",
            )
    # The ends of each range stand above and below its axis.
    drawing.layout["annotations"] = [
        {
            "x": place,
            "y": end,
            "yanchor": "bottom" if end else "top",
            "yshift": 4 if end else -4,
            "showarrow": False,
            "text": text,
            "font": {"color": "var(--ink-soft)", "size": 11},
        }
        for place, scale in enumerate(scales)
        for end, text in enumerate(scale.ends)
    ]
    left_out = len(dimensions) - len(names)
    more = f" {plural(left_out, 'more hyperparameter')} in the table of trials." if left_out else ""
    return (
        Chart(
            id="parallel-coordinates",
            title="Each arm's best trials",
            caption=(
                f"One line for each of the best {percent(_BEST)} of an arm's completed trials, at least "
                f"{_LEAST}: where its values lie in the searched ranges.{more}"
            ),
            headers=("Arm", "Trial", f"Validation {data.card.metric}", *names),
            rows=tuple(
                (
                    arm.label,
                    str(trial.number),
                    metric(trial.value, data.card.unit),
                    *(scalar(trial.parameters[n]) if n in trial.parameters else ABSENT for n in names),
                )
                for arm in data.arms
                for trial in best[arm.name]
            ),
            json=drawing.json(),
            is_wide=True,
        ),
    )


def _best(data: FigureData, arm: str) -> list[TrialView]:
    mine = [
        t for t in data.trials if t.arm == arm and t.state is TrialState.COMPLETED and t.value is not None
    ]
    mine.sort(key=lambda t: rank_key(t.value or 0.0, t.number, data.card.direction))
    return mine[: min(_MOST, max(_LEAST, math.ceil(_BEST * len(mine))))]


class _Scale:
    """The axis of one hyperparameter, from 0 to 1, for all arms that search it."""

    def __init__(self, dimensions: Sequence[Range | Choices]) -> None:
        """Fit an axis to these dimensions: numbers if all are ranges, else choices."""
        ranges = [d for d in dimensions if isinstance(d, Range)]
        self._choices: list[str] = []
        self._is_log, self._low, self._high = False, 0.0, 1.0
        if len(ranges) == len(dimensions):
            self._is_log = all(d.log for d in ranges)
            self._low, self._high = min(d.low for d in ranges), max(d.high for d in ranges)
            self.ends = (scalar(self._low), scalar(self._high))
        else:
            offered = [
                c for d in dimensions for c in (d.choices if isinstance(d, Choices) else (d.low, d.high))
            ]
            self._choices = list(dict.fromkeys(scalar(choice) for choice in offered))
            self.ends = (self._choices[0], self._choices[-1])

    def at(self, value: Scalar) -> float | None:
        """Return the place of a value; None if it is not on the axis."""
        if self._choices:
            known = scalar(value) in self._choices
            return self._choices.index(scalar(value)) / max(1, len(self._choices) - 1) if known else None
        if isinstance(value, bool | str) or not self._low <= value <= self._high:
            return None
        if self._high == self._low:
            return 0.5
        if self._is_log:
            return math.log(value / self._low) / math.log(self._high / self._low)
        return (value - self._low) / (self._high - self._low)
