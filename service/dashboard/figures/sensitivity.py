"""Results against one hyperparameter, every arm overlaid.

The best of each bucket over the others, the space's edges, trials without a result.
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
# More points than this are a smear, and slow in SVG; a small chart takes a quarter of them.
_MOST_POINTS: Final = 2000
_MOST_MARKS: Final = 40


def learning_rate_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the chart of `lr`, the hyperparameter that matters most.

    None before a trial has ended or where no arm has it.
    """
    chart = _chart(data, "lr", is_wide=True)
    return () if chart is None else (chart,)


def hyperparameter_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return a chart for every other hyperparameter that some arm searches.

    They stand in the order of the arms' cards.
    """
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
    # Where lr is fixed its result still is a point of comparison; other fixed values say nothing of their
    # hyperparameter.
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
        {who: one.good_range for who, one in of_arm.items() if one.good_range is not None},
    )
    # The crosses last, over the hollow marks.
    _stopped(
        drawing,
        tuple(arms.values()),
        pruned,
        scale,
        said="pruned",
        marker={"symbol": "circle-open", "size": 5, "line": {"width": 1}},
    )
    _stopped(
        drawing,
        tuple(arms.values()),
        diverged,
        scale,
        said="diverged",
        marker={"symbol": "x-thin-open", "size": 9, "line": {"width": 2}},
    )
    shown, density = thinned(
        drawing, completed, scale, data.card, most=_MOST_POINTS if is_wide else _MOST_POINTS // 4
    )
    rows: list[tuple[str, ...]] = []
    for arm in arms.values():
        mine = [t for t in completed if t.arm == arm.name]
        _points(drawing, arm, [t for t in shown if t.arm == arm.name], scale)
        isolation = of_arm[arm.name].lr if arm.name in of_arm else ()
        best = [t for t in mine if t.number in {point.number for point in isolation}] if isolation else None
        _best_line(drawing, arm, mine, scale, data.card, best=best)
        rows += [
            (arm.label, scalar(t.parameters[name]), metric(t.value, data.card.unit), "completed")
            for t in mine
        ]
        rows += [
            (arm.label, scalar(t.parameters[name]), "", t.state.value)
            for t in (*diverged, *pruned)
            if t.arm == arm.name
        ]
    notes = [
        _finding(data.card, tuple(arms.values()), completed, name),
        "Lines join the best trial of each stretch of the learning rate, whatever the other hyperparameters."
        if any(o.lr for o in of_arm.values())
        else "",
        _ranges_said(tuple(arms.values()), of_arm),
        _stopped_said(theirs, tuple(arms.values())),
        density,
        _clip(drawing, completed, data.card),
    ]
    hidden = sum(scale.at(t.parameters[name], arm=t.arm) is None for t in completed)
    if hidden:
        notes.append(
            f"{plural(hidden, 'trial')} at {name} = 0 cannot stand on a log axis; the table has "
            f"{'it' if hidden == 1 else 'them'}."
        )
    if len(rows) > _TABLE_ROWS:
        notes.append(f"The table shows the first {_TABLE_ROWS} of {count(len(rows))} trials.")
    return Chart(
        id=f"by-{name.replace('_', '-')}",
        title=f"{data.card.metric.capitalize()} by {name}",
        caption=" ".join(note for note in notes if note),
        headers=("Arm", name, f"Validation {data.card.metric}", "State"),
        rows=tuple(rows[:_TABLE_ROWS]),
        json=drawing.json(),
        is_wide=is_wide,
    )


def _clip(drawing: Drawing, completed: Sequence[TrialView], card: WorkloadCard) -> str:
    """Narrow the value's axis to what is worth telling apart; return what to say of it."""
    values = [t.value for t in completed if t.value is not None]
    if not values:
        return ""
    best = best_value(values, card.direction)
    ends = metric_range(card, values, shown=3 * abs(best - median(values)))
    drawing.layout["yaxis"]["range"] = ends
    out = 0 if ends is None else sum(not ends[0] <= value <= ends[1] for value in values)
    return f"{plural(out, 'worse trial')} lie{'s' if out == 1 else ''} outside the axis." if out else ""


