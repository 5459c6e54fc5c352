"""The charts of a suite: relative performance on each study, interquartile means, performance profiles.

Everywhere `arms` are pairs of an arm as it is drawn and its scores.
"""

__all__ = ["suite_charts"]

from collections.abc import Sequence
from typing import Final

from service.dashboard.figures.axes import Axis
from service.dashboard.figures.chart import Chart, ChartArm, Drawing
from service.dashboard.theme import arm_style
from studies.analysis.multi_study_views import SuiteAnalysis, SuiteArm
from studies.formatting import ABSENT, interval, metric, number, percent, plural, score

_MOST_ARMS: Final = 6

_ScoredArm = tuple[ChartArm, SuiteArm]


def suite_charts(suite: SuiteAnalysis, arms: Sequence[_ScoredArm]) -> tuple[Chart, ...]:
    """Return the charts of a suite; none while no study counts."""
    scored = [(arm, scores) for arm, scores in arms if any(one.relative is not None for one in scores.scores)]
    if not scored:
        return ()
    charts = (_iqm(scored), _relative(suite, scored), _profiles(scored))
    return tuple(chart for chart in charts if chart is not None)


def _iqm(arms: Sequence[_ScoredArm]) -> Chart | None:
    shown = [(arm, scores) for arm, scores in arms if scores.iqm is not None]
    if not shown:
        return None
    names = tuple(arm.label for arm, _ in shown)
    drawing = Drawing(
        Axis(title="interquartile mean of relative performance", tick_format=".3~g"),
        Axis(title="", labels=names, range=(len(names) - 0.45, -0.55)),
    )
    for row, (arm, scores) in enumerate(shown):
        drawing.mean(
            arm,
            scores.iqm or 0.0,
            row,
            low=scores.iqm_low,
            high=scores.iqm_high,
            is_hollow=False,
            hover=f"{arm.label}: {score(scores.iqm)} ({_interval(scores)})",
        )
    means = "; ".join(
        f"{arm.label} {score(scores.iqm)} ({_interval(scores)})" for arm, scores in shown[:_MOST_ARMS]
    )
    return Chart(
        id="iqm",
        title="Interquartile mean over all runs",
        caption=(
            f"Mean of the middle half of all runs, with 95 % interval (stratified bootstrap): {means}. 0 is "
            "the worst arm of a study and 1 the best, so the score depends on the arms in the suite."
        ),
        headers=("Arm", "Interquartile mean", "95 % interval"),
        rows=tuple((arm.label, score(scores.iqm), _interval(scores)) for arm, scores in shown),
        json=drawing.json(),
        rows_drawn=len(shown),
    )


def _interval(scores: SuiteArm) -> str:
    if scores.iqm_low is None or scores.iqm_high is None:
        return ABSENT
    return f"{score(scores.iqm_low)} to {score(scores.iqm_high)}"


