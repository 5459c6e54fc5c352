"""Terminal tables of analyses: confirmed arms, pairs of arms, suites and comparisons."""

__all__ = [
    "arms_of_suite",
    "at_budgets",
    "by_budget",
    "compared",
    "confirmed",
    "detectable",
    "further",
    "optimizer_pairs",
    "pairs",
    "studies_of_suite",
    "suites",
    "targets",
    "wins",
]

from collections.abc import Iterable, Mapping, Sequence

from service.budget_differences import budgets_to_show
from service.cli.fitted_table import FittedTable
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.power_views import StudyPower
from studies.analysis.views import BudgetVerdict, PairByBudget, PairVerdict, StudyAnalysis
from studies.formatting import (
    ABSENT,
    ago,
    change,
    change_interval,
    count,
    duration,
    interval,
    metric,
    number,
    p_value,
    score,
)
from studies.views import SuiteSummary

_WORDS: Mapping[str, str] = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}


def _in_points(header: str, unit: str) -> str:
    """Return the header of a column of differences; those between fractions are in percentage points."""
    return f"{header} (points)" if unit == "fraction" else header


def confirmed(analysis: StudyAnalysis) -> FittedTable:
    """Return a table with one row per confirmed configuration, arms in the order of their ranks."""
    test, search, unit = f"test {analysis.metric}", f"search {analysis.metric}", analysis.unit
    shrinkage = _in_points("shrinkage", unit)
    replicates = any(one.replicate for one in analysis.confirmed)
    right = ("rank", "runs", test, search, "validation", shrinkage)
    columns = (
        "arm",
        "rank",
        "configuration",
        "runs",
        test,
        "95 % interval",
        search,
        "validation",
        shrinkage,
    )
    result = FittedTable(*columns, right=right, text={"configuration": 12})
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
            metric(one.test_mean, unit),
            interval(one.test_low, one.test_high, unit),
            metric(one.search_value, unit),
            metric(one.validation_mean, unit),
            change(one.shrinkage, unit),
        )
    return result


def pairs(rows: Iterable[PairVerdict], *, unit: str) -> FittedTable:
    """Return a table with one row per pair of arms: how the first compares with the second."""
    difference = _in_points("by", unit)
    columns = ("arm", "is", "arm ", difference, "95 % interval", "p (Holm)", "effect size", "n")
    result = FittedTable(*columns, right=(difference, "p (Holm)", "effect size", "n"))
    for pair in rows:
        result.add_row(
            pair.first,
            _WORDS[pair.word] if pair.n else "not compared with",
            pair.second,
            change(pair.difference, unit),
            change_interval(pair.low, pair.high, unit),
            p_value(pair.p_holm),
            number(pair.effect_size, 3),
            str(pair.n),
        )
    return result


def at_budgets(analysis: StudyAnalysis, verdict: BudgetVerdict) -> FittedTable:
    """Return a table with one row per arm: its expected test value at three budgets, best first."""
    assert verdict.primary is not None, "arms are judged at a primary budget"
    values = {
        (curve.arm, point.trials): point.value for curve in analysis.curves for point in curve.points
    } | {(each.arm, verdict.primary): each.value for each in verdict.arms}
    shown = budgets_to_show(verdict.primary, (trials for _, trials in values))
    headers = [f"k = {count(k)}" for k in shown]
    result = FittedTable(
        "arm", *headers, "rank", "trials", "diverged", right=(*headers, "rank", "trials", "diverged")
    )
    for each in verdict.arms:
        rank = number(each.rank) + (f" ({each.low} to {each.high})" if each.low != each.high else "")
        result.add_row(
            each.arm,
            *(metric(values.get((each.arm, k)), analysis.unit) for k in shown),
            rank,
            count(each.trials),
            count(each.diverged),
        )
    return result


def by_budget(verdict: BudgetVerdict, *, unit: str) -> FittedTable:
    """Return a table with one row per pair of arms: the word at the primary budget, and the band at others.

    The words, intervals and p-values are those of the primary budget; at the smallest and the largest budget
    the table has the difference with its simultaneous band.
    """
    assert verdict.primary is not None, "pairs are judged at a primary budget"
    points = {
        (each.first, each.second, point.trials): point
        for each in verdict.differences
        for point in each.points
    }
    shown = budgets_to_show(verdict.primary, (trials for *_, trials in points))
    others = [k for k in shown if k != verdict.primary]

    def band(pair: PairByBudget, k: int) -> str:
        at = points.get((pair.first, pair.second, k))
        if at is None:
            return ABSENT
        return f"{change(at.difference, unit)} ({change_interval(at.low, at.high, unit)})"

    looked_at: dict[str, list[str]] = {}
    if verdict.looks:
        looked_at["look at"] = [ABSENT if pair.look is None else count(pair.look) for pair in verdict.pairs]
        looked_at["level"] = [number(pair.level, 2) for pair in verdict.pairs]
    return optimizer_pairs(
        verdict.pairs,
        unit=unit,
        by=f"by, at k = {count(verdict.primary)}",
        further=looked_at
        | {
            _in_points(f"k = {count(k)}, band", unit): [band(pair, k) for pair in verdict.pairs]
            for k in others
        },
    )


