"""Classes of commands and of groups of commands: how they show their help and their errors."""

__all__ = ["CommandGroup", "Commands"]

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from service.cli.errors import explain
from studies.standard_error import write_line


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """Return parameters whose flags show no type in the help: `--json` takes no value."""
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_bool_flag and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


class CommandGroup(TyperGroup):
    """Commands that show an expected error as one line instead of a traceback."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's own options."""
        return _without_types_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn errors that a user can cause into messages and an exit status."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            for sentence in explained.sentences:
                write_line(f"error: {sentence}")
            raise typer.Exit(explained.exit_code) from None


class Commands(typer.Typer):
    """An application, or a group of commands within one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=CommandGroup, **options)

    def command(self, name: str | None = None, **options: Any) -> Any:
        """Return a decorator that adds a function as a command."""
        return super().command(name, cls=_Command, **options)
