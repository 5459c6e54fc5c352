"""What each arm's search reaches by its budget.

Against trials, epochs or training seconds, with a band only where a valid one exists.
"""

__all__ = ["Against", "budget_charts"]

from collections.abc import Sequence
from typing import Final, Literal

from service.dashboard.figures.axes import Axis, metric_axis, metric_range, whole_axis
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from studies.analysis.views import BudgetCurve, BudgetPoint
from studies.direction import sign
from studies.formatting import count, duration, interval, metric, metric_unit, number, plural
from studies.views import ArmView

Against = Literal["trials", "epochs", "seconds"]

_TABLE_ROWS: Final = 200
_FLIPS_SAID: Final = 4
_ARMS_SAID: Final = 6


def budget_charts(data: FigureData, against: Against) -> tuple[Chart, ...]:
    """Return the chart of the budget curves against one kind of budget; none while no trial has a value."""
    lines = [(arm, curve) for arm, curve in _curves(data) if any(p.value is not None for p in curve.points)]
    if not lines:
        return ()
    drawing = Drawing(_axis(data, against, lines), metric_axis(data.card))
    rows: list[tuple[str, ...]] = []
    for arm, curve in lines:
        points = [p for p in curve.points if p.value is not None]
        shape: Literal["linear", "hv"] = "linear" if curve.method == "expected best of k" else "hv"
        x, y = [_place(p, against) for p in points], [p.value for p in points]
        banded = [
            (at, p.low, p.high)
            for at, p in zip(x, points, strict=True)
            if p.low is not None and p.high is not None
        ]
        if banded:
            drawing.band(
                arm,
                [at for at, _, _ in banded],
                [low for _, low, _ in banded],
                [high for _, _, high in banded],
                shape=shape,
            )
        drawing.line(arm, x, y, shape=shape, markers=_marked(y, is_stair=shape == "hv", offset=arm.position))
        rows += [_row(arm, p, data) for p in _told(points)]
    drawing.layout["xaxis"]["rangemode"] = "tozero"
    ends = _range(data, lines)
    drawing.layout["yaxis"]["range"] = ends
    is_clipped = ends is not None and any(
        not ends[0] <= (p.value or ends[0]) <= ends[1] for _, curve in lines for p in curve.points
    )
    said = [
        _finding(data, lines, against),
        _flips(data),
        _method([curve for _, curve in lines]),
        _pruned(data, against),
    ]
    said.append("The axis leaves out worse values from small budgets." if is_clipped else "")
    return (
        Chart(
            id="budget-curves",
            title=(
                f"Best validation {data.card.metric} by "
                f"{'training seconds' if against == 'seconds' else against} spent"
            ),
            caption=" ".join(part for part in said if part),
            headers=(
                "Arm",
                "Trials",
                "Epochs",
                "Training time",
                f"Validation {data.card.metric}",
                "95 % band",
            ),
            rows=tuple(rows[:_TABLE_ROWS]),
            json=drawing.json(),
            is_wide=True,
        ),
    )


def _curves(data: FigureData) -> list[tuple[ArmView, BudgetCurve]]:
    by_name = {curve.arm: curve for curve in data.analysis.curves}
    return [(arm, by_name[arm.name]) for arm in data.arms if arm.name in by_name]


def _place(point: BudgetPoint, against: Against) -> float:
    return {"trials": float(point.trials), "epochs": point.epochs, "seconds": point.elapsed_s}[against]