def optimizer_pairs(
    rows: Sequence[PairByBudget],
    *,
    unit: str,
    by: str = "by",
    further: Mapping[str, Sequence[str]] | None = None,
) -> FittedTable:
    """Return a table with one row per pair of arms at the primary budget, and further columns by header."""
    more = further or {}
    difference = _in_points(by, unit)
    # At a look an interval covers in 1 minus the level of that look.
    covering = "interval" if any(pair.level is not None for pair in rows) else "95 % interval"
    columns = ("arm", "is", "arm ", difference, covering, "p (corrected)", "n", *more)
    result = FittedTable(*columns, right=(difference, "p (corrected)", "n"))
    for row, pair in enumerate(rows):
        result.add_row(
            pair.first,
            _WORDS[pair.word],
            pair.second,
            change(pair.difference, unit),
            change_interval(pair.low, pair.high, unit),
            p_value(pair.p_corrected),
            str(pair.n),
            *(cells[row] for cells in more.values()),
        )
    return result


def detectable(power: StudyPower) -> FittedTable:
    """Return a table with one row per pair of arms: its detectable gap, and what half of it takes."""
    gap = _in_points("detectable gap", power.unit)
    columns = ("arm", "and", gap, "n", "pairs for half", "trials", "training time")
    result = FittedTable(*columns, right=columns[2:])
    for pair in power.pairs:
        result.add_row(
            pair.first,
            pair.second,
            change(pair.detectable, power.unit).removeprefix("+"),
            str(pair.n),
            ABSENT if pair.pairs_for_half is None else count(pair.pairs_for_half),
            ABSENT if pair.trials_for_half is None else count(pair.trials_for_half),
            duration(pair.seconds_for_half),
        )
    return result


def further(analysis: StudyAnalysis) -> FittedTable:
    """Return a table with one row per confirmed configuration: its test values by further metrics."""
    tests = [f"test {of.name}" for of in analysis.metrics]
    columns = [name for test in tests for name in (test, f"{test}: 95 % interval")]
    result = FittedTable("arm", "configuration", *columns, right=tests)
    for each in zip(*(of.confirmed for of in analysis.metrics), strict=True):
        cells = [
            cell
            for of, value in zip(analysis.metrics, each, strict=True)
            for cell in (
                metric(value.mean, of.unit),
                interval(value.low, value.high, of.unit),
            )
        ]
        result.add_row(each[0].arm, each[0].configuration, *cells)
    return result


def targets(analysis: StudyAnalysis) -> FittedTable:
    """Return a table with one row per arm: how soon it reaches the workload's target."""
    result = FittedTable(
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
        result.add_row(arm.arm, metric(arm.target, analysis.unit), f"{arm.reached}/{arm.runs}", epochs, spent)
    return result


def compared(comparison: Comparison) -> FittedTable:
    """Return a table with one row per arm of the compared studies."""
    test = f"test {comparison.metric}"
    result = FittedTable(
        "arm",
        "study",
        "trials",
        "epochs",
        "runs",
        test,
        "95 % interval",
        "name",
        right=("trials", "epochs", "runs", test),
        text={"arm": 12, "name": 12},
    )
    for arm in comparison.arms:
        result.add_row(
            arm.label,
            arm.study_id,
            str(arm.trials),
            str(arm.epochs),
            str(arm.runs),
            metric(arm.test_mean, comparison.unit),
            interval(arm.test_low, arm.test_high, comparison.unit),
            arm.study_name,
        )
    return result


def suites(rows: Iterable[SuiteSummary]) -> FittedTable:
    """Return a table with one row per suite."""
    result = FittedTable(
        "name", "studies", "workloads", "newest", right=("studies",), text={"name": 12, "workloads": 16}
    )
    for suite in rows:
        result.add_row(suite.name, str(suite.studies), ", ".join(suite.workloads), ago(suite.last_at))
    return result


def studies_of_suite(analysis: SuiteAnalysis) -> FittedTable:
    """Return a table with one row per study of a suite."""
    result = FittedTable(
        "study", "state", "workload", "metric", "included", "name", text={"included": 12, "name": 12}
    )
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


def arms_of_suite(analysis: SuiteAnalysis) -> FittedTable:
    """Return a table with one row per arm: its scores over all studies and its score in each."""
    counted = [study for study in analysis.studies if study.is_counted]
    # Two studies of a suite may use the same workload.
    headers = [
        study.workload if sum(s.workload == study.workload for s in counted) == 1 else study.study_id
        for study in counted
    ]
    tuned = () if analysis.budget is None else (f"IQM, k = {count(analysis.budget)}",)
    result = FittedTable(
        "arm",
        "IQM",
        "95 % interval",
        *tuned,
        "AlgoPerf",
        *headers,
        right=("IQM", *tuned, "AlgoPerf", *headers),
    )
    for arm in analysis.arms:
        scores = {score.study_id: score.relative for score in arm.scores}
        result.add_row(
            arm.arm,
            score(arm.iqm),
            ABSENT if arm.iqm_low is None else f"{score(arm.iqm_low)} to {score(arm.iqm_high)}",
            *([score(arm.budget_iqm)] if tuned else []),
            score(arm.algoperf),
            *(score(scores.get(study.study_id)) for study in counted),
        )
    return result


def wins(analysis: SuiteAnalysis) -> FittedTable:
    """Return a table with one row per pair of arms: how often the first beats the second."""
    result = FittedTable("arm", "beats", "probability", right=("probability",))
    for pair in analysis.wins:
        result.add_row(pair.first, pair.second, score(pair.chance))
    return result
