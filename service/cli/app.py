"""The command `tangent`: the list of its commands, and how their errors are shown."""

__all__ = ["app", "main"]

from collections.abc import Callable
from typing import Annotated

import typer

from service.cli import (
    archive,
    audit,
    catalog,
    check,
    follow_ups,
    lifecycle,
    notes,
    reports,
    serve,
    studies,
    submit,
    tokens,
    trials,
    up,
    verdict,
    version,
    watch,
    webhooks,
    weights,
    worker,
)
from service.cli.commands import Commands
from service.cli.output import configure_streams
from studies.database_urls import mask_tracebacks

app = Commands(
    name="tangent",
    help=("Fair, repeatable comparisons of optimizers: submit studies, follow them and read their verdicts."),
    epilog=(
        "An ID can be shortened to any prefix that only one study has; `last` is the newest study. Options "
        "take precedence over the environment (TANGENT_URL, TANGENT_TOKEN, TANGENT_HOME, ...)."
    ),
    no_args_is_help=True,
    # A user's mistake gets a message. Anything else is a bug, and its plain traceback can be copied into a
    # bug report.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Service": {"up": up.up, "serve": serve.serve, "migrate": serve.migrate},
    "Studies": {
        "submit": submit.submit,
        "watch": watch.watch,
        "list": studies.list_,
        "show": studies.show,
        "best": studies.best,
        "notes": notes.notes,
        "trials": trials.trials,
        "output": trials.output,
        "weights": weights.weights,
    },
    "Results": {
        "verdict": verdict.verdict,
        "power": verdict.power,
        "compare": verdict.compare,
        "suite": verdict.suite,
    },
    "Sharing results": {
        "report": reports.report,
        "export": reports.export,
        "replay": reports.replay,
    },
    "Control": {
        "pause": lifecycle.pause,
        "resume": lifecycle.resume,
        "stop": lifecycle.stop,
        "cancel": lifecycle.cancel,
    },
    "Tidying up": {
        "label": archive.label,
        "archive": archive.archive,
        "unarchive": archive.unarchive,
        "delete": archive.delete,
    },
    "Following up": {
        "confirm": follow_ups.confirm,
        "extend": follow_ups.extend,
        "clone": follow_ups.clone,
    },
    "Catalogue": {
        "optimizers": catalog.optimizers,
        "workloads": catalog.workloads,
        "check": check.check,
    },
    "Administration": {"audit": audit.audit, "version": version.version},
}


def _show_version(given: bool) -> None:  # noqa: FBT001 - Typer passes the value by position
    if given:
        version.version()
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction]
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Same as `tangent version`.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    del version


for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(worker.app, name="worker", rich_help_panel="Service")
app.add_typer(webhooks.app, name="webhook", rich_help_panel="Service")
app.add_typer(tokens.app, name="token", rich_help_panel="Administration")


def main() -> None:
    """Run the command line; the entry point of the script `tangent`."""
    mask_tracebacks()
    configure_streams()
    app(prog_name="tangent")
