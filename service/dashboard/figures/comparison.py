"""The charts of a comparison of studies: confirmed means, differences by budget, and learning curves."""

__all__ = ["comparison_charts"]

from collections.abc import Mapping, Sequence

from service.budget_differences import differences_to_leader
from service.dashboard.figures.axes import Axis, metric_axis, whole_axis
from service.dashboard.figures.chart import Chart, ChartArm, Drawing
from service.dashboard.figures.epochs import side_by_side_charts
from service.dashboard.figures.seed_bands import ArmRuns
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.catalog import WorkloadCard
from studies.formatting import (
    change,
    change_interval,
    clip_interval,
    count,
    interval,
    metric,
)


def comparison_charts(
    comparison: Comparison,
    arms: Sequence[tuple[ChartArm, ComparedArm]],
    runs: Sequence[ArmRuns],
    card: WorkloadCard,
) -> tuple[Chart, ...]:
    """Return the charts that there are data for.

    Args:
        comparison: the comparison.
        arms: its arms, best first.
        runs: the confirmation runs of each arm's best configuration, or its best trial.
        card: the workload's card.
    """
    found = (
        _means(arms, card),
        _differences(comparison, {arm.name: arm for arm, _ in arms}, card),
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
