"""`tangent verdict`, `compare` and `suite`: what studies found, and how sure that is."""

__all__ = ["compare", "suite", "verdict"]

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import AsJson, StudyId, Token, Url, connected
from service.cli.output import console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from studies.analysis.views import Finding

StudyIds = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...", help="Ids of two or more studies of one workload, beginnings of them, or `last`."
    ),
]
SuiteName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show this one in full.", show_default=False)
]


def _say(out: "Console", sentences: Iterable[str], *, style: str | None = None, mark: str = "") -> None:
    for sentence in sentences:
        out.print(f"{mark}{sentence}", style=style, soft_wrap=True)


def _say_finding(out: "Console", found: "Finding") -> None:
    _say(out, [found.sentence], style="bold")
    _say(out, found.limits, mark="- ")


def verdict(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show which arm is better, by how much and how sure.

    From runs on fresh seeds, with what to know beside it.
    """
    from service.cli import analysis_tables as tables

    with connected(url, token) as service:
        found = service.client.analysis(service.study_id(study))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out = console()
    _say_finding(out, found.finding)
    shown = (
        (found.confirmed, tables.confirmed(found)),
        # Without a run on both sides a pair says nothing.
        (any(pair.n for pair in found.pairs), tables.pairs(found.pairs)),
        (found.time_to_target, tables.targets(found)),
    )
    for rows, made in shown:
        if rows:
            out.print()
            out.print(made)
    if found.checks or found.flips:
        out.print()
    _say(out, (check.sentence for check in found.checks if check.is_warning), mark="warning: ")
    _say(
        out,
        (
            f"from {flip.trials} trials on, {flip.after} leads instead of {flip.before} in the search"
            for flip in found.flips
        ),
        mark="note: ",
    )
    _say(out, (check.sentence for check in found.checks if not check.is_warning), mark="note: ")


def compare(studies: StudyIds, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show the arms of several studies of one workload side by side, with a verdict for every pair."""
    from service.cli import analysis_tables as tables

    with connected(url, token) as service:
        found = service.client.comparison([service.study_id(given) for given in studies])
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    out = console()
    out.print(tables.compared(found))
    if found.pairs:
        out.print()
        out.print(tables.pairs(found.pairs))
    if found.cautions:
        out.print()
        _say(out, found.cautions, mark="warning: ")


def suite(name: SuiteName = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the suites, or show what the studies of one say together."""
    from service.cli import analysis_tables as tables

    out = console()
    if name is None:
        with connected(url, token) as service:
            listed = service.client.suites()
        if as_json:
            print_json([one.model_dump(mode="json") for one in listed])
        else:
            out.print(
                tables.suites(listed) if listed else "There are no suites yet; give studies a common `suite`."
            )
        return
    with connected(url, token) as service:
        found = service.client.suite(name)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    _say_finding(out, found.finding)
    shown = (
        (found.arms, tables.arms_of_suite(found)),
        (found.wins, tables.wins(found)),
        (found.studies, tables.studies_of_suite(found)),
    )
    for rows, made in shown:
        if rows:
            out.print()
            out.print(made)
