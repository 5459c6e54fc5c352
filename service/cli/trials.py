"""`tangent trials`."""

__all__ = ["trials"]

from itertools import islice
from typing import Annotated, Literal

import typer

from service.cli.connection import AsJson, StudyId, Token, Url, connected
from service.cli.output import console, print_json
from studies.states import TrialFilter

Arm = Annotated[str | None, typer.Option(help="Only trials of this arm.", show_default=False)]
State = Annotated[
    TrialFilter | None,
    typer.Option(
        help="Only trials in this state; `waiting`: those of the queued that wait at a rung.",
        show_default=False,
    ),
]
Phase = Annotated[
    Literal["search", "confirmation", "all"],
    typer.Option(help="Trials of the search, those that confirm what it found on fresh seeds, or all."),
]
Sort = Annotated[
    str,
    typer.Option(help="created, number, value (best first), cost or ended; `-` before it turns it round."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]


def trials(
    study: StudyId,
    *,
    arm: Arm = None,
    state: State = None,
    phase: Phase = "search",
    sort: Sort = "created",
    limit: Limit = 100,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List the trials of a study with their configurations."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = service.study_id(study)
        card = service.client.study(study_id).workload_card
        # One more than asked for tells whether there are more.
        found = list(
            islice(
                service.client.every_trial(study_id, arm=arm, state=state, phase=phase, order=sort), limit + 1
            )
        )
    shown = found[:limit]
    if as_json:
        print_json([trial.model_dump(mode="json") for trial in shown])
        return
    out = console()
    out.print(tables.trials(shown, card) if shown else "There are no such trials.")
    if len(found) > limit:
        out.print(f"These are the first {limit}; --limit shows more.", style="dim")
