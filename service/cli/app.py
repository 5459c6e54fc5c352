"""The command `tangent`: the list of its commands, and how their errors are shown."""

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
    """Commands that show an expected error as one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn errors that a user can cause into messages and an exit status."""
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
        "trials": trials.trials,
    },
    "Results": {"verdict": verdict.verdict, "compare": verdict.compare, "suite": verdict.suite},
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
    "Following up": {
        "confirm": follow_ups.confirm,
        "extend": follow_ups.extend,
        "clone": follow_ups.clone,
    },
    "Catalogue": {"optimizers": catalog.optimizers, "workloads": catalog.workloads},
    "Administration": {"audit": audit.audit, "version": version.version},
}

for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(worker.app, name="worker", rich_help_panel="Service")
app.add_typer(webhooks.app, name="webhook", rich_help_panel="Service")
app.add_typer(tokens.app, name="token", rich_help_panel="Administration")


def main() -> None:
    """Run the command line; the entry point of the script `tangent`."""
    app(prog_name="tangent")
