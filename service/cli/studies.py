"""`tangent list`, `show` and `best`."""

__all__ = ["best", "list_", "show"]

from itertools import islice
from typing import Annotated

import typer

from service.cli.connection import AsJson, StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import console, print_json, print_raw
from studies.states import StudyState

State = Annotated[StudyState | None, typer.Option(help="Only studies in this state.", show_default=False)]
Workload = Annotated[str | None, typer.Option(help="Only studies of this workload.", show_default=False)]
Suite = Annotated[str | None, typer.Option(help="Only studies of this suite.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number to list.")]
ArmOnly = Annotated[
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
    limit: Limit = 20,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List studies, newest first."""
    from service.cli import tables

    with connected(url, token) as service:
        # One more than requested shows whether there are more.
        listed = list(
            islice(service.client.every_study(state=state, workload=workload, suite=suite), limit + 1)
        )
    shown = listed[:limit]
    if as_json:
        print_json([study.model_dump(mode="json") for study in shown])
        return
    out = console()
    if not shown:
        out.print(
            "No studies match."
            if state or workload or suite
            else "There are no studies yet; submit one with `tangent submit FILE`."
        )
        return
    out.print(tables.studies(shown))
    if len(listed) > limit:
        out.print(f"Only the newest {limit} are shown; use --limit for more.", style="dim")


def show(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Show a study: its settings, progress and arms."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = service.study_id(study)
        view = service.client.study(study_id)
        arms = service.client.arms(study_id)
        page = service.page(study_id)
    if as_json:
        print_json(view.model_dump(mode="json") | {"arms": [arm.model_dump(mode="json") for arm in arms]})
        return
    out = console()
    out.print(tables.study(view, page=page))
    out.print()
    out.print(tables.arms(arms, view.workload_card))


def best(
    study: StudyId, *, python: ArmOnly = None, as_json: AsJson = False, url: Url = None, token: Token = None
) -> None:
    """Show the best configuration of each arm, as Python to paste."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = service.study_id(study)
        card = service.client.study(study_id).workload_card
        arms = service.client.arms(study_id)
    if python is not None:
        arm = next((arm for arm in arms if arm.name == python), None)
        if arm is None:
            raise CommandError(
                f"study {study_id!r} has no arm {python!r}; it has {', '.join(arm.name for arm in arms)}",
                exit_code=BAD_INPUT,
            )
        if arm.best is None:
            raise CommandError(f"no trial of {python!r} has completed yet")
        print_raw(arm.best.python.rstrip())
        return
    if as_json:
        print_json(
            [
                {"arm": arm.name, "best": arm.best.model_dump(mode="json") if arm.best else None}
                for arm in arms
            ]
        )
        return
    out = console()
    out.print(tables.arms(arms, card))
    if any(arm.best for arm in arms):
        out.print(_CAVEAT, style="dim")
    for arm in tables.ranked(arms, card):
        print_raw(f"\n{tables.python(arm, card)}")
