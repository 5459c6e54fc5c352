"""The pages of several studies together: suites, one suite, and a comparison of studies of one workload."""

__all__ = ["comparison_html", "suite_html", "suites_html"]

from collections.abc import Sequence
from typing import Any

from service.analysis_cache import AnalysisCache
from service.dashboard.figures import suite_charts
from service.dashboard.figures.chart import ChartArm
from service.dashboard.rendering import address, render
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis, SuiteArm
from studies.formatting import ABSENT, metric, number, percent
from studies.store import Store


def suites_html(store: Store) -> str:
    """Return the list of suites."""
    return render("suites.html", suites=store.suites(), here="/suites", json_url="/v1/suites")


def suite_html(store: Store, analyses: AnalysisCache, name: str) -> str:
    """Return the page of a suite.

    Raises:
        NotFound: no study has this label.
        Conflict: too many have it.
    """
    suite = analyses.suite(name)
    titles = {card.name: card.title for card in store.catalog().optimizers.values()}
    # Most arms are called after their optimizer, and so they are everywhere else.
    entrants = [
        ChartArm(arm.arm, titles.get(arm.arm, arm.arm), position)
        for position, arm in enumerate(_in_order(suite))
    ]
    by_name = {who.name: who for who in entrants}
    mine = [by_name[arm.arm] for arm in suite.arms]
    charts = suite_charts(suite, mine)
    context: dict[str, Any] = {
        "suite": suite,
        "arms": list(zip(suite.arms, mine, strict=True)),
        "studies": [(study, [_cell(suite, who, study.study_id) for who in mine]) for study in suite.studies],
        "wins": _wins(suite, mine),
        "iqm_charts": [chart for chart in charts if chart.id == "iqm"],
        "charts": [chart for chart in charts if chart.id != "iqm"],
        "counted": sum(study.is_counted for study in suite.studies),
    }
    return render(
        "suite.html", **context, has_charts=bool(charts), here="/suites", json_url=f"/v1/suites/{name}"
    )


def _in_order(suite: SuiteAnalysis) -> list[SuiteArm]:
    """Return the arms in an order that does not hang on their results.

    So an arm keeps its colour while studies come in.
    """
    return sorted(suite.arms, key=lambda arm: arm.arm)


def _cell(suite: SuiteAnalysis, who: ChartArm, study_id: str) -> tuple[str, str]:
    """Return an arm's mean test value in a study, and its time to target over the fastest's.

    '1', or 'missed'.
    """
    study = next(study for study in suite.studies if study.study_id == study_id)
    score = next(
        (
            score
            for arm in suite.arms
            if arm.arm == who.name
            for score in arm.scores
            if score.study_id == study_id
        ),
        None,
    )
    if score is None or score.test_mean is None:
        return ABSENT, ""
    return metric(
        score.test_mean, study.unit
    ), f"{number(score.to_target, 3)} × to target" if score.to_target is not None else "target missed"


def _wins(
    suite: SuiteAnalysis, arms: Sequence[ChartArm]
) -> list[tuple[ChartArm, list[tuple[str, str] | None]]]:
    """Return, row by row, the chance that the row's arm beats the column's with its interval.

    It may be on record either way round.
    """
    known = {(win.first, win.second): (win, False) for win in suite.wins} | {
        (win.second, win.first): (win, True) for win in suite.wins
    }

    def cell(row: ChartArm, column: ChartArm) -> tuple[str, str] | None:
        if (row.name, column.name) not in known:
            return None
        win, is_turned = known[row.name, column.name]
        ends = "" if win.low is None or win.high is None else _percent(win.low, win.high, is_turned=is_turned)
        return percent(1 - win.chance if is_turned else win.chance), ends

    return [(row, [cell(row, column) for column in arms]) for row in arms] if known else []


def _percent(low: float, high: float, *, is_turned: bool) -> str:
    """Return the ends of an interval of a chance, from the other side where it is turned."""
    low, high = (1 - high, 1 - low) if is_turned else (low, high)
    return f"{100 * low:.0f} to {percent(high)}"


def comparison_html(store: Store, analyses: AnalysisCache, study_ids: Sequence[str]) -> str:
    """Return the comparison of these studies.

    Raises:
        StudyNotFound: one of them is none.
        SpecInvalid: they are too few, too many, or of different workloads.
    """
    comparison: Comparison = analyses.comparison(study_ids)
    positions = {
        arm.label: position
        for position, arm in enumerate(
            sorted(comparison.arms, key=lambda arm: (study_ids.index(arm.study_id), arm.label))
        )
    }
    titles = {card.name: card.title for card in store.catalog().optimizers.values()}
    names = {
        arm.label: f"{titles.get(arm.arm, arm.arm)}{'' if arm.label == arm.arm else f' ({arm.study_id})'}"
        for arm in comparison.arms
    }
    queried = "&".join(f"study={study_id}" for study_id in study_ids)
    return render(
        "compare.html",
        comparison=comparison,
        pairs=sorted(
            comparison.pairs,
            key=lambda pair: (pair.word == "undecided", 1.0 if pair.p_holm is None else pair.p_holm),
        ),
        entrants={label: ChartArm(label, names[label], position) for label, position in positions.items()},
        studies=list(dict.fromkeys((arm.study_id, arm.study_name) for arm in comparison.arms)),
        json_url=f"/v1/comparison?{queried}",
        list_url=address("/", workload=comparison.workload),
    )
