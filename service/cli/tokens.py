"""`tangent token create | list | revoke`: works on the database itself, where no token is needed to make the first."""

__all__ = ["app"]

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.connection import AsJson
from service.cli.failures import BAD_INPUT, CommandError
from service.cli.output import console, print_json, print_raw
from studies.errors import Conflict

if TYPE_CHECKING:
    from studies.store import Store

# `studies.views.Role` over again, so that `tangent --help` need not import pydantic; pyright sees that the two agree.
Role = Literal["viewer", "submitter", "admin"]
Home = Annotated[Path | None, typer.Option(help="Folder of the embedded database.", envvar="TANGENT_HOME", show_default="~/.tangent")]
Database = Annotated[str | None, typer.Option(help="Database URL, if not the one in --home.", envvar="TANGENT_DATABASE_URL", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who or what the token is for, e.g. alice or nightly.")]

app = typer.Typer(help="Make, list and revoke API tokens; works on the database itself.", no_args_is_help=True)


@contextmanager
def _store(home: Path | None, database: str | None) -> "Generator[Store]":
    from service.settings import Settings
    from studies.store import Store

    store = Store.open(Settings.load(home=home, database_url=database).database_url)
    try:
        yield store
    finally:
        store.close()


@app.command()
def create(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="viewer reads; submitter also submits and changes studies; admin may do everything.")] = "submitter",
    home: Home = None,
    database: Database = None,
) -> None:
    """Make a token and print its secret, which is never shown again."""
    if not name.strip() or not name.isprintable() or len(name) > 64:
        raise CommandError(f"a token's name is 1 to 64 printable characters, got {name!r}", exit_code=BAD_INPUT)
    with _store(home, database) as store:
        try:
            secret = store.create_token(name, role=role)
        except Conflict as error:
            raise CommandError(str(error), exit_code=BAD_INPUT) from None
    typer.echo("This is shown once; hand it over as TANGENT_TOKEN, or as `Authorization: Bearer ...`:", err=True)
    print_raw(secret)


@app.command("list")
def list_(*, as_json: AsJson = False, home: Home = None, database: Database = None) -> None:
    """List the tokens, without their secrets."""
    from service.cli import tables

    with _store(home, database) as store:
        found = store.tokens()
    if as_json:
        print_json([token.model_dump(mode="json") for token in found])
    else:
        console().print(tables.tokens(found) if found else "There are no tokens: whoever reaches the service may do everything.")


@app.command()
def revoke(name: Name, *, home: Home = None, database: Database = None) -> None:
    """Make a token worthless, at once and for good."""
    with _store(home, database) as store:
        store.revoke_token(name)
    print_raw(f"{name} is revoked")
