"""The chart of confirmation runs: test values of each arm's best configuration and defaults, with means."""

__all__ = ["confirmed_charts"]

from collections.abc import Sequence
from typing import Final

from service.dashboard.figures.axes import Axis, metric_axis, metric_range
from service.dashboard.figures.chart import Chart, Drawing, FigureData
from service.dashboard.theme import arm_style
from studies.analysis.views import Confirmed
from studies.formatting import clip_interval, count, interval, metric, metric_unit, plural
from studies.views import ArmView

# More intervals than this in one row cannot be told apart.
_MOST_REPLICATES: Final = 6


def confirmed_charts(data: FigureData) -> tuple[Chart, ...]:
    """Return the chart, best-ranked arm first; none before a confirmation run has completed."""
    shown = [c for c in data.analysis.confirmed if c.test_mean is not None]
    places = {rank.arm: rank.rank for rank in data.analysis.ranks}
    arms = sorted(
        (arm for arm in data.arms if any(c.arm == arm.name for c in shown)),
        key=lambda arm: (places.get(arm.name, 0.0), arm.position),
    )
    if not arms:
        return ()
    drawing = Drawing(
        metric_axis(data.card, "test"),
        Axis(title="", labels=tuple(arm.label for arm in arms), range=(len(arms) - 0.45, -0.55)),
    )
    rows: list[tuple[str, ...]] = []
    for row, arm in enumerate(arms):
        mine = [c for c in shown if c.arm == arm.name]
        for configuration, middle in (("defaults", row + 0.24), ("best", row - 0.12)):
            # If the defaults are the best configuration, they ran once for both.
            some = [
                c
                for c in mine
                if c.configuration == configuration
                and not (configuration == "defaults" and _is_best(c, mine))
            ]
            _draw(drawing, arm, some, middle, data)
        rows += [
            (
                arm.label,
                c.configuration,
                str(run.seed),
                run.state.value,
                metric(run.test_value, data.card.unit),
            )
            for c in mine
            for run in c.runs
        ]
    drawing.layout["xaxis"]["range"] = ends = _range(data, shown)
    hidden = [
        c
        for c in shown
        if ends is not None and c.test_mean is not None and not ends[0] <= c.test_mean <= ends[1]
    ]
    notes = [
        _finding(data, arms, shown),
        _marks(shown),
        _diverged(data.analysis.confirmed, data),
        _outside(hidden, data),
    ]
    return (
        Chart(
            id="confirmed-runs",
            title=f"Test {data.card.metric} on fresh seeds",
            caption=" ".join(note for note in notes if note),
            headers=("Arm", "Configuration", "Seed", "State", f"Test {data.card.metric}"),
            rows=tuple(rows),
            json=drawing.json(),
            is_wide=True,
            # Replicates are drawn below each other.
            rows_drawn=len(arms) * (2 if len({c.replicate for c in shown}) > 1 else 1),
        ),
    )


def _is_best(defaults: Confirmed, mine: Sequence[Confirmed]) -> bool:
    return any(c.configuration == "best" and c.number == defaults.number for c in mine)


def _draw(drawing: Drawing, arm: ArmView, some: Sequence[Confirmed], middle: float, data: FigureData) -> None:
    """Draw the runs of one configuration, or one per replicate, around `middle`, with their means on top."""
    style, unit = arm_style(arm.style), data.card.unit
    runs = [(run.test_value, j) for c in some for j, run in enumerate(c.runs) if run.test_value is not None]
    if runs:
        # Spread a little, because seeds may agree to the last digit.
        drawing.add(
            arm,
            [value for value, _ in runs],
            [middle + 0.07 * (j % 3 - 1) for _, j in runs],
            mode="markers",
            opacity=0.6,
            marker={"color": style.colour, "symbol": "line-ns-open", "size": 9, "line": {"width": 1.5}},
            hovertemplate=f"{arm.label}, {some[0].configuration}: %{{x}} on one seed<extra></extra>",
        )
    for place, c in enumerate(some):
        assert c.test_mean is not None, "only configurations with a mean are drawn"
        is_crowded = len(some) > _MOST_REPLICATES
        offset = 0.0 if len(some) == 1 else 0.4 * (place / (len(some) - 1) - 0.5)
        low, high = clip_interval(c.test_low, c.test_high, unit)
        hover = (
            f"{arm.label}, {c.configuration}: {metric(c.test_mean, unit)} "
            f"({interval(c.test_low, c.test_high, unit)})"
        )
        drawing.mean(
            arm,
            c.test_mean,
            middle + offset,
            low=None if is_crowded else low,
            high=None if is_crowded else high,
            is_hollow=c.configuration == "defaults",
            size=12 if len(some) == 1 else 8,
            hover=hover,
        )


def _finding(data: FigureData, arms: Sequence[ArmView], shown: Sequence[Confirmed]) -> str:
    unit = data.card.unit
    best = {arm.name: [c for c in shown if c.arm == arm.name and c.configuration == "best"] for arm in arms}

    def result(arm: ArmView) -> str:
        found = best[arm.name]
        if len(found) > 1:
            means = sorted(c.test_mean for c in found if c.test_mean is not None)
            return (
                f"{arm.label} with means of {interval(means[0], means[-1], unit)} over "
                f"{plural(len(means), 'replicate')}"
            )
        [c] = found
        return (
            f"{arm.label} {metric(c.test_mean, unit)}{metric_unit(unit)} "
            f"({interval(c.test_low, c.test_high, unit)}; {plural(c.completed, 'run')})"
        )

    have = [arm for arm in arms if best[arm.name]]
    if not have:
        return f"Mean test {data.card.metric} of the defaults; no best configuration has been confirmed yet."
    return f"First: {result(have[0])}."


def _marks(shown: Sequence[Confirmed]) -> str:
    hollow = ", hollow ones of the defaults" if any(c.configuration == "defaults" for c in shown) else ""
    return f"Ticks: runs; filled marks: means of the best configurations{hollow}; bars: 95 % intervals."


def _diverged(confirmed: Sequence[Confirmed], data: FigureData) -> str:
    names = {arm.name: arm.label for arm in data.arms}
    diverged = [
        f"{names[c.arm]} ({c.configuration}) {count(c.diverged)} of {count(c.seeds)}"
        for c in confirmed
        if c.diverged
    ]
    return f"Diverged, so not in a mean: {', '.join(diverged)}." if diverged else ""


def _outside(hidden: Sequence[Confirmed], data: FigureData) -> str:
    names = {arm.name: arm.label for arm in data.arms}
    outside = [f"{names[c.arm]}'s {c.configuration} at {metric(c.test_mean, data.card.unit)}" for c in hidden]
    return f"Outside the axis: {', '.join(outside)}." if outside else ""


def _range(data: FigureData, shown: Sequence[Confirmed]) -> tuple[float, float] | None:
    """Return a range that fits every best configuration; much worse defaults may be outside."""
    best = [c for c in shown if c.configuration == "best"] or shown
    runs = [run.test_value for c in shown for run in c.runs if run.test_value is not None]
    kept = [
        value
        for c in best
        for value in (
            *clip_interval(c.test_low, c.test_high, data.card.unit),
            *(run.test_value for run in c.runs),
        )
        if value is not None
    ]
    every = [*runs, *kept]
    spread = max(kept) - min(kept)
    return metric_range(data.card, every, shown=1.6 * spread)
