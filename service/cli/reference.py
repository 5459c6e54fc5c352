"""docs/cli.md, written from the commands themselves.

`scripts/cli-docs` stores it and a test finds it in step.
"""

__all__ = ["reference"]

from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from service.cli.app import app

_WIDTH = 110
_HEAD = """# The command line

Written by `scripts/cli-docs` from the commands' own help: do not edit.

Errors are one sentence a fault on standard error, each beginning with `error:`. Exit status: \
0 when what was asked for came about, 1 when it
did not, 2 when it made no sense as written (an unknown option, a file that is no study, \
a study that cannot be run). Colours and progress
bars appear in terminals only, and `NO_COLOR` is respected; in a pipe every command writes plain lines.

"""


def reference() -> str:
    """Return the whole reference as Markdown: one section a command, with its help as it would be printed."""
    sections = [
        f"## {title}\n\n```text\n{text}\n```\n" for title, text in _helps(get_command(app), "tangent", None)
    ]
    return _HEAD + "\n".join(sections)


# Typer's classes for built commands are private; what is used of them is Click's documented interface.
def _helps(command: Any, path: str, parent: Any) -> Iterator[tuple[str, str]]:
    # Plain text: the boxes of the terminal's help are no good in a document.
    command.rich_markup_mode = None
    context = typer.Context(
        command,
        info_name=path.rpartition(" ")[2],
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())
    yield path, text
    for name, child in getattr(command, "commands", {}).items():
        yield from _helps(child, f"{path} {name}", context)
