"""`tangent label`, `archive`, `unarchive` and `delete`."""

__all__ = ["archive", "delete", "label", "unarchive"]

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, print_json, print_raw
from studies.formatting import byte_size, listed, plural
from studies.standard_error import write_line

if TYPE_CHECKING:
    from studies.deletion import StudyContents

Suite = Annotated[
    str | None,
    typer.Argument(metavar="SUITE", help="Label of the suite.", show_default=False),
]
NoSuite = Annotated[bool, typer.Option("--none", help="Take the study out of its suite.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def label(
    study: StudyId,
    suite: Suite = None,
    *,
    no_suite: NoSuite = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Put a study into a suite, or take it out of its suite; nothing is trained again."""
    if no_suite != (suite is None):
        got = "neither" if suite is None else "both"
        raise CommandError(f"expected the label of a suite or --none, got {got}", exit_code=BAD_INPUT)
    with connected(url, token) as service:
        after = service.client.label(service.study_id(study), suite)
    if as_json:
        print_json(after.model_dump(mode="json"))
    else:
        print_raw(f"{after.id} is in {f'the suite {after.suite}' if after.suite else 'no suite'}")


def archive(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Hide a study that has ended from `tangent list`; everything is kept."""
    with connected(url, token) as service:
        after = service.client.archive(service.study_id(study))
    if as_json:
        print_json(after.model_dump(mode="json"))
    else:
        print_raw(f"{after.id} is archived; `tangent list --archived` lists it")


def unarchive(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Return an archived study to `tangent list`."""
    with connected(url, token) as service:
        after = service.client.unarchive(service.study_id(study))
    if as_json:
        print_json(after.model_dump(mode="json"))
    else:
        print_raw(f"{after.id} is in the list again")


def delete(
    study: StudyId,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Delete a study that has ended, with everything in it, for good.

    Shows what it removes, and asks first. To hide a study instead, archive it.
    """
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if not yes:
            _ask(service.client.contents(study_id))
        removed = service.client.delete(study_id)
    if as_json:
        print_json(removed.model_dump(mode="json"))
    else:
        print_raw(f"{removed.study_id} is deleted: {_describe(removed)}")


def _ask(contents: "StudyContents") -> None:
    write_line(f"This deletes {contents.study_id} ({contents.name}) for good: {_describe(contents)}.")
    if not sys.stdin.isatty():
        raise CommandError("expected --yes, because there is no terminal to ask", exit_code=BAD_INPUT)
    if not typer.confirm("Delete it?", err=True):
        raise CommandError("nothing was deleted")


def _describe(contents: "StudyContents") -> str:
    """Return what a study consists of, in words."""
    parts = [
        plural(contents.trials, "trial"),
        plural(contents.measurements, "measurement"),
        f"{plural(contents.artifacts, 'kept file')} of {byte_size(contents.artifact_bytes)}"
        if contents.artifacts
        else "",
        plural(contents.outputs, "output of workers", "outputs of workers") if contents.outputs else "",
        plural(contents.copies, "copy in Optuna's tables", "copies in Optuna's tables")
        if contents.copies
        else "",
        plural(contents.events, "event"),
        plural(contents.notes, "version of its notes", "versions of its notes") if contents.notes else "",
        _deliveries(contents),
        "" if contents.suite is None else f"its place in the suite {contents.suite}",
    ]
    return listed([part for part in parts if part], most=len(parts))


def _deliveries(contents: "StudyContents") -> str:
    if not contents.deliveries:
        return ""
    sent = plural(contents.deliveries, "delivery to webhooks", "deliveries to webhooks")
    return f"{sent} ({contents.pending_deliveries} not sent yet)" if contents.pending_deliveries else sent
