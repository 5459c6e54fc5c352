"""Charts of results against one hyperparameter, all arms overlaid.

Each shows all trials, a line through the best of each bucket, the edges of the search space, and the trials
without a result.
"""

__all__ = ["hyperparameter_charts", "learning_rate_charts"]

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final, Literal

from service.dashboard.figures.axes import metric_axis, metric_range
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from service.dashboard.figures.density import thinned
from service.dashboard.figures.scale import Scale
from service.dashboard.theme import arm_style
from studies.analysis.views import ArmSensitivity, GoodRange
from studies.catalog import WorkloadCard
from studies.direction import best_value
from studies.formatting import count, metric, number, percent, plural, scalar
from studies.space import Choices, Fixed, Range
from studies.states import TrialState
from studies.statistics.sensitivity import bucket_best, edge_nearby
from studies.views import ArmView, TrialView

_TABLE_ROWS: Final = 200
_BUCKETS: Final = 8
# More points cannot be told apart and are slow in SVG; a small chart takes a quarter of them.
_MOST_POINTS: Final = 2000
_MOST_MARKS: Final = 40


def learning_rate_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the chart of `lr`; none before a trial has ended, or if no arm has it."""
    chart = _chart(data, "lr", is_wide=True)
    return () if chart is None else (chart,)


def hyperparameter_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return a chart for every other hyperparameter that an arm searches, in the order of the cards."""
    names = list(
        dict.fromkeys(
            name
            for arm in data.arms
            for name, d in arm.space.items()
            if isinstance(d, Range | Choices) and name != "lr"
        )
    )
    charts = (_chart(data, name, is_wide=False) for name in names)
    return tuple(chart for chart in charts if chart is not None)


def _chart(data: FigureData, name: str, *, is_wide: bool) -> Chart | None:
    # An arm with a fixed lr is still a useful point of comparison; other fixed values are not.
    arms = {
        arm.name: arm
        for arm in data.arms
        if name in arm.space and (name == "lr" or not isinstance(arm.space[name], Fixed))
    }
    theirs = [t for t in data.trials if t.arm in arms and name in t.parameters]
    completed = [t for t in theirs if t.state is TrialState.COMPLETED and t.value is not None]
    diverged = [t for t in theirs if t.state is TrialState.DIVERGED]
    pruned = [t for t in theirs if t.state is TrialState.PRUNED]
    if not (completed or diverged):
        return None
    scale = Scale.of(name, tuple(arms.values()), [*completed, *diverged, *pruned])
    drawing = Drawing(scale.axis, metric_axis(data.card))
    of_arm = {one.arm: one for one in data.analysis.sensitivity if name == "lr"}
    _strip(
        drawing,
        tuple(arms.values()),
        scale,
        {name: one.good_range for name, one in of_arm.items() if one.good_range is not None},
    )
    # Crosses last, on top of the hollow marks.
    _stopped(
        drawing,
        tuple(arms.values()),
        pruned,
        scale,
        fate="pruned",
        marker={"symbol": "circle-open", "size": 5, "line": {"width": 1}},
    )
    _stopped(
        drawing,
        tuple(arms.values()),
        diverged,
        scale,
        fate="diverged",
        marker={"symbol": "x-thin-open", "size": 9, "line": {"width": 2}},
    )
    shown, density = thinned(
        drawing, completed, scale, data.card, most=_MOST_POINTS if is_wide else _MOST_POINTS // 4
    )
    listed: list[tuple[ArmView, TrialView]] = []
    for arm in arms.values():
        mine = [t for t in completed if t.arm == arm.name]
        _points(drawing, arm, [t for t in shown if t.arm == arm.name], scale)
        isolation = of_arm[arm.name].lr if arm.name in of_arm else ()
        best = [t for t in mine if t.number in {point.number for point in isolation}] if isolation else None
        _best_line(drawing, arm, mine, scale, data.card, best=best)
        listed += [(arm, t) for t in mine]
        listed += [(arm, t) for t in (*diverged, *pruned) if t.arm == arm.name]
    notes = [
        _finding(tuple(arms.values()), completed, name),
        "Lines join the best trial of each interval." if any(o.lr for o in of_arm.values()) else "",
        _describe_good_ranges(tuple(arms.values()), of_arm),
        _describe_stopped(theirs, tuple(arms.values()), is_counted=name == "lr"),
        density,
        _clip(drawing, completed, data.card),
    ]
    hidden = sum(scale.at(t.parameters[name], arm=t.arm) is None for t in completed)
    if hidden:
        notes.append(
            f"{plural(hidden, 'trial')} at {name} = 0 {'is' if hidden == 1 else 'are'} only in the table."
        )
    if len(listed) > _TABLE_ROWS:
        notes.append(f"The table shows the first {_TABLE_ROWS} of {count(len(listed))} trials.")
    return Chart(
        id=f"by-{name.replace('_', '-').replace('.', '-')}",
        title=f"{data.card.metric.capitalize()} by {name}",
        caption=" ".join(note for note in notes if note),
        headers=("Arm", name, f"Validation {data.card.metric}", "State"),
        rows=tuple(
            (
                arm.label,
                scalar(t.parameters[name]),
                metric(t.value, data.card.unit) if t.state is TrialState.COMPLETED else "",
                t.state.value,
            )
            for arm, t in listed[:_TABLE_ROWS]
        ),
        json=drawing.json(),
        is_wide=is_wide,
    )


