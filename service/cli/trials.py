"""`tangent trials` and `tangent output`."""

__all__ = ["output", "show_last_error", "trials"]

from itertools import islice
from typing import Annotated, Literal

import typer

from service.cli.connection import Connection, StudyId, Token, Url, connected
from service.cli.output import AsJson, console, print_json, print_raw
from studies.standard_error import write_line
from studies.states import TrialFilter

Arm = Annotated[str | None, typer.Option(help="Only trials of this arm.", show_default=False)]
State = Annotated[
    TrialFilter | None,
    typer.Option(
        help="Only trials in this state; `waiting` means queued trials that wait at a rung.",
        show_default=False,
    ),
]
Phase = Annotated[
    Literal["search", "confirmation", "all"],
    typer.Option(help="Trials of the search, confirmation runs on fresh seeds, or all."),
]
Sort = Annotated[
    Literal[
        "created",
        "-created",
        "number",
        "-number",
        "value",
        "-value",
        "cost",
        "-cost",
        "ended",
        "-ended",
    ],
    typer.Option(
        metavar="ORDER",
        help="created, number, value (best first), cost or ended; prefix with `-` to reverse.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number to list.")]


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
        # One more than requested shows whether there are more.
        listed = list(
            islice(
                service.client.every_trial(study_id, arm=arm, state=state, phase=phase, order=sort), limit + 1
            )
        )
    shown = listed[:limit]
    if as_json:
        print_json([trial.model_dump(mode="json") for trial in shown])
        return
    out = console()
    out.print(
        tables.trials(shown, card)
        if shown
        else _describe_nothing(is_filtered=bool(arm or state or phase != "search"))
    )
    if len(listed) > limit:
        out.print(f"Only the first {limit} are shown; use --limit for more.", style="dim")


def show_last_error(service: Connection, study_id: str) -> None:
    """Show the error of the trial that failed last, with the workload's own frames, if there is one."""
    failed = service.client.every_trial(study_id, state=TrialFilter.FAILED, phase="all", order="-ended")
    trial = next(failed, None)
    if trial is None or trial.traceback is None:
        return
    out = console()
    out.print(f"\nTrial {trial.id} failed:", style="bold", soft_wrap=True)
    out.print(trial.traceback, soft_wrap=True)


def _describe_nothing(*, is_filtered: bool) -> str:
    return "No trials match." if is_filtered else "No trial has started yet."


def output(
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Id of a trial, as `tangent trials --json` lists it.")
    ],
    *,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the last lines that a trial's worker printed, also if it crashed.

    A worker trains the trials of a pack together, so they share their output.
    """
    from service.output_text import describe_output

    with connected(url, token) as service:
        printed = service.client.trial_output(trial)
    if as_json:
        print_json(printed.model_dump(mode="json"))
        return
    if printed.text:
        print_raw(printed.text)
    # Not in the output, which may be written to a file.
    write_line(describe_output(printed))
