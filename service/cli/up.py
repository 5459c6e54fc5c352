"""`tangent up`: the service in this process and a dispatcher in a child process."""

__all__ = ["up"]

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import CommandError
from service.cli.output import print_raw
from studies.standard_error import write_line

if TYPE_CHECKING:
    from service.cli.dispatcher_supervisor import DispatcherSupervisor

Host = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on; any address but a loopback one requires an API token.",
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
RootPath = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Path of the service on its host, such as /tangent, if a proxy serves it below one.",
        envvar="TANGENT_ROOT_PATH",
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="`local` starts Ray on this machine; HOST:PORT joins a running Ray cluster.",
        envvar="TANGENT_RAY_ADDRESS",
        show_default="local",
    ),
]

_READY_WITHIN_S = 180.0
_STOP_WITHIN_S = 25.0


def up(
    *,
    host: Host = None,
    port: Port = None,
    root_path: RootPath = None,
    home: Home = None,
    database: Database = None,
    ray: Ray = None,
) -> None:
    """Run the service and a dispatcher on this machine until Ctrl-C.

    Prints the dashboard's URL once both are ready.
    """
    from service.cli.dispatcher_supervisor import DispatcherSupervisor
    from service.cli.preflight import check, dispatcher_environment
    from service.settings import ServiceSettings, local_url
    from studies.process_tree import adopt_orphans

    settings = ServiceSettings.load(
        host=host, port=port, root_path=root_path, home=home, database_url=database, ray_address=ray
    )
    # Alembic logs each time that the database is opened; that does not help the user.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The URL is printed once the dispatcher is ready, so the service's own message would be too early.
    logging.getLogger("tangent.service").addFilter(lambda record: record.levelno > logging.INFO)
    if settings.log_format == "console":
        # In a terminal, a line per request would hide the warnings.
        logging.getLogger("tangent.access").addFilter(lambda record: record.levelno > logging.INFO)
    check(settings)
    # If the dispatcher is killed, the processes that it leaves behind become children of this one.
    adopt_orphans()
    dispatcher = DispatcherSupervisor(
        dispatcher_environment(settings), log=settings.home / "logs" / "dispatcher.log", warn=_warn
    )
    starter = _Starter(dispatcher, url=f"{local_url(settings.host, settings.port)}{settings.root_path}")
    try:
        # It takes seconds to start, while this process imports the service.
        dispatcher.start()
    except OSError as error:
        raise CommandError(f"cannot start the dispatcher: {error}") from None
    starter.start()
    try:
        from service.serve import serve

        code = serve(settings)
    finally:
        # The service no longer handles signals. A second one kills the dispatcher.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: dispatcher.kill())
        dispatcher.stop(timeout_s=_STOP_WITHIN_S)
    starter.join()
    if starter.failure is not None:
        raise CommandError(starter.failure)
    raise typer.Exit(code)


def _warn(message: str) -> None:
    write_line(f"warning: {message}")


class _Starter(threading.Thread):
    """A thread that waits for the service and the dispatcher, and reports when both are ready.

    Attributes:
        failure: why the dispatcher did not start, or None. On a failure, the service is stopped.
    """

    def __init__(self, dispatcher: "DispatcherSupervisor", *, url: str) -> None:
        super().__init__(name="starter", daemon=True)
        self._dispatcher = dispatcher
        self._url = url
        self.failure: str | None = None

    def run(self) -> None:
        """Wait for the service, then for the dispatcher."""
        while not self._service_is_up():
            if self._dispatcher.is_stopping:
                return
            time.sleep(0.1)
        if self._dispatcher.wait_until_ready(timeout_s=_READY_WITHIN_S):
            self._dispatcher.keep_running()
            print_raw(f"Dashboard: {self._url}/  (press Ctrl-C to stop)")
        elif not self._dispatcher.is_stopping:
            self._fail(
                f"the dispatcher did not start: {self._dispatcher.last_line().removeprefix('error: ')} "
                f"(log: {self._dispatcher.log})"
            )

    def _fail(self, failure: str) -> None:
        self.failure = failure
        # The service in this process shuts down cleanly on SIGTERM, and `up` then stops everything else.
        os.kill(os.getpid(), signal.SIGTERM)

    def _service_is_up(self) -> bool:
        from http.client import HTTPConnection, HTTPException

        # urllib and httpx would use a proxy from the environment, which cannot reach this machine's loopback.
        connection = HTTPConnection(self._url.split("/")[2], timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
