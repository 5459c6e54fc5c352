"""The charts of a report as SVG, without scripts and external resources.

They support light and dark mode and screen readers. Colours, dashes and markers are those of the dashboard,
by the classes `arm-0` to `arm-7` of its style sheet.
"""

__all__ = ["budget_svg", "confirmed_svg"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from service.budget_differences import arms_in_view, differences_to_leader
from service.dashboard.theme import arm_style
from service.report.rows import ArmRow, arm_rows
from service.report.sanitize import plain
from service.report.sections import measured
from service.report.study_report import StudyReport
from studies.analysis.views import BudgetCurve, BudgetPoint, BudgetVerdict, DifferencePoint
from studies.formatting import change, clip_interval, interval, metric, plural

_WIDTH = 720
_ROW = 34
_LEFT = 150
_RIGHT = 20
_LONGEST_LABEL = 20


@dataclass(frozen=True)
class _Axis:
    """A linear or logarithmic axis from values to pixels, with ticks at round values."""

    low: float
    high: float
    first: float
    last: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value in pixels."""
        low, high, x = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.first + (self.last - self.first) * (x - low) / (high - low)

    @property
    def ticks(self) -> list[float]:
        """About five round values within the axis."""
        if self.is_log:
            powers = range(math.ceil(math.log2(self.low)), math.floor(math.log2(self.high)) + 1)
            step = max(1, round(len(powers) / 6))
            return [float(2**n) for n in powers if n % step == 0]
        rough = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(rough))
        step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
        return [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _spanning(values: Sequence[float], *, first: float, last: float) -> _Axis:
    """Return a linear axis that covers the values, with a margin at both ends."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or abs(high) * 0.01 or 1.0
    return _Axis(low - room, high + room, first, last)


def confirmed_svg(report: StudyReport) -> Markup:
    """Return a chart of the arms' confirmed mean test values with their intervals, best first.

    Hollow markers show the means of the defaults.
    """
    card = report.study.workload_card
    rows = [row for row in arm_rows(report) if row.mean is not None]
    values = [
        v
        for row in rows
        for v in (row.mean, *clip_interval(row.low, row.high, card.unit), row.defaults_mean)
        if v is not None
    ]
    height = _ROW * len(rows) + 56
    axis = _spanning(values, first=_LEFT, last=_WIDTH - _RIGHT)
    parts = [_vertical(axis, bottom=height - 46, label=lambda value: metric(value, card.unit))]
    parts += [_mean(row, axis, unit=card.unit, y=18 + _ROW * n) for n, row in enumerate(rows)]
    parts.append(
        _text(f"test {measured(card)}", x=(_LEFT + _WIDTH - _RIGHT) / 2, y=height - 8, anchor="middle")
    )
    description = "; ".join(
        f"{row.label} {metric(row.mean, card.unit)} ({interval(row.low, row.high, card.unit)}, n = {row.n})"
        for row in rows
    )
    title = (
        f"Confirmed test {card.metric} of each arm's best configuration, with "
        "95 % intervals; hollow markers show its defaults"
    )
    return _svg("confirmed", title, description, height, parts)


def _mean(row: ArmRow, axis: _Axis, *, unit: str, y: float) -> Markup:
    assert row.mean is not None, "only rows with a mean are drawn"
    style = arm_style(row.arm.style)
    parts = [_text(_short(row.label), x=_LEFT - 14, y=y + 4, anchor="end")]
    low, high = clip_interval(row.low, row.high, unit)
    if low is not None and high is not None:
        path = f"M{axis.at(low):.1f} {y - 5}v10m0 -5H{axis.at(high):.1f}m0 -5v10"
        parts.append(Markup('<path class="line arm-{}" d="{}"/>').format(style.number, path))
    if row.defaults_mean is not None:
        where = f"translate({axis.at(row.defaults_mean):.1f} {y})"
        parts.append(
            Markup('<path class="hollow arm-{}" transform="{}" d="{}"/>').format(
                style.number, where, style.outline
            )
        )
    where = f"translate({axis.at(row.mean):.1f} {y}) scale(1.3)"
    parts.append(
        Markup('<path class="full arm-{}" transform="{}" d="{}"/>').format(style.number, where, style.outline)
    )
    return Markup().join(parts)


def budget_svg(report: StudyReport) -> Markup:
    """Return a chart of each arm's best value by number of trials, with bands where they are valid.

    With a budget verdict, the differences to the leading arm follow beneath, on the same axis.
    """
    card = report.study.workload_card
    verdict = report.analysis.by_budget
    differences = {} if verdict is None else differences_to_leader(verdict)
    curves = [
        curve for curve in report.analysis.curves if any(point.value is not None for point in curve.points)
    ]
    arms = {arm.arm.name: arm for arm in arm_rows(report)}
    in_view = (arms_in_view(verdict) if verdict is not None else frozenset[str]()) or frozenset(arms)
    # With fewer trials, values are so much worse and the band so wide that they would hide the rest.
    first = max(1.0, (verdict.primary or 1) / 2) if differences and verdict is not None else 1.0
    differences = {
        name: tuple(point for point in points if point.trials >= first)
        for name, points in differences.items()
        if name in in_view
    }
    drawn = [
        curve.model_copy(update={"points": tuple(p for p in curve.points if p.trials >= first)})
        for curve in curves
        if curve.arm in in_view and curve.points[-1].trials >= first
    ]
    top = 280
    bottom = top + (170 if differences else 0)
    height = bottom + 48 + 20 * math.ceil(len(curves) / 3)
    most = max(point.trials for curve in curves for point in curve.points)
    x = _Axis(first, max(2, most), 70, _WIDTH - _RIGHT, is_log=True)
    y = _spanning(
        [
            v
            for curve in drawn
            for point in curve.points
            for v in (point.value, point.low, point.high)
            if v is not None
        ],
        first=top,
        last=10,
    )
    parts = [
        _vertical(x, bottom=bottom, label=lambda value: f"{value:g}"),
        _horizontal(y, left=70, label=lambda value: metric(value, card.unit)),
    ]
    parts += [_curve(curve, x, y, number=arms[curve.arm].arm.style) for curve in drawn]
    for n, curve in enumerate(curves):
        note = "" if curve.arm in in_view else ", far behind"
        parts.append(_key(arms[curve.arm], n, top=bottom + 52, note=note))
    if verdict is not None and differences:
        parts.append(_differences(report, verdict, differences, x, first=bottom, last=top + 30))
    if verdict is not None and verdict.primary is not None:
        parts.append(_primary(verdict.primary, x, bottom=bottom))
    parts.append(_text("trials (log scale)", x=_WIDTH / 2, y=bottom + 32, anchor="middle"))
    ends = (
        (arms[curve.arm].label, next(p for p in reversed(curve.points) if p.value is not None))
        for curve in curves
    )
    description = "; ".join(
        f"{name} reaches {metric(point.value, card.unit)} within {plural(point.trials, 'trial')}"
        for name, point in ends
    )
    methods = ", ".join(dict.fromkeys(curve.method for curve in curves))
    is_of_choice = all(curve.method == "expected test value of the choice" for curve in curves)
    shown = "Expected test" if is_of_choice else "Best validation"
    beneath = (
        f", and the difference to {arms[verdict.arms[0].arm].label} with its simultaneous band"
        if verdict is not None and differences
        else ""
    )
    return _svg(
        "budget",
        f"{shown} {measured(card)} by number of trials ({methods}){beneath}",
        description,
        height,
        parts,
    )


def _differences(
    report: StudyReport,
    verdict: BudgetVerdict,
    differences: dict[str, tuple[DifferencePoint, ...]],
    x: _Axis,
    *,
    first: float,
    last: float,
) -> Markup:
    """Return the panel of each arm minus the leader, which is the line at 0."""
    unit = report.study.workload_card.unit
    arms = {arm.arm.name: arm for arm in arm_rows(report)}
    leader = arms[verdict.arms[0].arm]
    y = _spanning(
        [
            0.0,
            *(
                end
                for points in differences.values()
                for p in points
                for end in (p.difference, p.low, p.high)
                if end is not None
            ),
        ],
        first=first,
        last=last,
    )
    zero = Markup('<path class="line arm-{}" stroke-dasharray="{}" d="M{:.1f} {:.1f}H{:.1f}"/>').format(
        arm_style(leader.arm.style).number,
        arm_style(leader.arm.style).dash_array,
        x.first,
        y.at(0.0),
        x.last,
    )
    title = f"minus {_short(leader.label)}" + (" (points)" if unit == "fraction" else "")
    parts = [
        _horizontal(y, left=70, label=lambda value: change(value, unit)),
        _text(title, x=70, y=last - 8),
        *(
            _band(points, x, y, number=arm_style(arms[name].arm.style).number, is_step=False)
            for name, points in differences.items()
        ),
        zero,
    ]
    for name, points in differences.items():
        style = arm_style(arms[name].arm.style)
        path = _path([(x.at(p.trials), y.at(p.difference)) for p in points], is_step=False)
        parts.append(
            Markup('<path class="line arm-{}" stroke-dasharray="{}" d="{}"/>').format(
                style.number, style.dash_array, path
            )
        )
    return Markup().join(parts)


def _primary(primary: int, x: _Axis, *, bottom: float) -> Markup:
    """Return the line at the budget at which the words are given."""
    at = x.at(primary)
    line = Markup('<path class="primary" d="M{:.1f} 6V{:.1f}"/>').format(at, bottom)
    return line + _text(f"verdict at {plural(primary, 'trial')}", x=at + 5, y=bottom - 6)


def _curve(curve: BudgetCurve, x: _Axis, y: _Axis, *, number: int) -> Markup:
    style = arm_style(number)
    known = [point for point in curve.points if point.value is not None]
    is_step = curve.method not in {"expected best of k", "expected test value of the choice"}
    line = _path(
        [(x.at(point.trials), y.at(point.value)) for point in known if point.value is not None],
        is_step=is_step,
    )
    drawn = Markup('<path class="line arm-{}" stroke-dasharray="{}" d="{}"/>').format(
        style.number, style.dash_array, line
    )
    return _band(known, x, y, number=style.number, is_step=is_step) + drawn


def _band(
    points: Sequence[BudgetPoint] | Sequence[DifferencePoint],
    x: _Axis,
    y: _Axis,
    *,
    number: int,
    is_step: bool,
) -> Markup:
    low = [
        (x.at(point.trials), y.at(point.low))
        for point in points
        if point.low is not None and point.high is not None
    ]
    high = [
        (x.at(point.trials), y.at(point.high))
        for point in points
        if point.low is not None and point.high is not None
    ]
    if len(low) < 2:
        return Markup()
    edges = _corners(low, is_step=is_step), _corners(high, is_step=is_step)[::-1]
    outline = "L".join(f"{px:.1f} {py:.1f}" for edge in edges for px, py in edge)
    return Markup('<path class="band arm-{}" d="M{}Z"/>').format(number, outline)


def _corners(points: Sequence[tuple[float, float]], *, is_step: bool) -> list[tuple[float, float]]:
    """Return the points of a line; for a step line, also the corner before each point."""
    if not is_step:
        return list(points)
    return [
        points[0],
        *(corner for (_, before), (px, py) in pairwise(points) for corner in ((px, before), (px, py))),
    ]


def _path(points: Sequence[tuple[float, float]], *, is_step: bool) -> str:
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in _corners(points, is_step=is_step))


