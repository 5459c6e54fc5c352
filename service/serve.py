"""Runs the service until a signal ends it. An error at startup is one line on standard error."""

__all__ = ["Server", "serve"]

import errno
import logging
import socket
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from service.analysis_pool import ProcessAnalysisPool
from service.app import create_app
from service.auth import check_exposure
from service.connection_timeouts import TimedConnection, Timeouts
from service.event_streams import EventStreams
from service.settings import ServiceSettings, SettingsInvalid
from service.write_threads import LOCK_WAIT_S
from studies.errors import TangentError
from studies.logs import configure_logging
from studies.private_files import make_home_private
from studies.standard_error import write_line
from studies.store import Store

_GRACE_S = 10


def serve(settings: ServiceSettings) -> int:
    """Run the service and return its exit status: 0 after SIGINT or SIGTERM, 1 if it could not start."""
    configure_logging(settings.log_format, level=settings.log_level, process="service")
    try:
        listener = _listen(settings.host, settings.port)
    except TangentError as error:
        return _report(error)
    with listener:
        make_home_private(settings.home)
        try:
            store = Store.open(settings.database, lock_wait_s=LOCK_WAIT_S)
        except TangentError as error:
            return _report(error)
        try:
            return _run(settings, store, listener)
        except TangentError as error:
            return _report(error)
        finally:
            store.close()


def _report(error: TangentError) -> int:
    write_line(f"tangent: {' '.join(str(error).split())}")
    return 1


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    It is opened first and kept open, so that no other process can take the port meanwhile.

    Raises:
        SettingsInvalid: the service cannot listen at this address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise SettingsInvalid(
            f"cannot resolve the address {host!r}; set TANGENT_HOST to an address of "
            "this machine, such as 127.0.0.1"
        ) from None
    listener = socket.socket(family, kind, protocol)
    # Otherwise the port stays in use for a minute after the previous service has ended.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingsInvalid(_listen_error(error, host, port)) from None
    return listener


def _listen_error(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use; stop the other program, or change TANGENT_PORT"
        case errno.EACCES:
            return f"this user may not listen on port {port} of {host}; set TANGENT_PORT to a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; set TANGENT_HOST to one, such as 127.0.0.1"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror}"


class Server(uvicorn.Server):
    """A uvicorn server that ends event streams at shutdown and returns to its caller after a signal.

    Args:
        app: the result of `create_app`.
        timeouts: how long connections wait for their clients.
    """

    def __init__(self, app: FastAPI, *, timeouts: Timeouts | None = None) -> None:
        self._streams: EventStreams = app.state.streams
        config = uvicorn.Config(
            app,
            # Uvicorn's type is a class, but any callable works.
            http=cast("type[TimedConnection]", partial(TimedConnection, timeouts=timeouts or Timeouts())),
            # Not "auto", which would use uvloop once it is installed, without a measurable gain.
            loop="asyncio",
            # An upgrade would bypass the middleware, and nothing here uses WebSockets.
            ws="none",
            log_config=None,
            # `service.request_log` logs the route, the request's id and the study too.
            access_log=False,
            server_header=False,
            # `service.client_address` and `service.session_cookie` read the headers of trusted proxies.
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
            # Otherwise log lines of a connection's next request would name the study of the previous one.
            reset_contextvars=True,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting requests, and wait for the requests in progress."""
        self._streams.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown; a second signal ends the service at once."""
        del sig, frame
        # Uvicorn's own method would raise the signal again after the shutdown, which would end the process
        # before the caller can clean up.
        self.force_exit = self.should_exit
        self.should_exit = True


def _run(settings: ServiceSettings, store: Store, listener: socket.socket) -> int:
    check_exposure(settings, store)
    write = partial(configure_logging, settings.log_format, level=settings.log_level, process="analysis")
    server = Server(
        create_app(settings, store, analysis_pool=ProcessAnalysisPool(settings.database, prepare=write))
    )
    logging.getLogger("tangent.service").info("listening at %s", settings.url)
    server.run(sockets=[listener])
    return 0 if server.started else 1
