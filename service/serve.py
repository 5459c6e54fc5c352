"""Runs the service until it is told to end; whatever keeps it from starting is one line on standard error."""

__all__ = ["Server", "serve"]

import errno
import logging
import socket
import sys
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
from studies.errors import TangentError
from studies.logs import configure_logging
from studies.store import Store

_GRACE_S = 10


def serve(settings: ServiceSettings) -> int:
    """Return the exit status once the service has ended.

    0 when it was told to (SIGINT, SIGTERM), 1 when it could not start.
    """
    configure_logging(settings.log_format, level=settings.log_level, process="service")
    try:
        listener = _listen(settings.host, settings.port)
    except TangentError as error:
        return _refuse(error)
    with listener:
        try:
            store = Store.open(settings.database_url)
        except TangentError as error:
            return _refuse(error)
        try:
            return _run(settings, store, listener)
        except TangentError as error:
            return _refuse(error)
        finally:
            store.close()


def _refuse(error: TangentError) -> int:
    sys.stderr.write(f"tangent: {' '.join(str(error).split())}\n")
    return 1


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Taken before anything else is opened, and kept, so that nobody takes the port in between.

    Raises:
        SettingsInvalid: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise SettingsInvalid(
            f"there is no address {host!r} to listen on; set TANGENT_HOST to one of "
            "this machine's, such as 127.0.0.1"
        ) from None
    listener = socket.socket(family, kind, protocol)
    # Else the port stays taken for a minute after the last service has ended.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingsInvalid(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use; end what listens there, or set TANGENT_PORT to another"
        case errno.EACCES:
            return f"port {port} on {host} is not this user's to take; set TANGENT_PORT to one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; set TANGENT_HOST to one that is, such as 127.0.0.1"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror}"


class Server(uvicorn.Server):
    """A server that ends its event streams when it is told to end, and leaves what comes after to its caller.

    Args:
        app: what `create_app` returned.
        patience: how long connections wait for their other end.
    """

    def __init__(self, app: FastAPI, *, timeouts: Timeouts | None = None) -> None:
        self._streams: EventStreams = app.state.streams
        config = uvicorn.Config(
            app,
            # Uvicorn asks for a class, and only ever calls it.
            http=cast("type[TimedConnection]", partial(TimedConnection, timeouts=timeouts or Timeouts())),
            # Not "auto", which would use uvloop once it is installed, without a measurable gain.
            loop="asyncio",
            # An upgrade would bypass the middleware, and nothing here uses WebSockets.
            ws="none",
            log_config=None,
            # Ours has the route, the request's id and the study: `service.request_log`.
            access_log=False,
            server_header=False,
            # Nothing here asks for the caller's address or scheme, so no header of a proxy need be believed.
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
            # Else the lines of a connection's next request name the study of the last.
            reset_contextvars=True,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, and wait for those that are being answered."""
        self._streams.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the service is to end; a second signal ends it at once."""
        del sig, frame
        # Uvicorn's own would send the signal once more afterwards, which ends the process before its caller
        # can clean up.
        self.force_exit = self.should_exit
        self.should_exit = True


def _run(settings: ServiceSettings, store: Store, listener: socket.socket) -> int:
    check_exposure(settings, store)
    write = partial(configure_logging, settings.log_format, level=settings.log_level, process="analysis")
    server = Server(
        create_app(settings, store, analysis_pool=ProcessAnalysisPool(settings.database_url, prepare=write))
    )
    logging.getLogger("tangent.service").info("listening at %s", settings.url)
    server.run(sockets=[listener])
    return 0 if server.started else 1
