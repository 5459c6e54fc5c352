"""The pages of suites: all of them, and one."""

__all__ = ["suite_html", "suites_html"]

from collections.abc import Sequence
from typing import Any

from service.analysis_cache import AnalysisCache
from service.cache_entry import Aged
from service.dashboard.figures import suite_charts
from service.dashboard.figures.chart import ChartArm
from service.dashboard.rendering import render
from studies.analysis.multi_study_views import SuiteAnalysis
from studies.arm_styles import style_numbers
from studies.formatting import ABSENT, metric, number, percent
from studies.store import Store


def suites_html(store: Store) -> str:
    """Return the list of suites."""
    return render("suites.html", suites=store.suites(), here="/suites", json_url="/v1/suites")


def suite_html(store: Store, analyses: AnalysisCache, name: str) -> Aged[str]:
    """Return the page of a suite with the age of its analysis.

    Raises:
        NotFound: no study belongs to this suite.
        Conflict: the suite has too many studies to analyse.
    """
    suite = analyses.suite(name)
    titles = _titles(store)
    # By name, so that an arm keeps its colour while results come in.
    order = sorted(suite.arms, key=lambda arm: arm.arm)
    styles = style_numbers([arm.optimizer for arm in order])
    by_name = {
        arm.arm: ChartArm(arm.arm, titles.get(arm.arm, arm.arm), position, style)
        for position, (arm, style) in enumerate(zip(order, styles, strict=True))
    }
    arms = [(by_name[scores.arm], scores) for scores in suite.arms]
    in_order = [arm for arm, _ in arms]
    charts = suite_charts(suite, arms)
    context: dict[str, Any] = {
        "suite": suite,
        "arms": arms,
        "studies": [
            (study, [_cell(suite, arm, study.study_id) for arm in in_order]) for study in suite.studies
        ],
        "wins": _wins(suite, in_order),
        "iqm_charts": [chart for chart in charts if chart.id == "iqm"],
        "charts": [chart for chart in charts if chart.id != "iqm"],
        "counted": sum(study.is_counted for study in suite.studies),
    }
    page = render(
        "suite.html", **context, has_charts=bool(charts), here="/suites", json_url=f"/v1/suites/{name}"
    )
    return Aged(page, suite.age_s)


def _titles(store: Store) -> dict[str, str]:
    """Return the titles of the catalogue's optimizers; most arms bear the name of their optimizer."""
    return {card.name: card.title for card in store.catalog().optimizers.values()}


def _cell(suite: SuiteAnalysis, arm: ChartArm, study_id: str) -> tuple[str, str]:
    """Return an arm's mean test value in a study, and its time to target over the fastest arm's."""
    study = next(study for study in suite.studies if study.study_id == study_id)
    score = next(
        (
            score
            for scores in suite.arms
            if scores.arm == arm.name
            for score in scores.scores
            if score.study_id == study_id
        ),
        None,
    )
    if score is None or score.test_mean is None:
        return ABSENT, ""
    to_target = "target missed" if score.to_target is None else f"{number(score.to_target, 3)}× to target"
    return metric(score.test_mean, study.unit), to_target


def _wins(
    suite: SuiteAnalysis, arms: Sequence[ChartArm]
) -> list[tuple[ChartArm, list[tuple[str, str] | None]]]:
    """Return, for each row, the chance that its arm beats each column's arm, with its interval."""
    # The analysis has every pair once; the matrix needs it from both sides.
    known = {(win.first, win.second): (win, False) for win in suite.wins} | {
        (win.second, win.first): (win, True) for win in suite.wins
    }

    def cell(row: ChartArm, column: ChartArm) -> tuple[str, str] | None:
        if (row.name, column.name) not in known:
            return None
        win, is_reversed = known[row.name, column.name]
        chance = 1 - win.chance if is_reversed else win.chance
        if win.low is None or win.high is None:
            return percent(chance), ""
        low, high = (1 - win.high, 1 - win.low) if is_reversed else (win.low, win.high)
        return percent(chance), f"{100 * low:.0f} to {percent(high)}"

    return [(row, [cell(row, column) for column in arms]) for row in arms] if known else []
