"""The charts of compared arms: confirmed means, budget curves with differences, and learning curves."""

__all__ = ["comparison_charts"]

from collections.abc import Mapping, Sequence
from typing import Final

from service.budget_differences import differences_to_leader
from service.dashboard.figures.axes import Axis, metric_axis, metric_range, whole_axis
from service.dashboard.figures.budget_lines import (
    OUTSIDE,
    Against,
    budget_axis,
    changes,
    curve_values,
    draw_curve,
    known_points,
    mark_outside,
)
from service.dashboard.figures.chart import Chart, ChartArm, Drawing
from service.dashboard.figures.epochs import side_by_side_charts
from service.dashboard.figures.seed_bands import ArmRuns
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.analysis.views import BudgetCurve
from studies.catalog import WorkloadCard
from studies.formatting import (
    change,
    change_interval,
    clip_interval,
    count,
    duration,
    interval,
    metric,
    number,
)

_ROWS_PER_ARM: Final = 40


def comparison_charts(
    comparison: Comparison,
    arms: Sequence[tuple[ChartArm, ComparedArm]],
    runs: Sequence[ArmRuns],
    card: WorkloadCard,
    *,
    against: Against = "trials",
) -> tuple[Chart, ...]:
    """Return the charts that there are data for.

    Args:
        comparison: the comparison.
        arms: its arms, best first.
        runs: the confirmation runs of each arm's best configuration, or its best trial.
        card: the workload's card.
        against: the unit of the budget curves.
    """
    by_label = {arm.name: arm for arm, _ in arms}
    found = (
        _means(arms, card),
        _budget_curves(comparison, by_label, card, against),
        _differences(comparison, by_label, card),
        *side_by_side_charts(runs, card),
    )
    return tuple(chart for chart in found if chart is not None)


def _means(arms: Sequence[tuple[ChartArm, ComparedArm]], card: WorkloadCard) -> Chart | None:
    shown = [(arm, one, one.test_mean) for arm, one in arms if one.test_mean is not None]
    if not shown:
        return None
    drawing = Drawing(
        metric_axis(card, "test"),
        Axis(title="", labels=tuple(arm.label for arm, *_ in shown), range=(len(shown) - 0.45, -0.55)),
    )
    for row, (arm, one, mean) in enumerate(shown):
        low, high = clip_interval(one.test_low, one.test_high, card.unit)
        text = f"{arm.label}: {metric(mean, card.unit)} ({interval(one.test_low, one.test_high, card.unit)})"
        drawing.mean(arm, mean, row, low=low, high=high, is_hollow=False, hover=text)
    return Chart(
        id="compared-means",
        title=f"Test {card.metric} on fresh seeds",
        caption="Mean of each arm's best configuration, with 95 % interval over seeds.",
        headers=("Arm", f"Mean test {card.metric}", "95 % interval", "Runs"),
        rows=tuple(
            (
                arm.label,
                metric(mean, card.unit),
                interval(one.test_low, one.test_high, card.unit),
                count(one.runs),
            )
            for arm, one, mean in shown
        ),
        json=drawing.json(),
        is_wide=True,
        rows_drawn=len(shown),
    )


