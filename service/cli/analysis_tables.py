"""Terminal tables of analyses: confirmed arms, pairs of arms, suites and comparisons."""

__all__ = ["arms_of_suite", "compared", "confirmed", "pairs", "studies_of_suite", "suites", "targets", "wins"]

from collections.abc import Iterable, Mapping

from rich.table import Table

from service.cli.output import table
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import PairVerdict, StudyAnalysis
from studies.formatting import (
    ABSENT,
    ago,
    change,
    change_interval,
    clip_change,
    clip_interval,
    duration,
    interval,
    number,
    p_value,
    score,
    significant,
)
from studies.views import SuiteSummary

_WORDS: Mapping[str, str] = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}


def confirmed(analysis: StudyAnalysis) -> Table:
    """Return a table with one row per confirmed configuration, arms in the order of their ranks."""
    test, search = f"test {analysis.metric}", f"search {analysis.metric}"
    replicates = any(one.replicate for one in analysis.confirmed)
    right = ("rank", "runs", test, search, "validation", "shrinkage")
    columns = (
        "arm",
        "rank",
        "configuration",
        "runs",
        test,
        "95 % interval",
        search,
        "validation",
        "shrinkage",
    )
    result = table(None, *columns, right=right)
    ranks = {rank.arm: rank for rank in analysis.ranks}
    places = {arm: n for n, arm in enumerate(dict.fromkeys((*ranks, *analysis.arms)))}
    for one in sorted(analysis.confirmed, key=lambda one: places.get(one.arm, len(places))):
        rank = ranks.get(one.arm) if one.configuration == "best" else None
        place = (
            ABSENT
            if rank is None
            else f"{rank.rank:g}" + (f" ({rank.low} to {rank.high})" if rank.low != rank.high else "")
        )
        which = f"{one.configuration} (trial {one.number}" + (
            f", replicate {one.replicate})" if replicates else ")"
        )
        runs = f"{one.completed}/{one.seeds}" + (f", {one.diverged} diverged" if one.diverged else "")
        result.add_row(
            one.arm,
            place,
            which,
            runs,
            significant(one.test_mean),
            interval(*clip_interval(one.test_low, one.test_high, analysis.unit), ""),
            significant(one.search_value),
            significant(one.validation_mean),
            change(one.shrinkage, ""),
        )
    return result


def pairs(rows: Iterable[PairVerdict], *, unit: str) -> Table:
    """Return a table with one row per pair of arms: how the first compares with the second."""
    columns = ("arm", "is", "arm ", "by", "95 % interval", "p (Holm)", "effect size", "n")
    result = table(None, *columns, right=("by", "p (Holm)", "effect size", "n"))
    for pair in rows:
        result.add_row(
            pair.first,
            _WORDS[pair.word] if pair.n else "not compared with",
            pair.second,
            change(pair.difference, ""),
            change_interval(*clip_change(pair.low, pair.high, unit), ""),
            p_value(pair.p_holm),
            number(pair.effect_size, 3),
            str(pair.n),
        )
    return result


def targets(analysis: StudyAnalysis) -> Table:
    """Return a table with one row per arm: how soon it reaches the workload's target."""
    result = table(
        None,
        "arm",
        "target",
        "reached",
        "median epochs",
        "median time",
        right=("target", "reached", "median epochs", "median time"),
    )
    for arm in analysis.time_to_target:
        spent = duration(arm.elapsed_s_median) + (
            "" if arm.is_solo or arm.elapsed_s_median is None else " (share of a shared pack)"
        )
        epochs = number(arm.epochs_median)
        result.add_row(arm.arm, number(arm.target), f"{arm.reached}/{arm.runs}", epochs, spent)
    return result


def compared(comparison: Comparison) -> Table:
    """Return a table with one row per arm of the compared studies."""
    test = f"test {comparison.metric}"
    result = table(
        None,
        "arm",
        "study",
        "trials",
        "epochs",
        "runs",
        test,
        "95 % interval",
        "name",
        right=("trials", "epochs", "runs", test),
    )
    for arm in comparison.arms:
        result.add_row(
            arm.label,
            arm.study_id,
            str(arm.trials),
            str(arm.epochs),
            str(arm.runs),
            significant(arm.test_mean),
            interval(*clip_interval(arm.test_low, arm.test_high, comparison.unit), ""),
            arm.study_name,
        )
    return result


def suites(rows: Iterable[SuiteSummary]) -> Table:
    """Return a table with one row per suite."""
    result = table(None, "name", "studies", "workloads", "newest", right=("studies",))
    for suite in rows:
        result.add_row(suite.name, str(suite.studies), ", ".join(suite.workloads), ago(suite.last_at))
    return result


def studies_of_suite(analysis: SuiteAnalysis) -> Table:
    """Return a table with one row per study of a suite."""
    result = table(None, "study", "state", "workload", "metric", "included", "name")
    for study in analysis.studies:
        is_included = "yes" if study.is_counted else f"no: {study.why_not}" if study.why_not else "no"
        result.add_row(
            study.study_id,
            study.state.value,
            study.workload,
            f"{study.metric}, {study.direction}",
            is_included,
            study.name,
        )
    return result


def arms_of_suite(analysis: SuiteAnalysis) -> Table:
    """Return a table with one row per arm: its scores over all studies and its score in each."""
    counted = [study for study in analysis.studies if study.is_counted]
    # Two studies of a suite may use the same workload.
    headers = [
        study.workload if sum(s.workload == study.workload for s in counted) == 1 else study.study_id
        for study in counted
    ]
    result = table(
        None, "arm", "IQM", "95 % interval", "AlgoPerf", *headers, right=("IQM", "AlgoPerf", *headers)
    )
    for arm in analysis.arms:
        scores = {score.study_id: score.relative for score in arm.scores}
        result.add_row(
            arm.arm,
            score(arm.iqm),
            ABSENT if arm.iqm_low is None else f"{score(arm.iqm_low)} to {score(arm.iqm_high)}",
            score(arm.algoperf),
            *(score(scores.get(study.study_id)) for study in counted),
        )
    return result


def wins(analysis: SuiteAnalysis) -> Table:
    """Return a table with one row per pair of arms: how often the first beats the second."""
    result = table(None, "arm", "beats", "probability", right=("probability",))
    for pair in analysis.wins:
        result.add_row(pair.first, pair.second, score(pair.chance))
    return result
