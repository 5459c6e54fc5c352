"""The sections of a report as text, tables and code, before escaping; Markdown and HTML share them."""

__all__ = ["Block", "Code", "Items", "Paragraph", "ReportChart", "Section", "Table", "measured", "sections"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.budget_differences import budgets_to_show, has_budget_verdict
from service.dashboard.figures.layers import layer_charts
from service.report.rows import ArmRow, arm_rows
from service.report.study_report import ReportedConfiguration, StudyReport
from studies.analysis.views import BudgetVerdict, PairByBudget, PairVerdict
from studies.catalog import WorkloadCard
from studies.formatting import (
    ABSENT,
    change,
    change_interval,
    count,
    duration,
    instant,
    interval,
    metric,
    metric_unit,
    number,
    p_value,
    percent,
    plural,
)


@dataclass(frozen=True)
class Paragraph:
    """One paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list, numbered or not."""

    texts: tuple[str, ...]
    is_numbered: bool = False


@dataclass(frozen=True)
class Table:
    """A table; columns from `numeric_from` on hold numbers."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric_from: int = 1


@dataclass(frozen=True)
class Code:
    """Python code under a title."""

    title: str
    python: str


@dataclass(frozen=True)
class ReportChart:
    """The place of a chart, in formats that have charts; the table next to it has its numbers."""

    name: Literal["confirmed", "budget"]


Block = Paragraph | Items | Table | Code | ReportChart


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading."""

    title: str
    blocks: tuple[Block, ...]


def sections(report: StudyReport) -> tuple[Section, ...]:
    """Return the sections of a report in reading order, without empty sections."""
    rows = arm_rows(report)
    labels = {row.arm.name: row.label for row in rows}
    is_by_budget = has_budget_verdict(report.analysis)
    result = (
        Section("Finding", _finding(report)),
        Section("Which optimizer is better?", _by_budget(report, labels)),
        Section("Which configuration should I ship?" if is_by_budget else "Arms", _arms(report, rows)),
        Section("Pairs of configurations" if is_by_budget else "Pairs of arms", _pairs(report, labels)),
        Section("Further metrics", _further_metrics(report, labels)),
        Section("Budget", _budget(report, labels)),
        Section("Checks", _checks(report)),
        Section("Time to target", _targets(report, labels)),
        Section("Sensitivity", _sensitivity(report, labels)),
        Section("Layers", _layers(report)),
        Section("Methods", tuple(Paragraph(text) for text in report.methods.paragraphs)),
        Section(
            "References",
            (Items(report.methods.references, is_numbered=True),) if report.methods.references else (),
        ),
        Section("Configurations", _configurations(report, labels)),
        Section("Study", _study(report)),
    )
    return tuple(section for section in result if section.blocks)


def _finding(report: StudyReport) -> tuple[Block, ...]:
    finding = report.analysis.finding
    sentences = finding.sentences or (finding.sentence,)
    return (
        *(Paragraph(sentence) for sentence in sentences),
        *((Items(finding.limits),) if finding.limits else ()),
    )


def _by_budget(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    verdict = report.analysis.by_budget
    if verdict is None:
        return ()
    is_new = verdict.why_none is not None and verdict.why_none not in report.analysis.finding.sentences
    blocks: list[Block] = [Paragraph(verdict.why_none)] if verdict.why_none is not None and is_new else []
    if has_budget_verdict(report.analysis):
        blocks += _curves(report, labels)
    if verdict.primary is not None and verdict.arms:
        blocks.append(_arms_at_budget(report, labels, verdict, verdict.primary))
    if verdict.primary is not None and verdict.pairs:
        unit = report.study.workload_card.unit
        blocks += [
            _pairs_at_budget(
                labels,
                verdict.pairs,
                verdict.primary,
                unit=unit,
                value="the test value",
                has_looks=bool(verdict.looks),
            ),
            _bands(report, labels, verdict, verdict.primary),
            Items(tuple(each.sentence for each in verdict.differences)),
        ]
    return tuple(blocks)


def _arms_at_budget(
    report: StudyReport, labels: dict[str, str], verdict: BudgetVerdict, primary: int
) -> Table:
    card = report.study.workload_card
    caption = (
        f"Each arm after {plural(primary, 'trial')} of tuning: the expected test {measured(card)} of the "
        "best of them by validation, from its paired trials."
    )
    rows = tuple(
        (
            labels[each.arm],
            metric(each.value, card.unit),
            number(each.rank) + (f" ({each.low} to {each.high})" if each.low != each.high else ""),
            count(each.trials),
            count(each.diverged),
        )
        for each in verdict.arms
    )
    return Table(caption, ("arm", f"expected test {card.metric}", "rank", "trials", "diverged"), rows)


def _pairs_at_budget(
    labels: dict[str, str],
    pairs: Sequence[PairByBudget],
    primary: int,
    *,
    unit: str,
    value: str,
    has_looks: bool = False,
) -> Table:
    interval_and_p = (
        "its interval for this pair alone, which covers in 1 minus the level of its look. p is corrected "
        "over the pairs that were open at that look, and a pair is decided if it is below the level."
        if has_looks
        else "its 95 % interval for this pair alone. p is corrected over all pairs."
    )
    caption = (
        f"Each pair of optimizers after {plural(primary, 'trial')} of tuning: the difference in the "
        f"expectation of {value}, first minus second{_in_unit(unit)}, with {interval_and_p}"
    )
    headers = (
        "first",
        "second",
        "first is",
        "difference",
        "interval" if has_looks else "95 % interval",
        "p (corrected)",
        "pairs of trials",
        *(("look at", "level") if has_looks else ()),
    )
    rows = tuple(
        (
            labels[pair.first],
            labels[pair.second],
            pair.word,
            change(pair.difference, unit),
            change_interval(pair.low, pair.high, unit),
            p_value(pair.p_corrected),
            count(pair.n),
            *(
                (ABSENT if pair.look is None else count(pair.look), number(pair.level, 2))
                if has_looks
                else ()
            ),
        )
        for pair in pairs
    )
    return Table(caption, headers, rows, numeric_from=3)


def _bands(report: StudyReport, labels: dict[str, str], verdict: BudgetVerdict, primary: int) -> Table:
    unit = report.study.workload_card.unit
    shown = budgets_to_show(primary, (point.trials for each in verdict.differences for point in each.points))
    rows: list[tuple[str, ...]] = []
    for each in verdict.differences:
        points = {point.trials: point for point in each.points}
        cells = (
            ABSENT
            if (point := points.get(k)) is None
            else f"{change(point.difference, unit)} ({change_interval(point.low, point.high, unit)})"
            for k in shown
        )
        rows.append((labels[each.first], labels[each.second], *cells))
    caption = (
        f"The same differences by number of trials{_in_unit(unit)}, with a 95 % band that is simultaneous "
        "over all numbers of trials and all pairs."
    )
    headers = ("first", "second", *(plural(k, "trial") for k in shown))
    return Table(caption, headers, tuple(rows), numeric_from=2)


def measured(card: WorkloadCard) -> str:
    """Return a workload's metric, with its unit unless values are shown in percent."""
    unit = metric_unit(card.unit)
    return f"{card.metric} ({unit.strip()})" if unit else card.metric


def _arms(report: StudyReport, rows: Sequence[ArmRow]) -> tuple[Block, ...]:
    card = report.study.workload_card
    replicates = report.study.spec.budget.replicates
    of = "replicates" if replicates > 1 else "fresh seeds"
    caption = (
        f"Mean test {measured(card)} of each arm's best configuration over n {of}, with its 95 % interval. "
        "The column 'search' is the best validation value of the search, which is optimistic. 'better than' "
        "and 'undecided' list other arms by number."
    )
    headers = (
        "#",
        "arm",
        "test mean",
        "95 % interval",
        "n",
        "diverged",
        "defaults",
        "search",
        "shrinkage",
        "rank",
        "better than",
        "undecided",
    )
    body = tuple(
        (
            str(row.mark),
            row.label,
            metric(row.mean, card.unit),
            interval(row.low, row.high, card.unit),
            count(row.n),
            count(row.diverged),
            metric(row.defaults_mean, card.unit),
            metric(row.search_value, card.unit),
            change(row.shrinkage, card.unit),
            _rank(row),
            ", ".join(map(str, row.better_than)) or ABSENT,
            ", ".join(map(str, row.undecided_with)) or ABSENT,
        )
        for row in rows
    )
    table = Table(caption, headers, body, numeric_from=2)
    return (ReportChart("confirmed"), table) if any(row.mean is not None for row in rows) else (table,)


def _rank(row: ArmRow) -> str:
    ranks = row.possible_ranks
    return number(row.rank) + (f" ({ranks[0]} to {ranks[1]})" if ranks else "")


def _pairs(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    unit = report.study.workload_card.unit
    return _pairs_by(report, labels, report.analysis.pairs, unit=unit, value="the test value")


def _further_metrics(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    metrics = report.analysis.metrics
    rows = tuple(
        (
            labels[each[0].arm],
            each[0].configuration,
            *(
                cell
                for of, value in zip(metrics, each, strict=True)
                for cell in (metric(value.mean, of.unit), interval(value.low, value.high, of.unit))
            ),
        )
        for each in zip(*(of.confirmed for of in metrics), strict=True)
    )
    if not rows:
        return ()
    columns = (cell for of in metrics for cell in (f"test {of.name}", "95 % interval"))
    caption = (
        "Means over fresh seeds by the workload's other metrics, at the epoch at which the objective counts."
    )
    blocks: list[Block] = [Table(caption, ("arm", "configuration", *columns), rows, numeric_from=2)]
    verdict = report.analysis.by_budget
    for of in metrics:
        if of.by_budget and verdict is not None and verdict.primary is not None:
            blocks.append(
                _pairs_at_budget(labels, of.by_budget, verdict.primary, unit=of.unit, value=f"test {of.name}")
            )
        blocks += _pairs_by(report, labels, of.pairs, unit=of.unit, value=f"test {of.name}")
    return tuple(blocks)


def _pairs_by(
    report: StudyReport, labels: dict[str, str], verdicts: Sequence[PairVerdict], *, unit: str, value: str
) -> tuple[Block, ...]:
    pairs = [pair for pair in verdicts if pair.n > 0]
    if not pairs:
        return ()
    of = (
        f"Differences between means of {value}"
        if report.study.spec.budget.replicates > 1
        else f"Mean paired differences in {value}"
    )
    headers = ("first", "second", "first is", "difference", "95 % interval", "p (Holm)", "effect size", "n")
    rows = tuple(
        (
            labels[pair.first],
            labels[pair.second],
            pair.word,
            change(pair.difference, unit),
            change_interval(pair.low, pair.high, unit),
            p_value(pair.p_holm),
            number(pair.effect_size, 3),
            count(pair.n),
        )
        for pair in pairs
    )
    table = Table(f"{of}, first minus second{_in_unit(unit)}.", headers, rows, numeric_from=3)
    return (table, Items(tuple(pair.reason for pair in pairs)))


def _in_unit(unit: str) -> str:
    """Return the unit of a difference after a comma; empty without a unit."""
    if unit == "fraction":
        return ", in percentage points"
    return metric_unit(unit).strip() and f", in {metric_unit(unit).strip()}"


def _budget(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    # The budget verdict shows the curves, too.
    return () if has_budget_verdict(report.analysis) else _curves(report, labels)


def _curves(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    analysis, unit = report.analysis, report.study.workload_card.unit
    curves = [curve for curve in analysis.curves if curve.points]
    if not curves:
        return ()
    max_trials = max(point.trials for curve in curves for point in curve.points)
    shown = sorted({1, max_trials, *(2**n for n in range(1, max_trials.bit_length()))} - {0})
    headers = ("arm", "method", *(plural(trials, "trial") for trials in shown))
    rows = tuple(
        (
            labels[curve.arm],
            curve.method + (f", {curve.band}" if curve.band else ""),
            *(
                metric(next((p.value for p in reversed(curve.points) if p.trials <= trials), None), unit)
                for trials in shown
            ),
        )
        for curve in curves
    )
    card = report.study.workload_card
    is_of_choice = all(curve.method == "expected test value of the choice" for curve in curves)
    caption = (
        f"Expected test {measured(card)} of the best of a number of trials by validation."
        if is_of_choice
        else f"Best validation {measured(card)} reached within a number of trials."
    )
    table = Table(caption, headers, rows, numeric_from=2)
    flips = tuple(
        f"From {plural(flip.trials, 'trial')} on, {labels[flip.after]} leads; with fewer, "
        f"{labels[flip.before]} leads."
        for flip in analysis.flips
    )
    has_values = any(point.value is not None for curve in curves for point in curve.points)
    return (*((ReportChart("budget"),) if has_values else ()), table, *((Items(flips),) if flips else ()))


def _layers(report: StudyReport) -> tuple[Block, ...]:
    charts = layer_charts(report.arms, report.layers)
    tables = [
        Table(chart.caption, chart.headers, chart.rows, numeric_from=2)
        for chart in charts
        if chart.id.endswith("-by-layer")
    ]
    return (*(Paragraph(chart.caption) for chart in charts if chart.id.endswith("-by-epoch")), *tables)


def _checks(report: StudyReport) -> tuple[Block, ...]:
    sentences = tuple(
        f"{'Warning: ' if check.is_warning else ''}{check.sentence}" for check in report.analysis.checks
    )
    return (Items(sentences),) if sentences else ()


def _targets(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    found, card = report.analysis.time_to_target, report.study.workload_card
    if not found:
        return ()
    rows = tuple(
        (
            labels[one.arm],
            f"{count(one.reached)} of {count(one.runs)}",
            number(one.epochs_median),
            duration(one.elapsed_s_median),
            "own" if one.is_solo else "share of a shared pack",
        )
        for one in found
    )
    caption = (
        f"Training until validation {card.metric} reaches {metric(card.target, card.unit)}"
        f"{metric_unit(card.unit)}: medians over confirmation runs, in which a run that misses the target "
        "counts as infinitely long."
    )
    return (Table(caption, ("arm", "reached by", "median epochs", "median time", "time is"), rows),)


def _sensitivity(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    found, unit = report.analysis.sensitivity, report.study.workload_card.unit
    rows = tuple(
        (
            labels[one.arm],
            ABSENT
            if one.good_range is None
            else f"{number(one.good_range.low, 3)} to {number(one.good_range.high, 3)}",
            ABSENT if one.good_range is None else percent(one.good_range.within),
            ABSENT if one.tunability.defaults_rank is None else count(one.tunability.defaults_rank),
            change(one.tunability.gain, unit),
            ", ".join(f"{name} {number(share, 2)}" for name, share in one.importances.items()) or ABSENT,
        )
        for one in found
        if one.good_range is not None or one.tunability.defaults_rank is not None or one.importances
    )
    headers = (
        "arm",
        "good learning rates",
        "within",
        "rank of the defaults",
        "gain over the defaults",
        "importances",
    )
    return (
        (
            Table(
                "How results depend on hyperparameters, by the validation values of the search.",
                headers,
                rows,
            ),
        )
        if rows
        else ()
    )


def _configurations(report: StudyReport, labels: dict[str, str]) -> tuple[Block, ...]:
    has_replicates = report.study.spec.budget.replicates > 1
    return tuple(
        Code(f"{labels[shown.arm]}: {_describe_origin(shown, has_replicates=has_replicates)}", shown.python)
        for shown in report.configurations
    )


def _describe_origin(shown: ReportedConfiguration, *, has_replicates: bool) -> str:
    """Return where a configuration comes from, e.g. 'best of the search (trial 3, replicate 1)'."""
    kind = "best of the search" if shown.configuration == "best" else "defaults"
    replicate = f", replicate {shown.replicate}" if has_replicates and shown.replicate is not None else ""
    return f"{kind} (trial {shown.number}{replicate})"


def _study(report: StudyReport) -> tuple[Block, ...]:
    study, progress = report.study, report.study.progress
    facts = (
        ("id", study.id),
        ("state", study.state.value + (f": {study.state_reason}" if study.state_reason else "")),
        ("workload", study.workload),
        ("submitted", instant(study.created_at)),
        ("ended", instant(study.ended_at)),
        (
            "search trials",
            (
                f"{count(progress.finished)} of {count(progress.trials)} finished, "
                f"{count(progress.diverged)} diverged"
            ),
        ),
        (
            "confirmation runs",
            f"{count(progress.confirmations_finished)} of {count(progress.confirmations)} finished",
        ),
        ("epochs of the search", count(progress.epochs_done)),
        *((("suite", study.suite),) if study.suite else ()),
    )
    return (Table("The study behind this report.", ("", ""), facts, numeric_from=2),)
