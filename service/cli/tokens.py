"""`tangent token create | list | quota | revoke`.

These commands open the database directly, so that the first token can be created without a token.
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

from service.cli.commands import Commands
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.formatting import plural
from studies.standard_error import write_line

if TYPE_CHECKING:
    from studies.actors import Actor
    from studies.store import Store

# A copy of `studies.views.Role`, so that `tangent --help` does not import pydantic; pyright checks that the
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
    str, typer.Argument(metavar="NAME", help="Name of the token's user or purpose, e.g. alice or nightly.")
]

MaxStudies = Annotated[
    int | None,
    typer.Option(
        min=0, max=1_000_000, help="Maximum number of open studies; unlimited by default.", show_default=False
    ),
]
MaxTrials = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1_000_000_000,
        help="Maximum number of trials in a study, including confirmation runs; unlimited by default.",
        show_default=False,
    ),
]
MaxGpuHours = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1e9,
        help=(
            "Maximum number of GPU-hours of all its studies; once they are used, no study that needs a GPU "
            "starts. Unlimited by default."
        ),
        show_default=False,
    ),
]

app = Commands(
    help="Create, list and revoke API tokens, and set their quotas, directly in the database.",
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
    """Return the actor for the audit log: the operating system's user on this machine."""
    from studies.actors import Actor

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # The user id has no name on this machine, as in a container.
        user = str(os.getuid())
    return Actor(name=None, role="admin", address=f"{user}@{socket.gethostname()}")


@app.command()
def create(
    name: Name,
    *,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer: read; submitter: also submit studies and control its own; admin: everything."
        ),
    ] = "submitter",
    max_studies: MaxStudies = None,
    max_trials: MaxTrials = None,
    max_gpu_hours: MaxGpuHours = None,
    as_json: AsJson = False,
    home: Home = None,
    database: Database = None,
) -> None:
    """Create a token and print its secret, which is not shown again."""
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
    if as_json:
        print_json({"name": name, "role": role, "quotas": quotas.model_dump(mode="json"), "secret": secret})
        return
    write_line("The secret is shown only once; pass it as TANGENT_TOKEN or as `Authorization: Bearer ...`:")
    print_raw(secret)


@app.command("list")
def list_(*, as_json: AsJson = False, home: Home = None, database: Database = None) -> None:
    """List tokens, with their roles, quotas and usage, but without their secrets."""
    from service.cli import tables

    with _store(home, database) as store:
        listed = store.tokens_with_usage()
    if as_json:
        print_json([token.model_dump(mode="json") for token in listed])
    else:
        console().print(
            tables.tokens(listed)
            if listed
            else "There are no tokens; anyone who can reach the service has full access."
        )


@app.command()
def quota(
    name: Name,
    *,
    max_studies: MaxStudies = None,
    max_trials: MaxTrials = None,
    max_gpu_hours: MaxGpuHours = None,
    as_json: AsJson = False,
    home: Home = None,
    database: Database = None,
) -> None:
    """Set a token's quotas; a quota that is not given is removed. Open studies continue."""
    from studies.views import Quotas

    quotas = Quotas(max_studies=max_studies, max_trials=max_trials, max_gpu_hours=max_gpu_hours)
    with _store(home, database) as store:
        store.set_quotas(name, quotas, by=_operator())
    if as_json:
        print_json({"name": name, "quotas": quotas.model_dump(mode="json")})
        return
    limits = (
        *([plural(max_studies, "open study", "open studies")] if max_studies is not None else []),
        *([f"{plural(max_trials, 'trial')} per study"] if max_trials is not None else []),
        *([f"{max_gpu_hours:g} GPU-hours"] if max_gpu_hours is not None else []),
    )
    print_raw(f"quotas of {name}: {', '.join(limits)}" if limits else f"{name} has no quotas")


@app.command()
def revoke(name: Name, *, as_json: AsJson = False, home: Home = None, database: Database = None) -> None:
    """Revoke a token at once and permanently."""
    with _store(home, database) as store:
        store.revoke_token(name, by=_operator())
    if as_json:
        print_json({"name": name, "revoked": True})
    else:
        print_raw(f"{name} is revoked")
