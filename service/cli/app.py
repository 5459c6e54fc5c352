"""The command `tangent`: every command in one list, and how their errors reach the user."""

__all__ = ["app", "main"]

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from service.cli import (
    audit,
    catalog,
    follow_ups,
    lifecycle,
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
    worker,
)
from service.cli.errors import explain


class _Commands(TyperGroup):
    """Commands that say in a sentence what went wrong.

    They never show a traceback for something a user can cause.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for.

        Turn the errors of this house into sentences and an exit status.
        """
        try:
            return super().invoke(ctx)
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            for sentence in explained.sentences:
                typer.echo(f"error: {sentence}", err=True)
            raise typer.Exit(explained.exit_code) from None


app = typer.Typer(
    name="tangent",
    cls=_Commands,
    help=(
        "Fair, repeatable comparisons of optimizers: submit studies, watch them, and read what came of them."
    ),
    epilog=(
        "An ID may be shortened to any beginning that only one study has; `last` is the newest. Settings "
        "come from options, then from the environment (TANGENT_URL, TANGENT_TOKEN, TANGENT_HOME, ...)."
    ),
    no_args_is_help=True,
    # A user's mistake gets a sentence; anything else is a fault of ours, whose plain traceback belongs into
    # the report.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "The service": {"up": up.up, "serve": serve.serve, "migrate": serve.migrate},
    "Studies": {
        "submit": submit.submit,
        "watch": watch.watch,
        "list": studies.list_,
        "show": studies.show,
        "best": studies.best,
        "trials": trials.trials,
    },
    "What they found": {"verdict": verdict.verdict, "compare": verdict.compare, "suite": verdict.suite},
    "Handing on what they found": {
        "report": reports.report,
        "export": reports.export,
        "replay": reports.replay,
    },
    "Changing a study": {
        "pause": lifecycle.pause,
        "resume": lifecycle.resume,
        "stop": lifecycle.stop,
        "cancel": lifecycle.cancel,
    },
    "Growing studies": {
        "confirm": follow_ups.confirm,
        "extend": follow_ups.extend,
        "clone": follow_ups.clone,
    },
    "What can be asked for": {"optimizers": catalog.optimizers, "workloads": catalog.workloads},
    "This installation": {"audit": audit.audit, "version": version.version},
}

for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(worker.app, name="worker", rich_help_panel="The service")
app.add_typer(webhooks.app, name="webhook", rich_help_panel="The service")
app.add_typer(tokens.app, name="token", rich_help_panel="This installation")


def main() -> None:
    """Run the command line; the entry point of the script `tangent`."""
    app(prog_name="tangent")