def _axis(data: FigureData, against: Against, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> Axis:
    match against:
        case "trials":
            title = (
                "trials of an arm, pruned ones not counted"
                if data.study.progress.pruned
                else "trials of an arm"
            )
            return whole_axis(title, max(p.trials for _, curve in lines for p in curve.points))
        case "epochs":
            return Axis(title="epochs trained by an arm")
        case "seconds":
            return Axis(title="training seconds of an arm")


def _marked(values: Sequence[float | None], *, is_stair: bool, offset: int) -> Sequence[int]:
    """Return which points carry a marker.

    A stair's steps, of a smooth line about ten, at other places for each arm.
    """
    if is_stair:
        return [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    every = max(1, len(values) // 10)
    return range(offset % every, len(values), every)


def _told(points: Sequence[BudgetPoint]) -> list[BudgetPoint]:
    """Return the points for the table: where the value or its band changes, and the last."""
    return [
        p
        for i, p in enumerate(points)
        if i in {0, len(points) - 1}
        or (p.value, p.low, p.high) != (points[i - 1].value, points[i - 1].low, points[i - 1].high)
    ]


def _row(arm: ArmView, point: BudgetPoint, data: FigureData) -> tuple[str, ...]:
    unit = data.card.unit
    return (
        arm.label,
        count(point.trials),
        number(point.epochs),
        duration(point.elapsed_s),
        metric(point.value, unit),
        interval(point.low, point.high, unit),
    )


def _finding(data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]], against: Against) -> str:
    card = data.card

    def end(curve: BudgetCurve) -> BudgetPoint:
        return [p for p in curve.points if p.value is not None][-1]

    def said(arm: ArmView, curve: BudgetCurve) -> str:
        point = end(curve)
        spent = {
            "trials": plural(point.trials, "trial"),
            "epochs": f"{number(point.epochs)} epochs",
            "seconds": duration(point.elapsed_s),
        }[against]
        return f"{arm.label} {metric(point.value, card.unit)}{metric_unit(card.unit)} with {spent}"

    order = sorted(lines, key=lambda line: -sign(card.direction) * (end(line[1]).value or 0.0))
    more = (
        f"; and {plural(len(order) - _ARMS_SAID, 'more arm')} in the table" if len(order) > _ARMS_SAID else ""
    )
    have = {arm.name for arm, _ in lines}
    missing = [arm.label for arm in data.arms if arm.name not in have]
    without = f" No completed trial yet: {', '.join(missing)}." if missing else ""
    return (
        "Reached with the whole budget: "
        f"{'; '.join(said(arm, curve) for arm, curve in order[:_ARMS_SAID])}{more}.{without}"
    )


def _flips(data: FigureData) -> str:
    if len(data.arms) < 2:
        return ""
    names = {arm.name: arm.label for arm in data.arms}
    flips = data.analysis.flips
    if not flips:
        return "The same arm leads at every budget."
    said = [
        f"from {plural(flip.trials, 'trial')} on {names[flip.after]} instead of {names[flip.before]}"
        for flip in flips[-_FLIPS_SAID:]
    ]
    earlier = (
        f" ({count(len(flips) - _FLIPS_SAID)} earlier changes are left out)"
        if len(flips) > _FLIPS_SAID
        else ""
    )
    return f"The lead changes with the budget: {', '.join(said)}{earlier}."


def _method(curves: Sequence[BudgetCurve]) -> str:
    """Return how the curves were computed and what the bands are; that there is none, where there is none."""
    methods = list(dict.fromkeys(curve.method for curve in curves))
    explained = {
        "expected best of k": "A line is the expected best of so many of the arm's random trials",
        "best so far": "A line is the best so far of one search, which another seed would draw otherwise",
        "median of replicates": "A line is the median over independent repetitions of the search",
    }
    bands = list(dict.fromkeys(curve.band for curve in curves if curve.band))
    band = f" Bands: {'; '.join(bands)}." if bands else " No band is drawn, for none is valid here."
    return f"{'; '.join(explained[method] for method in methods)}.{band}"


def _pruned(data: FigureData, against: Against) -> str:
    pruned = data.study.progress.pruned
    if not pruned:
        return ""
    counted = "they are not counted" if against == "trials" else f"their {against} are counted"
    return (
        f"{plural(pruned, 'trial')} {'was' if pruned == 1 else 'were'} pruned: no best "
        f"value is theirs, and {counted}."
    )


def _range(data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> tuple[float, float] | None:
    """Return a range of the value's axis that keeps the ends of all lines apart.

    None where all of it does.
    """
    values = [p.value for _, curve in lines for p in curve.points if p.value is not None]
    ends = [[p.value for p in curve.points if p.value is not None][-1] for _, curve in lines]
    bands = [
        end for _, curve in lines for p in curve.points[-1:] for end in (p.low, p.high) if end is not None
    ]
    return metric_range(
        data.card,
        [*values, *bands],
        shown=4 * (max(ends) - min(ends)) + (max(bands) - min(bands) if bands else 0.0),
    )
