"""`tangent audit`."""

__all__ = ["audit"]

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.connection import Token, Url, connected
from service.cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client
    from studies.views import AuditView

# A copy of `studies.views.AuditVerb`, so that `tangent --help` does not import pydantic; pyright checks that
# the two agree.
Verb = Literal[
    "submit",
    "pause",
    "resume",
    "stop",
    "cancel",
    "extend",
    "label",
    "archive",
    "unarchive",
    "note",
    "delete",
    "token.create",
    "token.change",
    "token.revoke",
    "login",
    "login.refused",
    "logout",
    "webhook.create",
    "webhook.test",
    "webhook.enable",
    "webhook.remove",
]


def audit(
    *,
    who: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only changes made with this token.", show_default=False),
    ] = None,
    verb: Annotated[Verb | None, typer.Option(help="Only this action.", show_default=False)] = None,
    study: Annotated[
        str | None, typer.Option(metavar="ID", help="Only changes to this study.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number to list.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show the audit log: who changed what, when and from where, newest first. For admins; times are UTC."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = None if study is None else service.study_id(study)
        entries = list(islice(_entries(service.client, who=who, verb=verb, study_id=study_id), limit))
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        console().print(tables.audit(entries) if entries else "No entries match.")


def _entries(
    client: "Client", *, who: str | None, verb: Verb | None, study_id: str | None
) -> "Iterator[AuditView]":
    page_token: str | None = None
    while True:
        page = client.audit(actor=who, verb=verb, study_id=study_id, page_token=page_token)
        yield from page.items
        page_token = page.next_page_token
        if page_token is None:
            return
