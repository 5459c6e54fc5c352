"""The page that compares arms of one workload, and the one that suggests a suite for several."""

__all__ = ["comparison_html"]

from collections.abc import Sequence
from functools import partial
from typing import Final, get_args

from service.analysis_cache import AnalysisCache
from service.cache_entry import Aged
from service.chosen_arms import ChosenArms
from service.dashboard.figures import Against, comparison_charts
from service.dashboard.figures.chart import Chart, ChartArm
from service.dashboard.figures.seed_bands import ArmRuns, steps_of_epoch
from service.dashboard.rendering import address, render
from service.dashboard.side_by_side import rows_of_configurations
from service.dashboard.tables import budget_pair_rows
from studies.actors import Actor, may_change
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.arm_styles import style_numbers
from studies.store import Store
from studies.study_filter import StudyFilter
from studies.views import StudyView

_LONGEST_NAME: Final = 64
_OTHERS: Final = 50
_BY_BUDGET: Final = ("compared-curves", "compared-differences")
_MEANS: Final = "compared-means"


def comparison_html(
    store: Store, analyses: AnalysisCache, chosen: ChosenArms, *, against: Against, reader: Actor
) -> Aged[str]:
    """Return the comparison of these arms with its age; of several workloads, the suggestion of a suite.

    Raises:
        StudyNotFound: one of the studies does not exist.
        SpecInvalid: one of the arms does not exist, or the studies measure their workload differently.
    """
    studies = [store.study(study_id) for study_id in chosen.studies]
    if len({study.workload for study in studies}) > 1:
        return Aged(_suggestion_html(studies, reader=reader), 0.0)
    comparison = analyses.comparison(chosen)
    titles = {card.name: card.title for card in store.catalog().optimizers.values()}
    # By study, so that an arm keeps its colour while results come in.
    order = sorted(comparison.arms, key=lambda arm: (chosen.studies.index(arm.study_id), arm.label))
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
    arms = [(by_label[arm.label], arm) for arm in comparison.arms]
    charts = analyses.get(
        ("comparison charts", against, *chosen.key),
        chosen.studies,
        lambda: analyses.compute(partial(_charts, comparison, arms, against)),
    ).value
    shown = {(arm.study_id, arm.arm) for arm in comparison.arms}
    others = store.studies(StudyFilter(workload=comparison.workload), page_size=_OTHERS)
    rows = rows_of_configurations([(arm.parameters, arm.defaults) for arm in comparison.arms])
    page = render(
        "compare.html",
        comparison=comparison,
        arms=arms,
        choice=[(study, [(name, (study.id, name) in shown) for name in study.arms]) for study in studies],
        others=[study for study in others.items if study.id not in chosen.studies],
        key=sorted(by_label.values(), key=lambda arm: arm.position),
        configurations=[row for row in rows if not row.is_plain],
        plain=[row.name for row in rows if row.is_plain],
        budget_charts=[chart for chart in charts if chart.id in _BY_BUDGET],
        means=[chart for chart in charts if chart.id == _MEANS],
        charts=[chart for chart in charts if chart.id not in {*_BY_BUDGET, _MEANS}],
        has_charts=bool(charts),
        against=against,
        units=get_args(Against),
        shown_with=partial(address, "/compare", **chosen.query),
        budget_pairs=budget_pair_rows(comparison.by_budget, by_label),
        pairs=[(by_label[pair.first], by_label[pair.second], pair) for pair in pairs],
        studies=list(dict.fromkeys((arm.study_id, arm.study_name) for arm in comparison.arms)),
        json_url=address("/v1/comparison", **chosen.query),
        list_url=address("/", workload=comparison.workload),
    )
    return Aged(page, comparison.age_s)


def _charts(
    comparison: Comparison, arms: Sequence[tuple[ChartArm, ComparedArm]], against: Against, store: Store
) -> tuple[Chart, ...]:
    card = store.study(comparison.arms[0].study_id).workload_card
    return comparison_charts(comparison, arms, _runs(store, arms), card, against=against)


def _runs(store: Store, compared: Sequence[tuple[ChartArm, ComparedArm]]) -> list[ArmRuns]:
    """Return the completed confirmation runs of each arm's best trial, or that trial alone."""
    studies = {study_id: store.study(study_id) for study_id in {one.study_id for _, one in compared}}
    found: list[ArmRuns] = []
    for arm, one in compared:
        runs = tuple(store.measurements_of(one.trials_drawn).values())
        if runs:
            steps = steps_of_epoch(studies[one.study_id], one.parameters or {})
            found.append(ArmRuns(arm, runs, steps, is_confirmed=one.runs > 0))
    return found


def _suggestion_html(studies: Sequence[StudyView], *, reader: Actor) -> str:
    """Return the page for studies of several workloads: a suite judges them together."""
    workloads = list(dict.fromkeys(study.workload for study in studies))
    labels = list(dict.fromkeys(study.suite for study in studies if study.suite is not None))
    is_suite = len(labels) == 1 and all(study.suite == labels[0] for study in studies)
    suite = labels[0] if len(labels) == 1 else "-".join(workloads)[:_LONGEST_NAME].rstrip("-")
    outside = [study for study in studies if study.suite != suite]
    return render(
        "compare_workloads.html",
        studies=studies,
        workloads=workloads,
        in_common=[arm for arm in studies[0].arms if all(arm in study.arms for study in studies)],
        suite=suite,
        is_suite=is_suite,
        outside=outside,
        may_change=all(may_change(reader, study.owner) for study in outside),
        json_url=f"/v1/studies/{studies[0].id}",
        more_json=[f"/v1/studies/{study.id}" for study in studies[1:]],
    )