def _relative(suite: SuiteAnalysis, arms: Sequence[_ScoredArm]) -> Chart:
    scored = {one.study_id for _, scores in arms for one in scores.scores if one.relative is not None}
    studies = [study for study in suite.studies if study.study_id in scored]
    workloads = [study.workload for study in studies]
    # Two studies of one workload need their ids.
    names = tuple(
        study.workload if workloads.count(study.workload) == 1 else f"{study.workload} ({study.study_id})"
        for study in studies
    )
    drawing = Drawing(
        Axis(title="relative performance", tick_format=".2~g", range=(-0.04, 1.04)),
        Axis(title="", labels=names, range=(len(names) - 0.4, -0.6)),
    )
    rows: list[tuple[str, ...]] = []
    for place, (arm, scores) in enumerate(arms):
        style = arm_style(arm.style)
        by_study = {one.study_id: one for one in scores.scores}
        offset = 0.5 * (place - (len(arms) - 1) / 2) / len(arms)
        points = [
            (one.relative, row + offset)
            for row, study in enumerate(studies)
            if (one := by_study.get(study.study_id)) is not None and one.relative is not None
        ]
        drawing.add(
            arm,
            [x for x, _ in points],
            [y for _, y in points],
            mode="markers",
            marker={"color": style.colour, "symbol": style.marker, "size": 10},
            hovertemplate=f"{arm.label}: %{{x:.3f}}<extra></extra>",
        )
        rows += [
            (
                arm.label,
                name,
                metric(one.test_mean, study.unit),
                score(one.relative),
                number(one.to_target, 3),
            )
            for name, study in zip(names, studies, strict=True)
            if (one := by_study.get(study.study_id)) is not None
        ]
    return Chart(
        id="relative",
        title="Relative performance on each study",
        caption=(
            f"Best arm: {_wins(arms)} of {plural(len(studies), 'study', 'studies')}. In each "
            "study, 0 is the mean test value of the worst arm and 1 that of the best. Only these relative "
            "values can be compared across studies."
        ),
        headers=("Arm", "Study", "Mean test value", "Relative", "Time to target, relative to the fastest"),
        rows=tuple(rows),
        json=drawing.json(),
        is_wide=True,
        rows_drawn=len(studies),
    )


def _wins(arms: Sequence[_ScoredArm]) -> str:
    """Return on how many studies each arm is best, e.g. 'AdamP on 2; AdamW on 1'."""
    best: dict[str, float] = {}
    for _, scores in arms:
        for one in scores.scores:
            if one.relative is not None:
                best[one.study_id] = max(one.relative, best.get(one.study_id, one.relative))
    wins = [
        (
            arm.label,
            sum(one.relative is not None and one.relative == best[one.study_id] for one in scores.scores),
        )
        for arm, scores in arms
    ]
    return "; ".join(f"{label} on {n}" for label, n in sorted(wins, key=lambda pair: -pair[1]) if n)


def _profiles(arms: Sequence[_ScoredArm]) -> Chart | None:
    shown = [(arm, scores) for arm, scores in arms if scores.profile]
    if not shown:
        return None
    drawing = Drawing(
        Axis(title="relative performance of at least", tick_format=".2~g", range=(-0.02, 1.02)),
        Axis(title="share of runs", tick_format=".3~p", range=(-0.03, 1.03)),
    )
    rows: list[tuple[str, ...]] = []
    for place, (arm, scores) in enumerate(shown):
        x = [point.threshold for point in scores.profile]
        band = [
            (point.threshold, point.low, point.high)
            for point in scores.profile
            if point.low is not None and point.high is not None
        ]
        drawing.band(
            arm,
            [at for at, _, _ in band],
            [low for _, low, _ in band],
            [high for _, _, high in band],
            shape="linear",
        )
        every = max(1, len(x) // 8)
        drawing.line(
            arm, x, [point.share for point in scores.profile], markers=range(place % every, len(x), every)
        )
        rows += [
            (
                arm.label,
                number(point.threshold, 2),
                percent(point.share),
                interval(point.low, point.high, "fraction"),
            )
            for point in scores.profile[:: max(1, len(x) // 10)]
        ]
    half = [
        (arm.label, min(scores.profile, key=lambda point: abs(point.threshold - 0.5)).share)
        for arm, scores in shown
    ]
    shares = "; ".join(
        f"{label} {percent(value)}" for label, value in sorted(half, key=lambda pair: -pair[1])[:_MOST_ARMS]
    )
    return Chart(
        id="profiles",
        title="Performance profiles",
        caption=(
            f"Share of runs with a relative performance of at least 0.5: {shares}. Every study has the same "
            "weight; bands are Wilson's 95 % intervals. An arm whose line is above another's "
            "everywhere is better at every threshold."
        ),
        headers=("Arm", "Relative performance", "Share of runs", "95 % interval"),
        rows=tuple(rows),
        json=drawing.json(),
        is_wide=True,
    )
