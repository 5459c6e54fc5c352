"""A suite's charts: each arm's relative performance study by study.

Also its interquartile mean with interval, and performance profiles.
"""

__all__ = ["suite_charts"]

from collections.abc import Sequence
from typing import Final

from service.dashboard.figures.axes import Axis
from service.dashboard.figures.chart import Chart, ChartArm, Drawing
from service.dashboard.theme import arm_style
from studies.analysis.multi_study_views import SuiteAnalysis, SuiteArm
from studies.formatting import ABSENT, interval, metric, number, percent, plural, score

_ARMS_SAID: Final = 6


def suite_charts(suite: SuiteAnalysis, entrants: Sequence[ChartArm]) -> tuple[Chart, ...]:
    """Return the charts of a suite, `entrants` being its arms in order; none while no study counts."""
    pairs = [
        (arm, who)
        for arm, who in zip(suite.arms, entrants, strict=True)
        if any(one.relative is not None for one in arm.scores)
    ]
    if not pairs:
        return ()
    charts = (_iqm(pairs), _relative(suite, pairs), _profiles(pairs))
    return tuple(chart for chart in charts if chart is not None)


def _iqm(pairs: Sequence[tuple[SuiteArm, ChartArm]]) -> Chart | None:
    shown = [(arm, who) for arm, who in pairs if arm.iqm is not None]
    if not shown:
        return None
    names = tuple(who.label for _, who in shown)
    drawing = Drawing(
        Axis(title="interquartile mean of relative performance", tick_format=".3~g"),
        Axis(title="", labels=names, range=(len(names) - 0.45, -0.55)),
    )
    for row, (arm, who) in enumerate(shown):
        said = f"{who.label}: {score(arm.iqm)} ({_ends(arm)})"
        drawing.mean(who, arm.iqm or 0.0, row, low=arm.iqm_low, high=arm.iqm_high, is_hollow=False, said=said)
    most = "; ".join(f"{who.label} {score(arm.iqm)} ({_ends(arm)})" for arm, who in shown[:_ARMS_SAID])
    return Chart(
        id="iqm",
        title="Interquartile mean over all runs",
        caption=(
            "Mean of the middle half of all runs of all studies, with its 95 % interval "
            f"(stratified bootstrap): {most}. 0 is a study's worst arm and 1 its best, so the "
            "figure changes with the company an arm is in."
        ),
        headers=("Arm", "Interquartile mean", "95 % interval"),
        rows=tuple((who.label, score(arm.iqm), _ends(arm)) for arm, who in shown),
        json=drawing.json(),
        rows_drawn=len(shown),
    )


def _ends(arm: SuiteArm) -> str:
    return (
        ABSENT
        if arm.iqm_low is None or arm.iqm_high is None
        else f"{score(arm.iqm_low)} to {score(arm.iqm_high)}"
    )


