"""`tangent serve`, the service without a dispatcher, and `tangent migrate`, which prepares its database."""

__all__ = ["migrate", "serve"]

from pathlib import Path
from typing import Annotated

import typer

from service.cli.errors import CommandError
from service.cli.output import AsJson, print_json, print_raw
from service.cli.up import Database, Home, Host, Port, RootPath

FirstToken = Annotated[
    Path | None,
    typer.Option(
        "--first-token-file",
        help="If no API token exists yet, create the admin token `first` with the secret in this file.",
        envvar="TANGENT_FIRST_TOKEN_FILE",
        show_default=False,
    ),
]


def serve(
    *,
    host: Host = None,
    port: Port = None,
    root_path: RootPath = None,
    home: Home = None,
    database: Database = None,
) -> None:
    """Run the service without a dispatcher; dispatchers on the same database run the studies."""
    import logging

    from service.serve import serve as run
    from service.settings import ServiceSettings

    settings = ServiceSettings.load(
        host=host, port=port, root_path=root_path, home=home, database_url=database
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    raise typer.Exit(run(settings))


def migrate(
    *,
    first_token_file: FirstToken = None,
    as_json: AsJson = False,
    home: Home = None,
    database: Database = None,
) -> None:
    """Create the database, or upgrade its schema to this version; does nothing if it is up to date.

    The service and the dispatchers also do this when they start. Run it separately before several of them
    start at once, and before the first start after an upgrade.
    """
    from service.settings import ServiceSettings
    from studies.errors import SpecInvalid
    from studies.secret_files import read_secret
    from studies.store import Store

    settings = ServiceSettings.load(home=home, database_url=database)
    try:
        secret = read_secret(first_token_file) if first_token_file is not None else None
    except ValueError as error:
        raise CommandError(str(error)) from None
    store = Store.open(settings.database)
    try:
        is_created = secret is not None and store.create_first_token("first", secret=secret)
    except SpecInvalid as error:
        raise CommandError(
            f"{first_token_file} does not hold a token's secret: {error.problems[0].message}"
        ) from None
    finally:
        store.close()
    if as_json:
        print_json({"first_token": is_created})
        return
    print_raw("The database is up to date." + (" Created the admin token `first`." if is_created else ""))
