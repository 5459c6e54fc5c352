"""Lines of budget curves: what an arm's search reaches by trials, epochs or seconds spent."""

__all__ = [
    "OUTSIDE",
    "Against",
    "budget_axis",
    "changes",
    "curve_values",
    "draw_curve",
    "known_points",
    "line_markers",
    "mark_outside",
]

from collections.abc import Sequence
from typing import Any, Final, Literal

from service.dashboard.figures.axes import Axis, whole_axis
from service.dashboard.figures.chart import ChartArm, Drawing
from service.dashboard.theme import arm_style
from studies.analysis.views import BudgetCurve, BudgetPoint
from studies.formatting import metric, metric_unit, plural
from studies.views import ArmView

Against = Literal["trials", "epochs", "seconds"]
"""What a budget is counted in."""

OUTSIDE: Final = "Triangles at the edge: values outside the axis."
"""The caption's note on such marks."""


def known_points(curve: BudgetCurve) -> list[BudgetPoint]:
    """Return the points of a curve that have a value."""
    return [p for p in curve.points if p.value is not None]


def _spent(point: BudgetPoint, against: Against) -> float:
    """Return the budget of a point."""
    return {"trials": float(point.trials), "epochs": point.epochs, "seconds": point.elapsed_s}[against]


def budget_axis(against: Against, *, last: int, of_trials: str = "trials of an arm") -> Axis:
    """Return the axis of budgets.

    Args:
        against: what they are counted in.
        last: the most trials.
        of_trials: title of the axis of trials.
    """
    match against:
        case "trials":
            return whole_axis(of_trials, last)
        case "epochs":
            return Axis(title="epochs trained by an arm")
        case "seconds":
            return Axis(title="training seconds of an arm")


def draw_curve(drawing: Drawing, arm: ArmView | ChartArm, curve: BudgetCurve, against: Against) -> None:
    """Draw the curve of an arm with its band, if it has one; a search that was run in order is a stair."""
    points = known_points(curve)
    shape: Literal["linear", "hv"] = (
        "hv" if curve.method in {"best so far", "median of replicates"} else "linear"
    )
    x, y = [_spent(p, against) for p in points], [p.value for p in points]
    band = [
        (at, p.low, p.high)
        for at, p in zip(x, points, strict=True)
        if p.low is not None and p.high is not None
    ]
    if band:
        drawing.band(
            arm,
            [at for at, _, _ in band],
            [low for _, low, _ in band],
            [high for _, _, high in band],
            shape=shape,
        )
    markers = line_markers(y, is_stair=shape == "hv", offset=arm.position)
    drawing.line(arm, x, y, shape=shape, markers=markers)


def mark_outside(
    drawing: Drawing,
    arm: ArmView | ChartArm,
    values: Sequence[tuple[float, float, str]],
    ends: tuple[float, float] | None,
    **trace: Any,
) -> bool:
    """Mark values beyond the ends of an axis at its edge; return whether there are any.

    Args:
        drawing: where to draw.
        arm: the arm.
        values: budget, value and the value in words.
        ends: the ends of the axis of values; None if it fits all.
        trace: further attributes of Plotly's trace.
    """
    out = [] if ends is None else [each for each in values if not ends[0] <= each[1] <= ends[1]]
    if ends is None or not out:
        return False
    is_low = [value < ends[0] for _, value, _ in out]
    drawing.add(
        arm,
        [x for x, _, _ in out],
        [ends[0] if below else ends[1] for below in is_low],
        mode="markers",
        meta={"arm": arm.name, "outside": True},
        cliponaxis=False,
        marker={
            "color": arm_style(arm.style).colour,
            "symbol": ["triangle-down-open" if below else "triangle-up-open" for below in is_low],
            "size": 8,
        },
        text=[text for _, _, text in out],
        hovertemplate=f"{arm.label}, outside the axis: %{{text}}<extra></extra>",
        **trace,
    )
    return True


def curve_values(curve: BudgetCurve, against: Against, *, unit: str) -> list[tuple[float, float, str]]:
    """Return the points of a curve as `mark_outside` takes them."""
    return [
        (
            _spent(p, against),
            p.value or 0.0,
            f"{metric(p.value, unit)}{metric_unit(unit)} after {plural(p.trials, 'trial')}",
        )
        for p in known_points(curve)
    ]


def line_markers(values: Sequence[float | None], *, is_stair: bool, offset: int) -> Sequence[int]:
    """Return the points with a marker: the steps of a stair, or about ten points of a smooth line.

    `offset` shifts the latter, so that the markers of two arms do not coincide.
    """
    if is_stair:
        return [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    every = max(1, len(values) // 10)
    return range(offset % every, len(values), every)


def changes(points: Sequence[BudgetPoint]) -> list[BudgetPoint]:
    """Return the points for a table: those where the value or its band changes, and the last."""
    return [
        p
        for i, p in enumerate(points)
        if i in {0, len(points) - 1}
        or (p.value, p.low, p.high) != (points[i - 1].value, points[i - 1].low, points[i - 1].high)
    ]
