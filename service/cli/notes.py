"""`tangent notes`."""

__all__ = ["notes"]

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import Connection, StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.standard_error import write_line

if TYPE_CHECKING:
    from studies.notes import StudyNotes

Edit = Annotated[bool, typer.Option("--edit", "-e", help="Change them in your editor ($VISUAL or $EDITOR).")]
File = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="FILE",
        help="Replace them by the text of a file; `-` for standard input.",
        show_default=False,
    ),
]
History = Annotated[bool, typer.Option("--history", help="List their versions, newest first.")]
Version = Annotated[
    int | None,
    typer.Option("--version", min=0, help="Show this version, not the newest.", show_default=False),
]

_EDITORS = ("nano", "vim", "vi")


def notes(
    study: StudyId,
    *,
    edit: Edit = False,
    file: File = None,
    history: History = False,
    version: Version = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the notes of a study, in Markdown, or change them; every version is kept."""
    if edit and file is not None:
        raise CommandError("expected --edit or --set, not both", exit_code=BAD_INPUT)
    if (edit or file is not None) and (history or version is not None):
        raise CommandError("--edit and --set do not go with --history and --version", exit_code=BAD_INPUT)
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if edit:
            found = _edit(service, study_id)
        elif file is not None:
            found = service.client.set_notes(study_id, _text(file))
        else:
            found = service.client.notes(study_id, version=version)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif edit or file is not None:
        print_raw(f"the notes of {study_id} are at version {found.version}")
    elif history:
        _show_history(found)
    elif found.text:
        print_raw(found.text.removesuffix("\n"))
    else:
        write_line(f"Study {study_id} has no notes; write some with `tangent notes {study_id} --edit`.")


def _show_history(found: "StudyNotes") -> None:
    from service.cli.fitted_table import FittedTable
    from studies.formatting import ABSENT, ago, count

    if not found.history:
        write_line(f"Study {found.study_id} never had notes.")
        return
    table = FittedTable(
        "version", "written", "by", "characters", right=("version", "characters"), text={"by": 8}
    )
    for each in found.history:
        table.add_row(str(each.version), ago(each.at), each.by or ABSENT, count(each.characters))
    console().print(table)


def _text(name: str) -> str:
    """Return the text of a file or of standard input.

    Raises:
        CommandError: it cannot be read.
    """
    source = "standard input" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError(f"{source}: expected text in UTF-8", exit_code=BAD_INPUT) from None
    except (OSError, ValueError) as error:
        # ValueError: the name contains a NUL character.
        reason = error.strerror if isinstance(error, OSError) else None
        message = f"{source} cannot be read: {(reason or str(error)).lower()}"
        raise CommandError(message, exit_code=BAD_INPUT) from None


def _edit(service: Connection, study_id: str) -> "StudyNotes":
    """Let the user change the notes in an editor, and store them.

    The edited file stays if the notes cannot be stored, for example because someone else has changed them.

    Raises:
        CommandError: there is no editor, or it failed.
    """
    from studies.errors import TangentError

    before = service.client.notes(study_id)
    with tempfile.NamedTemporaryFile(
        "wb", prefix=f"tangent-notes-{study_id}-", suffix=".md", delete=False
    ) as opened:
        opened.write(before.text.encode("utf-8", "replace"))
    path = Path(opened.name)
    try:
        _run_editor(path)
        text = _text(str(path))
        # Editors end the last line of a file.
        if not before.text.endswith("\n"):
            text = text.removesuffix("\n")
        after = (
            before
            if text == before.text
            else service.client.set_notes(study_id, text, if_version=before.version)
        )
    except (CommandError, TangentError):
        with suppress(OSError):
            if path.read_bytes() != before.text.encode("utf-8", "replace"):
                write_line(f"The notes were not stored; your text is in {path}")
        raise
    path.unlink(missing_ok=True)
    return after


def _run_editor(path: Path) -> None:
    """Run the user's editor on a file until it ends.

    Raises:
        CommandError: there is none, or it failed.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "")
    if not command:
        command = [name for name in _EDITORS if shutil.which(name)][:1]
    if not command:
        raise CommandError("found no editor; name one in EDITOR, or use --set FILE", exit_code=BAD_INPUT)
    try:
        status = subprocess.run([*command, str(path)], check=False).returncode
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"the editor {command[0]} cannot be started: {reason}") from None
    if status:
        raise CommandError(f"the editor {command[0]} ended with status {status}")