def _budget_curves(
    comparison: Comparison, arms: Mapping[str, ChartArm], card: WorkloadCard, against: Against
) -> Chart | None:
    lines = [(arms[curve.arm], curve) for curve in comparison.curves if known_points(curve)]
    if not lines:
        return None
    methods = dict.fromkeys(curve.method for _, curve in lines)
    is_by_test = "expected test value of the choice" in methods
    split = "test" if is_by_test else "validation"
    last = max(p.trials for _, curve in lines for p in curve.points)
    drawing = Drawing(budget_axis(against, last=last), metric_axis(card, split))
    for arm, curve in lines:
        draw_curve(drawing, arm, curve, against)
    drawing.layout["xaxis"]["rangemode"] = "tozero"
    primary = None if comparison.by_budget is None else comparison.by_budget.primary
    ends = _curve_range([curve for _, curve in lines], card, primary=primary)
    drawing.layout["yaxis"]["range"] = ends
    is_clipped = [
        mark_outside(drawing, arm, curve_values(curve, against, unit=card.unit), ends) for arm, curve in lines
    ]
    spent = "of tuning" if against == "trials" else f"of tuning, by {against}"
    return Chart(
        id="compared-curves",
        title=f"{split.capitalize()} {card.metric} after k trials {spent}",
        caption=f"Each line: {' or '.join(methods)}.{f' {OUTSIDE}' if any(is_clipped) else ''}",
        headers=(
            "Arm",
            "Trials",
            "Epochs",
            "Training time",
            f"{split.capitalize()} {card.metric}",
            "95 % band",
            "Method",
        ),
        rows=tuple(
            (
                arm.label,
                count(p.trials),
                number(p.epochs),
                duration(p.elapsed_s),
                metric(p.value, card.unit),
                interval(p.low, p.high, card.unit),
                curve.method,
            )
            for arm, curve in lines
            for p in changes(known_points(curve))[:_ROWS_PER_ARM]
        ),
        json=drawing.json(),
        is_wide=True,
    )


def _curve_range(
    curves: Sequence[BudgetCurve], card: WorkloadCard, *, primary: int | None
) -> tuple[float, float] | None:
    """Return a range that fits the curves from half of the primary budget on; None to fit all values.

    Without a primary budget, it fits the second half of every curve.
    """
    values = [p.value for curve in curves for p in curve.points if p.value is not None]
    bands = [end for curve in curves for p in curve.points for end in (p.low, p.high) if end is not None]
    later = [
        p
        for curve in curves
        for n, p in enumerate(curve.points)
        if (p.trials >= max(2, primary // 2) if primary else 2 * n >= len(curve.points))
    ]
    kept = [end for p in later for end in (p.low, p.value, p.high) if end is not None] or values
    return metric_range(card, [*values, *bands], shown=1.25 * (max(kept) - min(kept)))


def _differences(comparison: Comparison, arms: Mapping[str, ChartArm], card: WorkloadCard) -> Chart | None:
    verdict = comparison.by_budget
    differences = {} if verdict is None else differences_to_leader(verdict)
    if verdict is None or not differences:
        return None
    leader = arms[verdict.arms[0].arm]
    scale, unit = (100.0, " (points)") if card.unit == "fraction" else (1.0, "")
    last = max(p.trials for points in differences.values() for p in points)
    drawing = Drawing(
        whole_axis("k, trials of tuning", last),
        Axis(title=f"minus {leader.label}{unit}", tick_format=".4~g"),
    )
    for name, points in differences.items():
        banded = [(p.trials, p.low, p.high) for p in points if p.low is not None and p.high is not None]
        drawing.band(
            arms[name],
            [k for k, _, _ in banded],
            [scale * low for _, low, _ in banded],
            [scale * high for _, _, high in banded],
            edge_width=0.75,
        )
    for name, points in differences.items():
        drawing.line(arms[name], [p.trials for p in points], [scale * p.difference for p in points])
    ks = sorted({p.trials for points in differences.values() for p in points})
    drawing.line(leader, ks, [0.0] * len(ks), markers=())
    return Chart(
        id="compared-differences",
        title=f"Expected test {card.metric} after k trials of tuning, minus {leader.label}",
        caption="Bands: 95 %, simultaneous over all k and all pairs of arms.",
        headers=("Arm", "k", f"Difference to {leader.label}", "95 % band"),
        rows=tuple(
            (
                arms[name].label,
                count(p.trials),
                change(p.difference, card.unit),
                change_interval(p.low, p.high, card.unit),
            )
            for name, points in differences.items()
            for p in points
        ),
        json=drawing.json(),
        is_wide=True,
    )