def _key(row: ArmRow, n: int, *, top: float, note: str = "") -> Markup:
    style = arm_style(row.arm.style)
    left, y = 70 + 215 * (n % 3), top + 20 * (n // 3)
    swatch = Markup('<path class="line arm-{}" stroke-dasharray="{}" d="M{} {}h26"/>').format(
        style.number, style.dash_array, left, y
    )
    return swatch + _text(_short(row.label) + note, x=left + 32, y=y + 4)


def _vertical(axis: _Axis, *, bottom: float, label: Callable[[float], str]) -> Markup:
    """Return the grid lines and labels of the horizontal axis."""
    line = Markup('<path class="grid" d="M{0} 6V{1}"/>')
    ticks = [(f"{axis.at(tick):.1f}", tick) for tick in axis.ticks]
    return Markup().join(
        line.format(x, bottom) + _text(label(tick), x=float(x), y=bottom + 16, anchor="middle")
        for x, tick in ticks
    )


def _horizontal(axis: _Axis, *, left: float, label: Callable[[float], str]) -> Markup:
    """Return the grid lines and labels of the vertical axis."""
    line = Markup('<path class="grid" d="M{0} {1}H{2}"/>')
    ticks = [(f"{axis.at(tick):.1f}", tick) for tick in axis.ticks]
    return Markup().join(
        line.format(left, y, _WIDTH - _RIGHT) + _text(label(tick), x=left - 6, y=float(y) + 4, anchor="end")
        for y, tick in ticks
    )


def _text(text: str, *, x: float, y: float, anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, plain(text))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _svg(name: str, title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc">').format(
        _WIDTH, height, name, name
    )
    words = Markup('<title id="{0}-title">{1}</title><desc id="{0}-desc">{2}.</desc>').format(
        name, plain(title), plain(description)
    )
    return head + words + Markup().join(parts) + Markup("</svg>")
