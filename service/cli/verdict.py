"""`tangent verdict`, `power`, `compare` and `suite`: findings of studies, with their uncertainty."""

__all__ = ["compare", "power", "suite", "verdict"]

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, FAILED, CommandError
from service.cli.output import AsJson, console, print_json
from studies.formatting import duration, plural

if TYPE_CHECKING:
    from rich.console import Console

    from studies.analysis.views import BudgetVerdict, Finding, StudyAnalysis

StudyIds = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help=(
            "Two or more studies or arms of one workload. A study: its id, a unique prefix of it, or `last`. "
            "An arm: the same, a dot and the arm's name."
        ),
    ),
]
SuiteName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show this suite in full.", show_default=False)
]

_SHIP: Final = "Which configuration should I ship? By runs on fresh seeds:"


def _print_lines(out: "Console", lines: Iterable[str], *, style: str | None = None, prefix: str = "") -> None:
    for line in lines:
        out.print(f"{prefix}{line}", style=style, soft_wrap=True)


def _print_finding(out: "Console", finding: "Finding") -> None:
    _print_lines(out, finding.sentences or [finding.sentence], style="bold")
    _print_lines(out, finding.limits, prefix="- ")


def _print_age(out: "Console", age_s: float) -> None:
    if age_s:
        _print_lines(out, [f"This analysis is {duration(age_s)} old. A newer one is being computed."])


