"""`tangent audit`."""

__all__ = ["audit"]

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.connection import AsJson, Token, Url, connected
from service.cli.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client
    from studies.views import AuditView

# `studies.views.AuditVerb` over again, so that `tangent --help` need not import pydantic; pyright sees that
# the two agree.
Verb = Literal[
    "submit",
    "pause",
    "resume",
    "stop",
    "cancel",
    "extend",
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
        str | None, typer.Option(metavar="NAME", help="Only what this token did.", show_default=False)
    ] = None,
    verb: Annotated[Verb | None, typer.Option(help="Only this.", show_default=False)] = None,
    study: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what was done to this study.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show who did what, when and from where, newest first; for admins. Times are UTC."""
    from service.cli import tables

    with connected(url, token) as service:
        study_id = None if study is None else service.study_id(study)
        found = list(islice(_entries(service.client, who=who, verb=verb, study_id=study_id), limit))
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in found])
    else:
        console().print(tables.audit(found) if found else "Nobody did anything of the kind.")


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
