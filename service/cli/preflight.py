"""What `tangent up` finds out before it starts anything.

Whether port, folder and database can be had, and what the dispatcher has to know.
"""

__all__ = ["check", "dispatcher_environment", "local_url"]

import os
import socket

from service.auth import check_exposure
from service.cli.errors import CommandError
from service.settings import ServiceSettings
from studies.store import Store


def check(settings: ServiceSettings) -> None:
    """Find what would keep the service from starting before anything is started.

    Raises:
        CommandError: the port or the folder of the logs cannot be had.
        StoreUnavailable: the database cannot be opened.
        NotPermitted: others could reach the service, and no token guards it.
    """
    try:
        with socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        ):
            pass
    except OSError as error:
        raise CommandError(
            f"cannot listen on port {settings.port} of {settings.host}: {_reason(error)}; end what uses "
            "it, or choose another with --port"
        ) from None
    try:
        (settings.home / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"cannot write to {settings.home}: {_reason(error)}; choose another folder with --home"
        ) from None
    store = Store.open(settings.database_url)
    try:
        check_exposure(settings, store)
    finally:
        store.close()


def dispatcher_environment(settings: ServiceSettings) -> dict[str, str]:
    """Return what the dispatcher has to know.

    Not as arguments, for a database's password would show in the list of processes.
    """
    return {
        "TANGENT_HOME": str(settings.home.absolute()),
        "TANGENT_DATABASE_URL": settings.database_url,
        "TANGENT_RAY_ADDRESS": settings.ray_address,
        # It ends by itself once this process is gone, however that came about.
        "TANGENT_PARENT_PID": str(os.getpid()),
    }


def local_url(settings: ServiceSettings) -> str:
    """Return where this machine reaches the service; unlike `settings.url` never a public name for it."""
    # Looked up, not bound.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _reason(error: OSError) -> str:
    # In parentheses Python adds what it attempted, which the sentence says already.
    return str(error.strerror or error).partition(" (")[0].lower()
