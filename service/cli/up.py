"""`tangent up`: the service in this process, a dispatcher beside it, and both ended together."""

__all__ = ["up"]

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from service.cli.dispatcher_supervisor import DispatcherSupervisor
from service.cli.errors import CommandError
from service.cli.output import print_raw

Host = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on; any but this machine's own needs a token.",
        envvar="TANGENT_HOST",
        show_default="127.0.0.1",
    ),
]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on.", envvar="TANGENT_PORT", show_default="8780")
]
Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded database and the logs.", envvar="TANGENT_HOME", show_default="~/.tangent"
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
        envvar="TANGENT_DATABASE_URL",
        show_default="SQLite in --home",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="`local` starts a Ray, HOST:PORT joins a running one.",
        envvar="TANGENT_RAY_ADDRESS",
        show_default="local",
    ),
]

_READY_WITHIN_S = 180.0
_STOP_WITHIN_S = 25.0


def up(
    *, host: Host = None, port: Port = None, home: Home = None, database: Database = None, ray: Ray = None
) -> None:
    """Run the service and a dispatcher on this machine until Ctrl-C.

    Shows the dashboard's address once both are ready.
    """
    from service.cli.preflight import check, dispatcher_environment, local_url
    from service.serve import serve
    from service.settings import ServiceSettings

    settings = ServiceSettings.load(host=host, port=port, home=home, database_url=database, ray_address=ray)
    # What it says of each opening of the database is of no use to whoever runs the service.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The dashboard's address is shown when it can be used.
    logging.getLogger("tangent.service").addFilter(lambda record: record.levelno > logging.INFO)
    if settings.log_format == "console":
        # Whoever sits at the terminal looks for what goes wrong, not for every look of a browser.
        logging.getLogger("tangent.access").addFilter(lambda record: record.levelno > logging.INFO)
    check(settings)
    dispatcher = DispatcherSupervisor(
        dispatcher_environment(settings), log=settings.home / "logs" / "dispatcher.log", say=_warn
    )
    starter = _Starter(dispatcher, url=local_url(settings))
    starter.start()
    try:
        code = serve(settings)
    finally:
        # The service has let go of the signals; a second one ends the dispatcher by force.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: dispatcher.kill())
        dispatcher.stop(timeout_s=_STOP_WITHIN_S)
    starter.join()
    if starter.failure is not None:
        raise CommandError(starter.failure)
    raise typer.Exit(code)


def _warn(sentence: str) -> None:
    typer.echo(f"warning: {sentence}", err=True)


class _Starter(threading.Thread):
    """Waits for the service, starts the dispatcher and says when both are ready.

    Attributes:
        failure: why that did not come about; the service is told to end then.
    """

    def __init__(self, dispatcher: DispatcherSupervisor, *, url: str) -> None:
        super().__init__(name="starter", daemon=True)
        self._dispatcher = dispatcher
        self._url = url
        self.failure: str | None = None

    def run(self) -> None:
        """Start the dispatcher once the service answers."""
        while not self._answers():
            if self._dispatcher.is_stopping:
                return
            time.sleep(0.1)
        try:
            self._dispatcher.start()
            is_ready = self._dispatcher.wait_until_ready(timeout_s=_READY_WITHIN_S)
        except OSError as error:
            self._give_up(f"the dispatcher cannot be started: {error}")
            return
        if is_ready:
            self._dispatcher.keep()
            print_raw(f"Dashboard: {self._url}/  (Ctrl-C ends the service and its dispatcher)")
        elif not self._dispatcher.is_stopping:
            self._give_up(
                f"the dispatcher did not start: {self._dispatcher.last_line().removeprefix('error: ')} "
                f"(log: {self._dispatcher.log})"
            )

    def _give_up(self, failure: str) -> None:
        self.failure = failure
        # To this process itself: it ends the service in good order, and then everything else.
        os.kill(os.getpid(), signal.SIGTERM)

    def _answers(self) -> bool:
        from http.client import HTTPConnection, HTTPException

        # Not by urllib or httpx: a proxy of the environment cannot reach this machine's own address.
        connection = HTTPConnection(self._url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