def _relative(suite: SuiteAnalysis, pairs: Sequence[tuple[SuiteArm, ChartArm]]) -> Chart:
    scored = {one.study_id for arm, _ in pairs for one in arm.scores if one.relative is not None}
    studies = [study for study in suite.studies if study.study_id in scored]
    workloads = [study.workload for study in studies]
    # Two studies of one workload are told apart by their ids.
    names = tuple(
        study.workload if workloads.count(study.workload) == 1 else f"{study.workload} ({study.study_id})"
        for study in studies
    )
    drawing = Drawing(
        Axis(title="relative performance", tick_format=".2~g", range=(-0.04, 1.04)),
        Axis(title="", labels=names, range=(len(names) - 0.4, -0.6)),
    )
    rows: list[tuple[str, ...]] = []
    units = {study.study_id: study.unit for study in studies}
    for place, (arm, who) in enumerate(pairs):
        style = arm_style(who.position)
        by_study = {one.study_id: one for one in arm.scores}
        aside = 0.5 * (place - (len(pairs) - 1) / 2) / len(pairs)
        points = [
            (one.relative, row + aside)
            for row, study in enumerate(studies)
            if (one := by_study.get(study.study_id)) is not None and one.relative is not None
        ]
        drawing.add(
            who,
            [x for x, _ in points],
            [y for _, y in points],
            mode="markers",
            marker={"color": style.colour, "symbol": style.marker, "size": 10},
            hovertemplate=f"{who.label}: %{{x:.3f}}<extra></extra>",
        )
        rows += [
            (
                who.label,
                name,
                metric(one.test_mean, units[study.study_id]),
                score(one.relative),
                number(one.to_target, 3),
            )
            for name, study in zip(names, studies, strict=True)
            if (one := by_study.get(study.study_id)) is not None
        ]
    best = {
        study.study_id: max(
            (
                one.relative
                for arm, _ in pairs
                for one in arm.scores
                if one.study_id == study.study_id and one.relative is not None
            ),
            default=None,
        )
        for study in studies
    }
    firsts = [
        (
            who.label,
            sum(one.relative is not None and one.relative == best.get(one.study_id) for one in arm.scores),
        )
        for arm, who in pairs
    ]
    said = "; ".join(f"{name} on {most}" for name, most in sorted(firsts, key=lambda pair: -pair[1]) if most)
    return Chart(
        id="relative",
        title="Relative performance on each study",
        caption=(
            f"Best of its study: {said or 'none'} of {plural(len(studies), 'study', 'studies')}. Of "
            "each study, 0 is the worst arm's mean test value and 1 the best arm's; between studies "
            "only such shares can be compared."
        ),
        headers=("Arm", "Study", "Mean test value", "Relative", "Time to target over the fastest"),
        rows=tuple(rows),
        json=drawing.json(),
        is_wide=True,
        rows_drawn=len(studies),
    )


def _profiles(pairs: Sequence[tuple[SuiteArm, ChartArm]]) -> Chart | None:
    shown = [(arm, who) for arm, who in pairs if arm.profile]
    if not shown:
        return None
    drawing = Drawing(
        Axis(title="relative performance of at least", tick_format=".2~g", range=(-0.02, 1.02)),
        Axis(title="share of runs", tick_format=".3~p", range=(-0.03, 1.03)),
    )
    rows: list[tuple[str, ...]] = []
    for place, (arm, who) in enumerate(shown):
        x = [point.threshold for point in arm.profile]
        banded = [
            (point.threshold, point.low, point.high)
            for point in arm.profile
            if point.low is not None and point.high is not None
        ]
        drawing.band(
            who,
            [at for at, _, _ in banded],
            [low for _, low, _ in banded],
            [high for _, _, high in banded],
            shape="linear",
        )
        every = max(1, len(x) // 8)
        drawing.line(
            who, x, [point.share for point in arm.profile], markers=range(place % every, len(x), every)
        )
        rows += [
            (
                who.label,
                number(point.threshold, 2),
                percent(point.share),
                interval(point.low, point.high, "fraction"),
            )
            for point in arm.profile[:: max(1, len(x) // 10)]
        ]
    half = [
        (who.label, min(arm.profile, key=lambda point: abs(point.threshold - 0.5)).share)
        for arm, who in shown
    ]
    said = "; ".join(
        f"{name} {percent(value)}" for name, value in sorted(half, key=lambda pair: -pair[1])[:_ARMS_SAID]
    )
    return Chart(
        id="profiles",
        title="Performance profiles",
        caption=(
            f"Runs with a relative performance of at least 0.5: {said}. Each study weighs the same; bands "
            "are 95 % intervals (stratified bootstrap). An arm whose line lies above another's everywhere "
            "is the better choice whatever one asks for."
        ),
        headers=("Arm", "Relative performance", "Share of runs", "95 % interval"),
        rows=tuple(rows),
        json=drawing.json(),
        is_wide=True,
    )
