"""Best so far of each arm, against trials and against training seconds."""

__all__ = ["best_so_far_charts"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.dashboard.figures.axes import Axis, metric_axis, metric_range, whole_axis
from service.dashboard.figures.chart import Chart, Drawing, StudyRecord, label
from service.dashboard.numbers import count, duration, metric, metric_unit, plural
from studies.statistics.best_so_far import improvements
from studies.views import ArmView, CurvePoint

_TABLE_ROWS: Final = 200


@dataclass(frozen=True)
class _Against:
    """What the best value is drawn against: the name in the page, the axis, where a point stands and how that is said."""

    name: str
    axis: Axis
    x: Callable[[CurvePoint], float]
    said: Callable[[CurvePoint], str]


def best_so_far_charts(record: StudyRecord) -> tuple[Chart, ...]:
    """Return both charts; none while no trial has completed."""
    points = {curve.arm: [p for p in curve.points if p.value is not None] for curve in record.curves}
    if not any(points.values()):
        return ()
    is_pruned = record.study.progress.pruned > 0
    trials = whole_axis(
        "trials finished, pruned ones not counted" if is_pruned else "trials finished", max(len(curve.points) for curve in record.curves)
    )
    by_trials = _Against("trials", trials, lambda p: float(p.trials), lambda p: f"trial {count(p.trials)}")
    by_seconds = _Against("seconds", Axis(title="training seconds spent"), lambda p: p.elapsed_s, lambda p: duration(p.elapsed_s))
    return _chart(record, points, by_trials), _chart(record, points, by_seconds)


def _chart(record: StudyRecord, points: dict[str, list[CurvePoint]], against: _Against) -> Chart:
    card = record.card
    drawing = Drawing(against.axis, metric_axis(card))
    rows: list[tuple[str, ...]] = []
    for arm in record.arms:
        every = points.get(arm.name, [])
        # The line is a stair: its steps and its end are all of it, however many trials there are.
        kept = [every[int(i)] for i in improvements([p.value if p.value is not None else float("nan") for p in every])]
        if kept:
            ends_flat = len(kept) > 1 and kept[-1].value == kept[-2].value
            steps = range(len(kept) - 1 if ends_flat else len(kept))
            drawing.line(arm, [against.x(p) for p in kept], [p.value for p in kept], shape="hv", markers=steps)
        rows += [(label(arm), count(p.trials), duration(p.elapsed_s), metric(p.value, card.unit)) for p in kept]
    drawing.layout["xaxis"]["rangemode"] = "tozero"
    ends = _range(record, points)
    drawing.layout["yaxis"]["range"] = ends
    is_clipped = ends is not None and any(not ends[0] <= (p.value or 0.0) <= ends[1] for line in points.values() for p in line)
    notes = " The axis leaves out worse values from the start of the search." if is_clipped else ""
    pruned = record.study.progress.pruned
    if pruned:
        counted = "their training seconds are counted" if against.name == "seconds" else "they are not counted"
        notes += f" {plural(pruned, 'trial')} {'was' if pruned == 1 else 'were'} pruned: no best value is theirs, and {counted}."
    if len(rows) > _TABLE_ROWS:
        notes += f" The table shows the first {_TABLE_ROWS} steps."
    return Chart(
        id=f"best-by-{against.name}",
        title=f"Best value so far against {against.axis.title.partition(',')[0]}",
        caption=_finding(record, points, against) + notes,
        headers=("Arm", "Trials finished", "Training time", f"Best validation {card.metric}"),
        rows=tuple(rows[:_TABLE_ROWS]),
        json=drawing.json(),
    )


def _finding(record: StudyRecord, points: dict[str, list[CurvePoint]], against: _Against) -> str:
    card = record.card

    def said(arm: ArmView) -> str:
        end = points[arm.name][-1]
        first = next(p for p in points[arm.name] if p.value == end.value)
        reached = f"{metric(end.value, card.unit)}{metric_unit(card.unit)}"
        return f"{label(arm)} {reached} at {against.said(first)} of {against.said(end).removeprefix('trial ')}"

    have = [arm for arm in record.arms if points.get(arm.name)]
    have.sort(key=lambda arm: points[arm.name][-1].value or 0.0, reverse=card.direction == "maximize")
    missing = [label(arm) for arm in record.arms if not points.get(arm.name)]
    more = f"; and {plural(len(have) - 6, 'more arm')} in the table" if len(have) > 6 else ""
    without = f" No completed trial yet: {', '.join(missing)}." if missing else ""
    return f"Best reached, and when: {'; '.join(said(arm) for arm in have[:6])}{more}.{without}"


def _range(record: StudyRecord, points: dict[str, list[CurvePoint]]) -> tuple[float, float] | None:
    """Return a range of the value's axis that keeps the ends of all lines apart, or None where all of it does."""
    values = [p.value for line in points.values() for p in line if p.value is not None]
    ends = [line[-1].value for line in points.values() if line and line[-1].value is not None]
    return metric_range(record.card, values, shown=4 * (max(ends) - min(ends)))
