"""`tangent worker join`: add this machine's cores and GPUs to a Ray cluster."""

__all__ = ["app"]

import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

from service.cli.commands import Commands
from service.cli.errors import BAD_INPUT, CommandError

app = Commands(help="Add this machine's cores and GPUs to a cluster.", no_args_is_help=True)


@app.callback()
# Without this callback Typer would drop the name of a single command, and `join` could not be typed.
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    pass


@app.command()
def join(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="HOST:PORT of the Ray head, e.g. 10.0.0.1:6379.")
    ],
    *,
    cpus: Annotated[
        int | None,
        typer.Option(help="Number of CPU cores to use.", envvar="TANGENT_CPUS", min=1, show_default="all"),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="Number of GPUs to use.", envvar="TANGENT_GPUS", min=0, show_default="all"),
    ] = None,
    node_address: Annotated[
        str | None,
        typer.Option(
            help="Address or host name at which the other machines reach this one.",
            envvar="TANGENT_NODE_ADDRESS",
            show_default="address of the interface that reaches the head",
        ),
    ] = None,
) -> NoReturn:
    """Train trials on this machine until Ctrl-C, or until the cluster's Ray head is gone.

    The Ray cluster's token is read from the file that RAY_AUTH_TOKEN_PATH names, or else from
    ~/.ray/auth_token. This machine needs the same packages as the dispatcher's machine and access to the
    checkpoints, but not to the database.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise CommandError(
            f"expected HOST:PORT of a Ray head, such as 10.0.0.1:6379, got {address!r}", exit_code=BAD_INPUT
        )
    if importlib.util.find_spec("ray") is None:
        raise CommandError("Ray is not installed; run `pip install 'tangent-studies[workers]'`")
    options = [
        f"--{name}={value}"
        for name, value in (("cpus", cpus), ("gpus", gpus), ("node-address", node_address))
        if value is not None
    ]
    # -P keeps the current folder off the import path: it may hold another `workers` package. Replacing this
    # process avoids a parent that would only forward signals. No shell is involved.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.node", address, *options])  # noqa: S606