def _clip(drawing: Drawing, completed: Sequence[TrialView], card: WorkloadCard) -> str:
    """Limit the axis of values to the better trials; return a note for the caption."""
    values = [t.value for t in completed if t.value is not None]
    if not values:
        return ""
    best = best_value(values, card.direction)
    ends = metric_range(card, values, shown=3 * abs(best - median(values)))
    drawing.layout["yaxis"]["range"] = ends
    out = 0 if ends is None else sum(not ends[0] <= value <= ends[1] for value in values)
    return f"{plural(out, 'worse trial')} {'is' if out == 1 else 'are'} outside the axis." if out else ""


def _describe_good_ranges(arms: Sequence[ArmView], of_arm: Mapping[str, ArmSensitivity]) -> str:
    """Return what the bars are in which each arm stays near its best, and which is the widest."""
    found = [
        (arm, one.good_range)
        for arm in arms
        if (one := of_arm.get(arm.name)) is not None and one.good_range is not None
    ]
    if not found:
        return ""
    found.sort(key=lambda pair: -(pair[1].factor or math.inf))
    widest, good = found[0]
    return (
        f"Thick bars below: within {percent(good.within)} of the arm's best, the widest of "
        f"{widest.label}{_factor(good.factor)}."
    )


def _factor(factor: float | None) -> str:
    return "" if factor is None else f" ({number(factor, 2)}×)"


def _strip(drawing: Drawing, arms: Sequence[ArmView], scale: Scale, good: Mapping[str, GoodRange]) -> None:
    """Draw one row per arm under the results, with the edges of its search space and its good range."""
    # At most 30 % of the height; the rest is for results.
    height = min(0.3, 0.035 * len(arms) + 0.03)
    drawing.layout["yaxis"]["domain"] = [height + 0.03, 1]
    drawing.layout["yaxis2"] = {
        "domain": [0, height],
        "range": [len(arms) - 0.4, -0.6],
        "visible": False,
        "fixedrange": True,
    }
    drawing.layout["xaxis"]["anchor"] = "y2"
    for row, arm in enumerate(arms):
        style, dimension = arm_style(arm.style), arm.space[scale.name]
        match dimension:
            case Range():
                values, where = (
                    (dimension.low, dimension.high),
                    f"searched from {scalar(dimension.low)} to {scalar(dimension.high)}",
                )
            case Choices():
                values, where = dimension.choices, "one of its choices"
            case Fixed():
                values, where = (dimension.value,), "its only value"
        drawing.add(
            arm,
            [scale.at(value, arm=arm.name) for value in values],
            [row] * len(values),
            yaxis="y2",
            mode="lines+markers" if isinstance(dimension, Range) else "markers",
            line={"color": style.colour, "dash": style.dash, "width": 1.5},
            marker={"color": style.colour, "symbol": "line-ns-open", "size": 9, "line": {"width": 2}},
            hovertemplate=f"{arm.label}: {where}<extra></extra>",
        )
        if arm.name in good:
            near = good[arm.name]
            drawing.add(
                arm,
                [scale.at(near.low, arm=arm.name), scale.at(near.high, arm=arm.name)],
                [row, row],
                yaxis="y2",
                mode="lines",
                opacity=0.5,
                line={"color": style.colour, "width": 7},
                hovertemplate=f"{arm.label}: within {percent(near.within)} of its best<extra></extra>",
            )


def _stopped(
    drawing: Drawing,
    arms: Sequence[ArmView],
    trials: Sequence[TrialView],
    scale: Scale,
    *,
    fate: Literal["diverged", "pruned"],
    marker: dict[str, Any],
) -> None:
    """Mark each arm's trials without a result in its row; if there are too many, an even sample of them."""
    for row, arm in enumerate(arms):
        mine = sorted(
            (t for t in trials if t.arm == arm.name),
            key=lambda t: scale.at(t.parameters[scale.name], arm=arm.name) or 0.0,
        )
        if mine:
            mine = mine[:: math.ceil(len(mine) / _MOST_MARKS)]
            drawing.add(
                arm,
                [scale.at(t.parameters[scale.name], arm=arm.name) for t in mine],
                [row] * len(mine),
                yaxis="y2",
                mode="markers",
                marker={"color": arm_style(arm.style).colour, **marker},
                text=[scalar(t.parameters[scale.name]) for t in mine],
                hovertemplate=f"{arm.label}: {fate} at {scale.name} = %{{text}}<extra></extra>",
            )


