"""The pages of several studies: all suites, one suite, and a comparison of studies of one workload."""

__all__ = ["comparison_html", "suite_html", "suites_html"]

from collections.abc import Sequence
from functools import partial
from typing import Any

from service.analysis_cache import AnalysisCache
from service.cache_entry import Aged
from service.dashboard.figures import comparison_charts, suite_charts
from service.dashboard.figures.chart import Chart, ChartArm
from service.dashboard.figures.seed_bands import ArmRuns, steps_of_epoch
from service.dashboard.rendering import address, render
from service.dashboard.tables import budget_pair_rows
from studies.analysis.multi_study_views import ComparedArm, Comparison, SuiteAnalysis
from studies.arm_styles import style_numbers
from studies.formatting import ABSENT, metric, number, percent
from studies.states import TrialState
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
    names = sorted(arm.arm for arm in suite.arms)
    by_name = {
        name: ChartArm(name, titles.get(name, name), position, style)
        for position, (name, style) in enumerate(zip(names, style_numbers(names), strict=True))
    }
    arms = [(by_name[scores.arm], scores) for scores in suite.arms]
    order = [arm for arm, _ in arms]
    charts = suite_charts(suite, arms)
    context: dict[str, Any] = {
        "suite": suite,
        "arms": arms,
        "studies": [(study, [_cell(suite, arm, study.study_id) for arm in order]) for study in suite.studies],
        "wins": _wins(suite, order),
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


def comparison_html(store: Store, analyses: AnalysisCache, study_ids: Sequence[str]) -> Aged[str]:
    """Return the comparison of these studies with its age.

    Raises:
        StudyNotFound: one of them does not exist.
        SpecInvalid: there are too few or too many, or their workloads differ.
    """
    comparison: Comparison = analyses.comparison(study_ids)
    titles = _titles(store)
    # By study, so that an arm keeps its colour while results come in.
    order = sorted(comparison.arms, key=lambda arm: (study_ids.index(arm.study_id), arm.label))
    by_label = {
        arm.label: ChartArm(
            arm.label,
            f"{titles.get(arm.arm, arm.arm)}{'' if arm.label == arm.arm else f' ({arm.study_id})'}",
            position,
            style,
        )
        for position, (arm, style) in enumerate(
            zip(order, style_numbers([arm.optimizer for arm in order]), strict=True)
        )
    }
    pairs = sorted(
        comparison.pairs,
        key=lambda pair: (pair.word == "undecided", 1.0 if pair.p_holm is None else pair.p_holm),
    )
    queried = "&".join(f"study={study_id}" for study_id in study_ids)
    arms = [(by_label[arm.label], arm) for arm in comparison.arms]
    charts = analyses.get(
        ("comparison charts", *study_ids),
        study_ids,
        lambda: analyses.compute(partial(_comparison_charts, comparison, arms)),
    ).value
    page = render(
        "compare.html",
        comparison=comparison,
        arms=arms,
        key=sorted(by_label.values(), key=lambda arm: arm.position),
        charts=charts,
        has_charts=bool(charts),
        budget_pairs=budget_pair_rows(comparison.by_budget, by_label),
        pairs=[(by_label[pair.first], by_label[pair.second], pair) for pair in pairs],
        studies=list(dict.fromkeys((arm.study_id, arm.study_name) for arm in comparison.arms)),
        json_url=f"/v1/comparison?{queried}",
        list_url=address("/", workload=comparison.workload),
    )
    return Aged(page, comparison.age_s)


def _comparison_charts(
    comparison: Comparison, arms: Sequence[tuple[ChartArm, ComparedArm]], store: Store
) -> tuple[Chart, ...]:
    card = store.study(comparison.arms[0].study_id).workload_card
    return comparison_charts(comparison, arms, _runs(store, arms), card)


def _runs(store: Store, compared: Sequence[tuple[ChartArm, ComparedArm]]) -> list[ArmRuns]:
    """Return the completed confirmation runs of each arm's best trial, or that trial alone."""
    found: list[ArmRuns] = []
    for study_id in dict.fromkeys(one.study_id for _, one in compared):
        study = store.study(study_id)
        views = {arm.name: arm for arm in store.arms(study_id)}
        confirmations = store.every_trial(study_id, phase="confirmation")
        for arm, one in compared:
            best = views[one.arm].best if one.study_id == study_id and one.arm in views else None
            if best is None:
                continue
            ids = [
                t.id
                for t in confirmations
                if (t.arm, t.confirms, t.state) == (one.arm, best.number, TrialState.COMPLETED)
            ]
            measured = store.measurements_of(ids or [best.trial_id])
            if measured:
                steps = steps_of_epoch(study, best.parameters)
                found.append(ArmRuns(arm, tuple(measured.values()), steps, is_confirmed=bool(ids)))
    return found