def verdict(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show which arm is better, by how much and how certain that is.

    With paired trials the verdict says which optimizer is better after k trials of tuning, and which
    configuration to ship by its runs on fresh seeds. Without, it rests on the latter. Warnings and notes
    follow the tables. Exit with 1 if an arm has no usable value.
    """
    with connected(url, token) as service:
        analysis = service.client.analysis(service.study_id(study))
    if as_json:
        print_json(analysis.model_dump(mode="json"))
    else:
        _print_verdict(analysis)
    if any(check.kind == "no-usable-value" for check in analysis.checks):
        raise typer.Exit(FAILED)


def _print_verdict(analysis: "StudyAnalysis") -> None:
    from service.budget_differences import has_budget_verdict
    from service.cli import analysis_tables as tables

    out = console()
    _print_finding(out, analysis.finding)
    _print_age(out, analysis.age_s)
    if analysis.by_budget is not None:
        _print_by_budget(out, analysis, analysis.by_budget)
    shown = (
        (analysis.confirmed, tables.confirmed(analysis), _SHIP if has_budget_verdict(analysis) else None),
        # A pair compares nothing unless both arms have confirmation runs.
        (any(pair.n for pair in analysis.pairs), tables.pairs(analysis.pairs, unit=analysis.unit), None),
        (analysis.time_to_target, tables.targets(analysis), None),
    )
    for rows, table, heading in shown:
        if rows:
            _print_lines(out, ["", heading] if heading else [""])
            out.print(table)
    if any(metric.confirmed for metric in analysis.metrics):
        out.print()
        out.print(tables.further(analysis))
    for metric in analysis.metrics:
        if metric.by_budget and analysis.by_budget is not None:
            after = plural(analysis.by_budget.primary or 0, "trial")
            _print_lines(out, ["", f"By test {metric.name}, {metric.direction}, after {after} of tuning:"])
            out.print(tables.optimizer_pairs(metric.by_budget, unit=metric.unit))
        if any(pair.n for pair in metric.pairs):
            _print_lines(out, ["", f"By test {metric.name}, {metric.direction}:"])
            out.print(tables.pairs(metric.pairs, unit=metric.unit))
    if analysis.checks or analysis.flips:
        out.print()
    _print_lines(out, (check.sentence for check in analysis.checks if check.is_warning), prefix="warning: ")
    _print_lines(
        out,
        (
            f"From {plural(flip.trials, 'trial')} on, {flip.after} leads the search instead of {flip.before}."
            for flip in analysis.flips
        ),
        prefix="note: ",
    )
    _print_lines(out, (check.sentence for check in analysis.checks if not check.is_warning), prefix="note: ")


def _print_by_budget(out: "Console", analysis: "StudyAnalysis", verdict: "BudgetVerdict") -> None:
    from service.cli import analysis_tables as tables

    # A study in progress says so in its finding.
    if verdict.why_none is not None and verdict.why_none not in analysis.finding.sentences:
        _print_lines(out, ["", verdict.why_none])
    if verdict.primary is None or not verdict.arms:
        return
    _print_lines(out, ["", f"Which optimizer is better? Test {analysis.metric} of the best of k trials:"])
    out.print(tables.at_budgets(analysis, verdict))
    _print_pairs_by_budget(out, verdict, unit=analysis.unit)


def _print_pairs_by_budget(out: "Console", verdict: "BudgetVerdict", *, unit: str) -> None:
    from service.cli import analysis_tables as tables

    if verdict.primary is None or not verdict.pairs:
        return
    out.print()
    out.print(tables.by_budget(verdict, unit=unit))
    reversed_ones = [each.sentence for each in verdict.differences if each.is_reversed]
    _print_lines(out, reversed_ones, prefix="note: ")


def power(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show which gap a finished study could have detected, and what half of it would take.

    A detectable gap is called by the verdict on optimizers in 80 % of such studies. It follows from the
    study's own paired trials.
    """
    from service.cli import analysis_tables as tables

    with connected(url, token) as service:
        found = service.client.power(service.study_id(study))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out = console()
    _print_lines(out, [found.sentence], style="bold")
    if found.pairs:
        out.print()
        out.print(tables.detectable(found))


def compare(studies: StudyIds, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show arms of one workload side by side, with a verdict for every pair: of studies, or chosen ones."""
    from service.cli import analysis_tables as tables

    if len(studies) < 2:
        raise CommandError(
            "expected two or more studies or arms to compare, got 1; the arms of one study are compared by "
            f"`tangent verdict {studies[0].partition('.')[0]}`",
            exit_code=BAD_INPUT,
        )
    with connected(url, token) as service:
        given = [each.partition(".") for each in studies]
        comparison = service.client.comparison(
            [service.study_id(study) for study, dot, _ in given if not dot],
            arms=[f"{service.study_id(study)}.{arm}" for study, dot, arm in given if dot],
        )
    if as_json:
        print_json(comparison.model_dump(mode="json"))
        return
    out = console()
    _print_age(out, comparison.age_s)
    out.print(tables.compared(comparison))
    if comparison.by_budget is not None:
        _print_pairs_by_budget(out, comparison.by_budget, unit=comparison.unit)
    elif comparison.why_no_budget_verdict is not None:
        _print_lines(out, ["", comparison.why_no_budget_verdict])
    if comparison.pairs:
        _print_lines(out, ["", _SHIP] if comparison.by_budget is not None else [""])
        out.print(tables.pairs(comparison.pairs, unit=comparison.unit))
    if comparison.cautions:
        out.print()
        _print_lines(out, comparison.cautions, prefix="warning: ")


def suite(name: SuiteName = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the suites, or show the joint findings of one suite's studies."""
    from service.cli import analysis_tables as tables

    out = console()
    if name is None:
        with connected(url, token) as service:
            summaries = service.client.suites()
        if as_json:
            print_json([suite.model_dump(mode="json") for suite in summaries])
        else:
            out.print(
                tables.suites(summaries)
                if summaries
                else "There are no suites yet; studies with the same `suite` form one."
            )
        return
    with connected(url, token) as service:
        analysis = service.client.suite(name)
    if as_json:
        print_json(analysis.model_dump(mode="json"))
        return
    _print_finding(out, analysis.finding)
    _print_age(out, analysis.age_s)
    shown = (
        (analysis.arms, tables.arms_of_suite(analysis)),
        (analysis.wins, tables.wins(analysis)),
        (analysis.studies, tables.studies_of_suite(analysis)),
    )
    for rows, table in shown:
        if rows:
            out.print()
            out.print(table)
