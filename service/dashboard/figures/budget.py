"""The chart of budget curves: what each arm's search reaches for a budget of trials, epochs or seconds.

With a budget verdict, the differences to the leading arm are drawn beneath the curves.
"""

__all__ = ["budget_charts"]

from collections.abc import Sequence
from typing import Final

import numpy as np

from service.budget_differences import arms_in_view, differences_to_leader
from service.dashboard.figures.axes import Axis, metric_axis, metric_range, whole_axis
from service.dashboard.figures.budget_lines import (
    OUTSIDE,
    Against,
    budget_axis,
    changes,
    curve_values,
    draw_curve,
    known_points,
    line_markers,
    mark_outside,
)
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from studies.analysis.views import BudgetCurve, BudgetPoint, BudgetVerdict, DifferencePoint
from studies.direction import sign
from studies.formatting import (
    change,
    change_interval,
    count,
    duration,
    interval,
    listed,
    metric,
    metric_unit,
    number,
    plural,
)
from studies.views import ArmView

_OF_THE_CHOICE: Final = "expected test value of the choice"
_SPENT: Final = {"epochs": "epochs", "seconds": "training seconds"}
_TABLE_ROWS: Final = 200
_MOST_FLIPS: Final = 4


def budget_charts(data: FigureData, against: Against) -> tuple[Chart, ...]:
    """Return the chart of the budget curves for one kind of budget; none while no trial has a value."""
    lines = [(arm, curve) for arm, curve in _curves(data) if any(p.value is not None for p in curve.points)]
    if not lines:
        return ()
    verdict = data.analysis.by_budget
    if verdict is not None and all(curve.method == _OF_THE_CHOICE for _, curve in lines):
        return (_verdict_chart(data, lines, against, verdict),)
    drawing = Drawing(_axis(data, against, lines), metric_axis(data.card))
    rows: list[tuple[str, ...]] = []
    for arm, curve in lines:
        draw_curve(drawing, arm, curve, against)
        rows += [_row(arm, p, data) for p in changes(known_points(curve))]
    drawing.layout["xaxis"]["rangemode"] = "tozero"
    ends = _range(data, lines)
    drawing.layout["yaxis"]["range"] = ends
    is_clipped = [
        mark_outside(drawing, arm, curve_values(curve, against, unit=data.card.unit), ends)
        for arm, curve in lines
    ]
    notes = [
        _finding(data, lines, against),
        _lead(data, lines),
        _method([curve for _, curve in lines]),
        _pruned(data, against),
        OUTSIDE if any(is_clipped) else "",
    ]
    return (
        Chart(
            id="budget-curves",
            title=f"Best validation {data.card.metric} by {_SPENT.get(against, against)} spent",
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


def _verdict_chart(
    data: FigureData, lines: Sequence[tuple[ArmView, BudgetCurve]], against: Against, verdict: BudgetVerdict
) -> Chart:
    """Return the curves of a budget verdict; against trials, also the differences to the leader."""
    card, by_name = data.card, {arm.name: arm for arm in data.arms}
    points = [(arm, known_points(curve)) for arm, curve in lines]
    axis = (
        whole_axis("k, trials of tuning", max(p.trials for _, some in points for p in some))
        if against == "trials"
        else _axis(data, against, lines)
    )
    drawing = Drawing(axis, metric_axis(card, "test"))
    for arm, curve in lines:
        draw_curve(drawing, arm, curve, against)
    in_view = arms_in_view(verdict) or {arm.name for arm, _ in lines}
    outside = [arm.label for arm, _ in lines if arm.name not in in_view]
    shown = [some for arm, some in points if arm.name in in_view]
    drawing.layout["yaxis"]["range"] = ends = _verdict_range(data, shown, verdict)
    is_clipped = [
        mark_outside(drawing, arm, curve_values(curve, against, unit=card.unit), ends) for arm, curve in lines
    ]
    differences = differences_to_leader(verdict)
    title = f"Expected test {card.metric} of the best of k trials"
    notes: list[str] = []
    leader = by_name[verdict.arms[0].arm].label if differences else ""
    if against != "trials":
        title = f"Expected test {card.metric} by {_SPENT[against]} spent on tuning"
    elif verdict.primary is not None:
        if differences:
            title += f", and the difference to {leader}"
            notes.append(
                f"Beneath: the difference to {leader}, with a 95 % band simultaneous over all k and pairs."
            )
            _draw_differences(
                drawing,
                data,
                by_name[verdict.arms[0].arm],
                [(by_name[name], some) for name, some in differences.items()],
            )
            drawing.layout["yaxis2"]["range"] = ends = _difference_range(
                [p for name, some in differences.items() if name in in_view for p in some],
                verdict.primary,
                unit=card.unit,
            )
            is_clipped += [
                mark_outside(drawing, by_name[name], _in_words(some, card.unit), ends, yaxis="y2")
                for name, some in differences.items()
            ]
        _mark_primary(drawing, verdict.primary, has_two_panels=bool(differences))
    if any(is_clipped):
        notes.append(OUTSIDE)
    if outside:
        notes.append(f"Far behind: {listed(outside)}.")
    by_budget = {(name, p.trials): p for name, some in differences.items() for p in some}
    return Chart(
        id="budget-curves",
        title=title,
        caption=" ".join(notes),
        headers=(
            "Arm",
            "k",
            "Epochs",
            "Training time",
            f"Expected test {card.metric}",
            f"Difference to {leader}" if leader else "Difference",
            "95 % band",
        ),
        rows=tuple(
            _verdict_row(arm, p, data, by_budget.get((arm.name, p.trials)))
            for arm, curve in lines
            for p in curve.points
        )[:_TABLE_ROWS],
        json=drawing.json(),
        is_wide=True,
        is_tall=bool(differences) and against == "trials",
    )


def _draw_differences(
    drawing: Drawing,
    data: FigureData,
    leader: ArmView,
    differences: Sequence[tuple[ArmView, Sequence[DifferencePoint]]],
) -> None:
    """Draw a second panel: each arm minus the leader, with its band; the leader is the line at 0."""
    unit = data.card.unit
    scale, shown = (100.0, "points") if unit == "fraction" else (1.0, "" if unit == "none" else unit)
    axis = Axis(title=f"minus {leader.label}{f' ({shown})' if shown else ''}", tick_format=".4~g")
    drawing.layout["yaxis"]["domain"] = [0.45, 1]
    drawing.layout["yaxis2"] = {**axis.layout, "automargin": True, "domain": [0, 0.38]}
    drawing.layout["xaxis"]["anchor"] = "y2"
    for arm, points in differences:
        banded = [
            (p.trials, scale * p.low, scale * p.high)
            for p in points
            if p.low is not None and p.high is not None
        ]
        drawing.band(
            arm,
            [k for k, _, _ in banded],
            [low for _, low, _ in banded],
            [high for _, _, high in banded],
            # Bands overlap, so their edges tell them apart.
            edge_width=0.75,
            yaxis="y2",
        )
    for arm, points in [(leader, ()), *differences]:
        x = [p.trials for p in points] or [p.trials for p in differences[0][1]]
        y = [scale * p.difference for p in points] or [0.0] * len(x)
        drawing.line(
            arm,
            x,
            y,
            markers=line_markers(y, is_stair=False, offset=arm.position) if points else (),
            yaxis="y2",
        )


def _in_words(points: Sequence[DifferencePoint], unit: str) -> list[tuple[float, float, str]]:
    """Return differences as `mark_outside` takes them, on the scale of their axis."""
    scale = 100.0 if unit == "fraction" else 1.0
    return [
        (
            float(p.trials),
            scale * p.difference,
            f"{change(p.difference, unit)} after {plural(p.trials, 'trial')}",
        )
        for p in points
    ]


def _difference_range(points: Sequence[DifferencePoint], primary: int, *, unit: str) -> tuple[float, float]:
    """Return a range that fits the bands from the primary budget on; of smaller budgets, the lines alone."""
    shown = [0.0]
    for p in points:
        if p.trials >= primary:
            shown += [end for end in (p.low, p.high) if end is not None]
        if p.trials >= primary / 2:
            shown.append(p.difference)
    scale = 100.0 if unit == "fraction" else 1.0
    room = 0.08 * (max(shown) - min(shown)) or 0.01
    return scale * (min(shown) - room), scale * (max(shown) + room)


def _mark_primary(drawing: Drawing, primary: int, *, has_two_panels: bool) -> None:
    """Mark the budget at which the words are given."""
    line = {"color": "var(--ink-soft)", "width": 1.5, "dash": "dot"}
    drawing.layout["shapes"] = [
        {
            "type": "line",
            "layer": "below",
            "xref": "x",
            "yref": "paper",
            "x0": primary,
            "x1": primary,
            "y0": 0,
            "y1": 1,
            "line": line,
        }
    ]
    drawing.layout["annotations"] = [
        {
            "xref": "x",
            "yref": "paper",
            "x": primary,
            "y": 0.415 if has_two_panels else 0.02,
            "xanchor": "left",
            "yanchor": "middle" if has_two_panels else "bottom",
            "xshift": 4,
            "showarrow": False,
            "text": f"verdict at k = {count(primary)}",
            "font": {"color": "var(--ink-soft)", "size": 12},
        }
    ]


def _verdict_row(
    arm: ArmView, point: BudgetPoint, data: FigureData, difference: DifferencePoint | None
) -> tuple[str, ...]:
    unit = data.card.unit
    return (
        *_row(arm, point, data)[:-1],
        change(None if difference is None else difference.difference, unit),
        change_interval(
            None if difference is None else difference.low,
            None if difference is None else difference.high,
            unit,
        ),
    )


def _verdict_range(
    data: FigureData, curves: Sequence[Sequence[BudgetPoint]], verdict: BudgetVerdict
) -> tuple[float, float] | None:
    """Return a range that fits the curves from half of the primary budget on; None to fit all values."""
    first = max(2, (verdict.primary or 2) // 2)
    values = [p.value for points in curves for p in points if p.value is not None]
    kept = [p.value for points in curves for p in points if p.value is not None and p.trials >= first]
    return metric_range(data.card, values, shown=1.08 * (max(kept) - min(kept))) if kept else None


def _curves(data: FigureData) -> list[tuple[ArmView, BudgetCurve]]:
    by_name = {curve.arm: curve for curve in data.analysis.curves}
    return [(arm, by_name[arm.name]) for arm in data.arms if arm.name in by_name]


def _axis(data: FigureData, against: Against, lines: Sequence[tuple[ArmView, BudgetCurve]]) -> Axis:
    title = "trials of an arm, without pruned ones" if data.study.progress.pruned else "trials of an arm"
    last = max(p.trials for _, curve in lines for p in curve.points)
    return budget_axis(against, last=last, of_trials=title)


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
    have = {arm.name for arm, _ in lines}
    missing = [arm.label for arm in data.arms if arm.name not in have]
    without = f" No completed trial yet: {', '.join(missing)}." if missing else ""
    return f"First at full budget: {reached(*order[0])}.{without}"


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
        "best so far": "Lines: best so far of one search",
        "median of replicates": "Lines: median over independent repetitions of the search",
    }
    methods = dict.fromkeys(explained[curve.method] for curve in curves)
    bands = dict.fromkeys(curve.band for curve in curves if curve.band)
    band = f"Bands: {'; '.join(bands)}." if bands else "A single search has no valid band."
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
