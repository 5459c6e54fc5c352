"""`tangent worker join`: this machine's cores and GPUs for a Ray that runs elsewhere."""

__all__ = ["app"]

import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

from service.cli.errors import BAD_INPUT, CommandError

app = typer.Typer(help="Lend this machine's cores and GPUs to a cluster.", no_args_is_help=True)


@app.callback()
# Registered by the decorator, so that `join` is typed even while it is alone.
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    pass


@app.command()
def join(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of the Ray head, e.g. 10.0.0.1:6379.")
    ],
    *,
    cpus: Annotated[
        int | None, typer.Option(help="CPU cores to lend.", envvar="TANGENT_CPUS", min=1, show_default="all")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs to lend.", envvar="TANGENT_GPUS", min=0, show_default="all")
    ] = None,
    node_address: Annotated[
        str | None,
        typer.Option(
            help="Address or name of this machine by which the others reach it.",
            envvar="TANGENT_NODE_ADDRESS",
            show_default="where its route to the head begins",
        ),
    ] = None,
) -> NoReturn:
    """Train trials of a cluster on this machine until Ctrl-C, or until its Ray is gone.

    The token of the cluster's Ray is read from the file that RAY_AUTH_TOKEN_PATH names, else from
    ~/.ray/auth_token. Only the trials run here: this machine needs the same packages as the dispatcher's, and
    the place of the checkpoints, but not the database.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise CommandError(
            f"expected HOST:PORT of a Ray head, such as 10.0.0.1:6379, got {address!r}", exit_code=BAD_INPUT
        )
    if importlib.util.find_spec("ray") is None:
        raise CommandError(
            "this installation has no Ray, which trains the trials: `pip install 'tangent-studies[workers]'`"
        )
    options = [
        f"--{name}={value}"
        for name, value in (("cpus", cpus), ("gpus", gpus), ("node-address", node_address))
        if value is not None
    ]
    # Without the folder of the moment on the path: it may hold somebody's own `workers`. In place of this
    # process, which would only pass signals on.
    # No shell, and none wanted.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.node", address, *options])  # noqa: S606
