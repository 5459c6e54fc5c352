"""`tangent token create | list | quota | revoke`.

Works on the database itself, where no token is needed to make the first.
"""

__all__ = ["app"]

import getpass
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.connection import AsJson
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import console, print_json, print_raw

if TYPE_CHECKING:
    from studies.actors import Actor
    from studies.store import Store

# `studies.views.Role` over again, so that `tangent --help` need not import pydantic; pyright sees that the
# two agree.
Role = Literal["viewer", "submitter", "admin"]
Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the embedded database.", envvar="TANGENT_HOME", show_default="~/.tangent"),
]
Database = Annotated[
    str | None,
    typer.Option(
        help="Database URL, if not the one in --home.", envvar="TANGENT_DATABASE_URL", show_default=False
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Who or what the token is for, e.g. alice or nightly.")
]

MaxStudies = Annotated[
    int | None,
    typer.Option(
        min=0, max=1_000_000, help="Studies open at once; by default any number.", show_default=False
    ),
]
MaxTrials = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1_000_000_000,
        help="Trials of one study, its confirmation runs among them; by default any number.",
        show_default=False,
    ),
]
MaxGpuHours = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1e9,
        help=(
            "GPU-hours of all its studies: once used, no study that needs a "
            "GPU begins. By default any number."
        ),
        show_default=False,
    ),
]

app = typer.Typer(
    help="Make, list and revoke API tokens, and set their quotas; works on the database itself.",
    no_args_is_help=True,
)


@contextmanager
def _store(home: Path | None, database: str | None) -> "Generator[Store]":
    from service.settings import ServiceSettings
    from studies.store import Store

    store = Store.open(ServiceSettings.load(home=home, database_url=database).database_url)
    try:
        yield store
    finally:
        store.close()


def _operator() -> "Actor":
    """Return whoever works at the database, as the log knows them: the account and the machine."""
    from studies.actors import Actor

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # An account that the machine has no name for, as in a container.
        user = str(os.getuid())
    return Actor(name=None, role="admin", address=f"{user}@{socket.gethostname()}")


@app.command()
def create(
    name: Name,
    *,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer reads; submitter also submits studies and changes its own; admin may do everything."
        ),
    ] = "submitter",
    max_studies: MaxStudies = None,
    max_trials: MaxTrials = None,
    max_gpu_hours: MaxGpuHours = None,
    home: Home = None,
    database: Database = None,
) -> None:
    """Make a token and print its secret, which is never shown again."""
    from studies.errors import Conflict
    from studies.views import Quotas

    if not name.strip() or not name.isprintable() or len(name) > 64:
        raise CommandError(
            f"a token's name is 1 to 64 printable characters, got {name!r}", exit_code=BAD_INPUT
        )
    with _store(home, database) as store:
        try:
            quotas = Quotas(max_studies=max_studies, max_trials=max_trials, max_gpu_hours=max_gpu_hours)
            secret = store.create_token(name, role=role, quotas=quotas, by=_operator())
        except Conflict as error:
            raise CommandError(str(error), exit_code=BAD_INPUT) from None
    typer.echo(
        "This is shown once; hand it over as TANGENT_TOKEN, or as `Authorization: Bearer ...`:", err=True
    )
    print_raw(secret)


@app.command("list")
def list_(*, as_json: AsJson = False, home: Home = None, database: Database = None) -> None:
    """List the tokens, without their secrets, with what they have used of their quotas."""
    from service.cli import tables

    with _store(home, database) as store:
        found = store.tokens_with_usage()
    if as_json:
        print_json([token.model_dump(mode="json") for token in found])
    else:
        console().print(
            tables.tokens(found)
            if found
            else "There are no tokens: whoever reaches the service may do everything."
        )


@app.command()
def quota(
    name: Name,
    *,
    max_studies: MaxStudies = None,
    max_trials: MaxTrials = None,
    max_gpu_hours: MaxGpuHours = None,
    home: Home = None,
    database: Database = None,
) -> None:
    """Give a token other quotas; one that is left out is taken away. Studies that are open already go on."""
    from studies.views import Quotas

    with _store(home, database) as store:
        store.set_quotas(
            name,
            Quotas(max_studies=max_studies, max_trials=max_trials, max_gpu_hours=max_gpu_hours),
            by=_operator(),
        )
    bounds = {"open studies": max_studies, "trials of one study": max_trials, "GPU-hours": max_gpu_hours}
    said = ", ".join(f"{most:g} {what}" for what, most in bounds.items() if most is not None)
    print_raw(f"{name} may have at most {said}" if said else f"{name} has no quotas")


@app.command()
def revoke(name: Name, *, home: Home = None, database: Database = None) -> None:
    """Make a token worthless, at once and for good."""
    with _store(home, database) as store:
        store.revoke_token(name, by=_operator())
    print_raw(f"{name} is revoked")