def _ranges_said(arms: Sequence[ArmView], of_arm: Mapping[str, ArmSensitivity]) -> str:
    """Return over what stretch of lr each arm stays near its best, the widest first."""
    found = [
        (arm, one.good_range)
        for arm in arms
        if (one := of_arm.get(arm.name)) is not None and one.good_range is not None
    ]
    if not found:
        return ""
    found.sort(key=lambda pair: -(pair[1].factor or math.inf))
    said = [
        f"{arm.label} {scalar(good.low)} to {scalar(good.high)}{_factor(good.factor)}" for arm, good in found
    ]
    return f"Within {percent(found[0][1].within)} of its best (thick in the rows below): {'; '.join(said)}."


def _factor(factor: float | None) -> str:
    return "" if factor is None else f" (a factor of {number(factor, 2)})"


def _strip(drawing: Drawing, arms: Sequence[ArmView], scale: Scale, good: Mapping[str, GoodRange]) -> None:
    """Draw, under the results, one row per arm with its range from edge to edge.

    The trials without a result stand there.
    """
    # At most 30 % of the height, however many arms; the rest is for results.
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
        style, dimension = arm_style(arm.position), arm.space[scale.name]
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
    said: Literal["diverged", "pruned"],
    marker: dict[str, Any],
) -> None:
    """Draw a mark in each arm's row for its trials that ended without a result.

    Of many only some, evenly over the axis.
    """
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
                marker={"color": arm_style(arm.position).colour, **marker},
                text=[scalar(t.parameters[scale.name]) for t in mine],
                hovertemplate=f"{arm.label}: {said} at {scale.name} = %{{text}}<extra></extra>",
            )


def _points(drawing: Drawing, arm: ArmView, trials: Sequence[TrialView], scale: Scale) -> None:
    style = arm_style(arm.position)
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
    """Draw the best trial of each bucket of a range, joined; of choices the best at each, apart.

    `best` names the trials where they are known.
    """
    dimension = arm.space[scale.name]
    places = [(x, t) for t in trials if (x := scale.at(t.parameters[scale.name], arm=arm.name)) is not None]
    # A few values on another arm's scale of numbers speak for themselves.
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
    # Buckets ascend, but values outside the range share its last ones.
    kept = sorted(chosen, key=lambda place: place[0])
    style = arm_style(arm.position)
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


def _finding(card: WorkloadCard, arms: Sequence[ArmView], completed: Sequence[TrialView], name: str) -> str:
    said = [
        (
            f"{arm.label} {scalar(arm.best.parameters[name])}{_edge(arm, name)} "
            f"({metric(arm.best.value, card.unit)})"
        )
        for arm in arms
        if arm.best is not None and name in arm.best.parameters
    ]
    return f"Best {name}: {'; '.join(said)}." if completed else "No trial has completed yet."


def _stopped_said(trials: Sequence[TrialView], arms: Sequence[ArmView]) -> str:
    """Return how many trials ended without a result, and how they are marked."""
    tried = Counter(
        (t.arm, t.state)
        for t in trials
        if t.state in {TrialState.COMPLETED, TrialState.DIVERGED, TrialState.PRUNED}
    )
    said: list[str] = []
    marks = (
        (TrialState.DIVERGED, "Crosses mark trials that diverged"),
        (TrialState.PRUNED, "Small circles under the results mark trials that were pruned"),
    )
    for state, mark in marks:
        most = max((tried[arm.name, state] for arm in arms), default=0)
        each = [
            (
                f"{arm.label} {count(n)} of "
                f"{count(sum(k for (name, _), k in tried.items() if name == arm.name))}"
            )
            for arm in arms
            if (n := tried[arm.name, state])
        ]
        if each:
            some = (
                "" if most <= _MOST_MARKS else f", where an arm has more than {_MOST_MARKS} only some of them"
            )
            said.append(f"{mark}{some}: {'; '.join(each)}.")
        elif state is TrialState.DIVERGED:
            said.append("No trial diverged.")
    return " ".join(said)


def _edge(arm: ArmView, name: str) -> str:
    """Return a warning where the best value lies at an edge of what was searched."""
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
