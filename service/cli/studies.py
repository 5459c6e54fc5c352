"""`tangent list`, `show` and `best`."""

__all__ = ["best", "list_", "show", "study_document"]

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.states import StudyState
from studies.study_filter import StudyOrder

if TYPE_CHECKING:
    from studies.views import ArmView, StudyView

State = Annotated[StudyState | None, typer.Option(help="Only studies in this state.", show_default=False)]
Workload = Annotated[str | None, typer.Option(help="Only studies of this workload.", show_default=False)]
Suite = Annotated[str | None, typer.Option(help="Only studies of this suite.", show_default=False)]
Owner = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only studies of this token.", show_default=False)
]
Tag = Annotated[str | None, typer.Option(help="Only studies with this tag.", show_default=False)]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        "-q",
        metavar="WORDS",
        help="Only studies with all of these words in their name, id, workload, suite or owner, or as a tag.",
        show_default=False,
    ),
]
Order = Annotated[
    StudyOrder,
    typer.Option(help="Newest or oldest first, by name, those that ended last first, or by state."),
]
Archived = Annotated[bool, typer.Option("--archived", help="Archived studies instead of all others.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number to list.")]
OneArm = Annotated[str | None, typer.Option("--arm", metavar="ARM", help="Show only this arm.")]
PythonOnly = Annotated[
    str | None,
    typer.Option(
        "--python", metavar="ARM", help="Print only this arm's best configuration, as Python to paste."
    ),
]

_CAVEAT = (
    "Each value is the best of its arm's search and therefore too optimistic. `tangent verdict` compares the "
    "arms by runs on fresh seeds."
)


def list_(
    *,
    state: State = None,
    workload: Workload = None,
    suite: Suite = None,
    owner: Owner = None,
    tag: Tag = None,
    search: Search = None,
    order: Order = "newest",
    archived: Archived = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List studies, with their verdicts and tags where there is room."""
    from service.cli import tables

    filters: dict[str, Any] = {
        "state": state,
        "workload": workload,
        "suite": suite,
        "owner": owner,
        "tag": tag,
        "q": search,
        "archived": archived,
    }
    with connected(url, token) as service:
        # One more than requested shows whether there are more.
        listed = list(islice(service.client.every_study(**filters, order=order), limit + 1))
        shown = listed[:limit]
        verdicts = service.client.verdict_phrases([study.id for study in shown if study.progress.finished])
    if as_json:
        print_json([study.model_dump(mode="json") | {"verdict": verdicts.get(study.id)} for study in shown])
        return
    out = console()
    if not shown:
        out.print(
            "No studies match."
            if any(filters.values())
            else "There are no studies yet; submit one with `tangent submit FILE`."
        )
        return
    out.print(tables.studies(shown, verdicts))
    if len(listed) > limit:
        out.print(f"Only the first {limit} are shown; use --limit for more.", style="dim")


def study_document(study: "StudyView", arms: Sequence["ArmView"]) -> dict[str, Any]:
    """Return a study with its arms as plain data for `print_json`."""
    return study.model_dump(mode="json") | {"arms": [arm.model_dump(mode="json") for arm in arms]}


def show(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show a study: its settings, progress and arms, and the error of the last trial that failed."""
    from service.cli import tables
    from service.cli.trials import show_last_error

    with connected(url, token) as service:
        study_id = service.study_id(study)
        view = service.client.study(study_id)
        arms = service.client.arms(study_id)
        service.warn_if_waiting(view)
        if as_json:
            print_json(study_document(view, arms))
            return
        out = console()
        out.print(tables.study(view, arms, page=service.page(study_id)))
        out.print()
        out.print(tables.arms(arms, view.workload_card))
        if view.progress.failed:
            show_last_error(service, study_id)


def best(
    study: StudyId,
    *,
    arm: OneArm = None,
    python: PythonOnly = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the best configuration of each arm, as Python to paste."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = service.study_id(study)
        card = service.client.study(study_id).workload_card
        arms = service.client.arms(study_id)
    if arm is not None:
        arms = [_arm(arms, arm, study_id)]
    if python is not None:
        chosen = _arm(arms, python, study_id)
        if chosen.best is None:
            raise CommandError(f"no trial of {python!r} has completed yet")
        print_raw(chosen.best.python.rstrip())
        return
    if as_json:
        print_json(
            [
                {"arm": each.name, "best": each.best.model_dump(mode="json") if each.best else None}
                for each in arms
            ]
        )
        return
    out = console()
    out.print(tables.arms(arms, card))
    if any(each.best for each in arms):
        out.print(_CAVEAT, style="dim")
    for each in tables.ranked(arms, card):
        print_raw(f"\n{tables.python(each, card)}")


def _arm(arms: Sequence["ArmView"], name: str, study_id: str) -> "ArmView":
    found = next((arm for arm in arms if arm.name == name), None)
    if found is None:
        raise CommandError(
            f"study {study_id!r} has no arm {name!r}; it has {', '.join(arm.name for arm in arms)}",
            exit_code=BAD_INPUT,
        )
    return found