def _points(drawing: Drawing, arm: ArmView, trials: Sequence[TrialView], scale: Scale) -> None:
    style = arm_style(arm.style)
    drawing.add(
        arm,
        [scale.at(t.parameters[scale.name], arm=arm.name) for t in trials],
        [t.value for t in trials],
        mode="markers",
        opacity=0.55,
        marker={"color": style.colour, "symbol": f"{style.marker}-open", "size": 7, "line": {"width": 1.5}},
        text=[scalar(t.parameters[scale.name]) for t in trials],
        hovertemplate=f"{arm.label}: {scale.name} = %{{text}}, %{{y}}<extra></extra>",
    )


def _best_line(
    drawing: Drawing,
    arm: ArmView,
    trials: Sequence[TrialView],
    scale: Scale,
    card: WorkloadCard,
    *,
    best: Sequence[TrialView] | None,
) -> None:
    """Draw a line through the best trial of each bucket of a range, or mark the best trial of each choice.

    `best` has the trials if they are known already.
    """
    dimension = arm.space[scale.name]
    places = [(x, t) for t in trials if (x := scale.at(t.parameters[scale.name], arm=arm.name)) is not None]
    # A few fixed values on another arm's scale of numbers need no line.
    if len(places) < 2 or not (scale.choices or isinstance(dimension, Range)):
        return
    x = [place for place, _ in places]
    mode = "markers"
    low, high, log, buckets = -0.5, len(scale.choices) - 0.5, False, len(scale.choices)
    if isinstance(dimension, Range) and not scale.choices:
        mode = "lines+markers"
        low, high, log, buckets = dimension.low, dimension.high, dimension.log, _BUCKETS
    if best is None:
        values = [t.value or 0.0 for _, t in places]
        indices = bucket_best(
            x, values, direction=card.direction, low=low, high=high, log=log, buckets=buckets
        )
        chosen = [places[int(i)] for i in indices]
    else:
        numbers = {t.number for t in best}
        chosen = [place for place in places if place[1].number in numbers]
    # Buckets ascend, but values outside the range are in the first and last one.
    kept = sorted(chosen, key=lambda place: place[0])
    style = arm_style(arm.style)
    drawing.add(
        arm,
        [place for place, _ in kept],
        [t.value for _, t in kept],
        mode=mode,
        line={"color": style.colour, "dash": style.dash, "width": 2},
        marker={"color": style.colour, "symbol": style.marker, "size": 8},
        text=[scalar(t.parameters[scale.name]) for _, t in kept],
        hovertemplate=f"{arm.label}: best near {scale.name} = %{{text}} is %{{y}}<extra></extra>",
    )


def _finding(arms: Sequence[ArmView], completed: Sequence[TrialView], name: str) -> str:
    best = [
        (f"{arm.label} {scalar(arm.best.parameters[name])}{_edge(arm, name)}")
        for arm in arms
        if arm.best is not None and name in arm.best.parameters
    ]
    return f"Best {name}: {'; '.join(best)}." if completed else "No trial has completed yet."


def _describe_stopped(trials: Sequence[TrialView], arms: Sequence[ArmView], *, is_counted: bool) -> str:
    """Return how trials that diverged or were pruned are marked, and how many of each arm there are."""
    counts = Counter(
        (t.arm, t.state)
        for t in trials
        if t.state in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.PRUNED}
    )
    notes: list[str] = []
    marks = (
        (TrialState.DIVERGED, "Crosses: diverged trials"),
        (TrialState.PRUNED, "Small circles below: pruned trials"),
    )
    for state, mark in marks:
        most = max((counts[arm.name, state] for arm in arms), default=0)
        each = [
            (
                f"{arm.label} {count(n)} of "
                f"{count(sum(k for (name, _), k in counts.items() if name == arm.name))}"
            )
            for arm in arms
            if (n := counts[arm.name, state])
        ]
        if each:
            sampled = "" if most <= _MOST_MARKS else f" (a sample of at most {_MOST_MARKS} per arm)"
            counted = f", {'; '.join(each)}" if is_counted else ""
            notes.append(f"{mark}{sampled}{counted}.")
        elif state is TrialState.DIVERGED and is_counted:
            notes.append("No trial diverged.")
    return " ".join(notes)


def _edge(arm: ArmView, name: str) -> str:
    """Return a warning if the best value is at an edge of the search space, else an empty text."""
    dimension = arm.space[name]
    value = None if arm.best is None else arm.best.parameters[name]
    if (
        not isinstance(dimension, Range)
        or value is None
        or isinstance(value, bool | str)
        or (dimension.log and value <= 0)
    ):
        return ""
    if not dimension.contains(value):
        return ", outside its range"
    edge = edge_nearby(float(value), low=dimension.low, high=dimension.high, log=dimension.log)
    return "" if edge is None else f", at the {edge} edge of its range"
