"""The chart of budget curves: what each arm's search reaches for a budget of trials, epochs or seconds."""

__all__ = ["Against", "budget_charts"]

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from service.dashboard.figures.axes import Axis, metric_axis, metric_range, whole_axis
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from studies.analysis.views import BudgetCurve, BudgetPoint
from studies.direction import sign
from studies.formatting import count, duration, interval, metric, metric_unit, number, plural
from studies.views import ArmView

Against = Literal["trials", "epochs", "seconds"]

_TABLE_ROWS: Final = 200
_MOST_FLIPS: Final = 4
_MOST_ARMS: Final = 6


def budget_charts(data: FigureData, against: Against) -> tuple[Chart, ...]:
    """Return the chart of the budget curves for one kind of budget; none while no trial has a value."""
    lines = [(arm, curve) for arm, curve in _curves(data) if any(p.value is not None for p in curve.points)]
    if not lines:
        return ()
    drawing = Drawing(_axis(data, against, lines), metric_axis(data.card))
    rows: list[tuple[str, ...]] = []
    for arm, curve in lines:
        points = [p for p in curve.points if p.value is not None]
        shape: Literal["linear", "hv"] = "linear" if curve.method == "expected best of k" else "hv"
        x, y = [_place(p, against) for p in points], [p.value for p in points]
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
        drawing.line(arm, x, y, shape=shape, markers=_markers(y, is_stair=shape == "hv", offset=arm.position))
        rows += [_row(arm, p, data) for p in _changes(points)]
    drawing.layout["xaxis"]["rangemode"] = "tozero"
    ends = _range(data, lines)
    drawing.layout["yaxis"]["range"] = ends
    is_clipped = ends is not None and any(
        not ends[0] <= (p.value or ends[0]) <= ends[1] for _, curve in lines for p in curve.points
    )
    notes = [
        _finding(data, lines, against),
        _lead(data, lines),
        _method([curve for _, curve in lines]),
        _pruned(data, against),
        "The axis leaves out worse values of small budgets." if is_clipped else "",
    ]
    return (
        Chart(
            id="budget-curves",
            title=(
                f"Best validation {data.card.metric} by "
                f"{'training seconds' if against == 'seconds' else against} spent"
            ),
            caption=" ".join(note for note in notes if note),
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
                "trials of an arm, without pruned ones" if data.study.progress.pruned else "trials of an arm"
            )
            return whole_axis(title, max(p.trials for _, curve in lines for p in curve.points))
        case "epochs":
            return Axis(title="epochs trained by an arm")
        case "seconds":
            return Axis(title="training seconds of an arm")


def _markers(values: Sequence[float | None], *, is_stair: bool, offset: int) -> Sequence[int]:
    """Return the points with a marker: the steps of a stair, or about ten points of a smooth line.

    `offset` shifts the latter, so that the markers of two arms do not coincide.
    """
    if is_stair:
        return [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    every = max(1, len(values) // 10)
    return range(offset % every, len(values), every)


def _changes(points: Sequence[BudgetPoint]) -> list[BudgetPoint]:
    """Return the points for the table: those where the value or its band changes, and the last."""
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

    def reached(arm: ArmView, curve: BudgetCurve) -> str:
        point = end(curve)
        spent = {
            "trials": plural(point.trials, "trial"),
            "epochs": f"{number(point.epochs)} {'epoch' if point.epochs == 1 else 'epochs'}",
            "seconds": duration(point.elapsed_s),
        }[against]
        return f"{arm.label} {metric(point.value, card.unit)}{metric_unit(card.unit)} after {spent}"

    order = sorted(lines, key=lambda line: -sign(card.direction) * (end(line[1]).value or 0.0))
    more = f"; {plural(len(order) - _MOST_ARMS, 'more arm')} in the table" if len(order) > _MOST_ARMS else ""
    have = {arm.name for arm, _ in lines}
    missing = [arm.label for arm in data.arms if arm.name not in have]
    without = f" No completed trial yet: {', '.join(missing)}." if missing else ""
    return (
        f"At full budget: {'; '.join(reached(arm, curve) for arm, curve in order[:_MOST_ARMS])}{more}."
        f"{without}"
    )


def _lead(data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> str:
    """Return at which budgets the lead changes.

    The analysis passes over changes that are smaller than the noise of a run or do not last, so no change in
    the analysis does not mean that one arm leads everywhere.
    """
    if len(lines) < 2:
        return ""
    names = {arm.name: arm.label for arm in data.arms}
    flips = data.analysis.flips
    if not flips:
        leader, is_level = _constant_leader(data, lines)
        if leader:
            return f"{leader} {'is level or ahead' if is_level else 'leads'} at every budget."
        return "No lasting change of the lead is larger than the noise of a run."
    changes = [
        f"from {plural(flip.trials, 'trial')} on {names[flip.after]} instead of {names[flip.before]}"
        for flip in flips[-_MOST_FLIPS:]
    ]
    earlier = len(flips) - _MOST_FLIPS
    more = f" ({plural(earlier, 'earlier change')} not listed)" if earlier > 0 else ""
    return f"The lead changes with the budget: {', '.join(changes)}{more}."


def _constant_leader(data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> tuple[str, bool]:
    """Return the arm that no other is ahead of at any number of trials, and whether another draws level.

    Empty if the lead changes. Numbers of trials count as far as all arms have come.
    """
    points = [[p for p in curve.points if p.value is not None] for _, curve in lines]
    first, last = max(found[0].trials for found in points), min(found[-1].trials for found in points)
    trials = sorted({p.trials for found in points for p in found if first <= p.trials <= last})
    # [arms x trials], larger is better.
    values = sign(data.card.direction) * np.array(
        [[_value_at(curve, k) for k in trials] for _, curve in lines]
    )
    is_best = values == values.max(axis=0, initial=-np.inf)
    leaders = [arm.label for (arm, _), mine in zip(lines, is_best, strict=True) if mine.all()]
    is_level = bool((is_best.sum(axis=0) > 1).any())
    return (leaders[0], is_level) if trials and len(leaders) == 1 else ("", is_level)


def _value_at(curve: BudgetCurve, trials: int) -> float:
    """Return the value of a curve, as drawn, at a number of trials within its range."""
    points = [p for p in curve.points if p.value is not None]
    if curve.method == "expected best of k":
        return float(np.interp(trials, [p.trials for p in points], [p.value or 0.0 for p in points]))
    return [p.value or 0.0 for p in points if p.trials <= trials][-1]


def _method(curves: Sequence[BudgetCurve]) -> str:
    """Return how the curves were computed, and what their bands are."""
    explained = {
        "expected best of k": "Lines: expected best of that many random trials of the arm",
        "best so far": "Lines: best so far of one search; another seed would give another line",
        "median of replicates": "Lines: median over independent repetitions of the search",
    }
    methods = dict.fromkeys(explained[curve.method] for curve in curves)
    bands = dict.fromkeys(curve.band for curve in curves if curve.band)
    band = f"Bands: {'; '.join(bands)}." if bands else "No bands: a single search gives no valid one."
    return f"{'; '.join(methods)}. {band}"


def _pruned(data: FigureData, against: Against) -> str:
    pruned = data.study.progress.pruned
    if not pruned:
        return ""
    if against == "trials":
        return f"{plural(pruned, 'pruned trial')} {'is' if pruned == 1 else 'are'} not counted."
    return f"{plural(pruned, 'pruned trial')} {'counts' if pruned == 1 else 'count'} in {against} only."


def _range(data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> tuple[float, float] | None:
    """Return a range for the values that keeps the ends of all lines apart; None to fit all values."""
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
