"""What `tangent up` checks before it starts anything, and the dispatcher's environment."""

__all__ = ["check", "dispatcher_environment"]

import os
import socket

from service.auth import check_exposure
from service.cli.errors import CommandError
from service.settings import ServiceSettings
from studies.private_files import create_private_folder
from studies.store import Store


def check(settings: ServiceSettings) -> None:
    """Check that the port, the log folder and the database can be used.

    Raises:
        CommandError: the port is taken, or the log folder cannot be created.
        StoreUnavailable: the database cannot be opened.
        NotPermitted: other machines could reach the service, and no API token exists.
    """
    try:
        with socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        ):
            pass
    except OSError as error:
        raise CommandError(
            f"cannot listen on port {settings.port} of {settings.host}: {_reason(error)}; stop the program "
            "that uses it, or choose another port with --port"
        ) from None
    try:
        create_private_folder(settings.home / "logs")
    except OSError as error:
        raise CommandError(
            f"cannot write to {settings.home}: {_reason(error)}; choose another folder with --home"
        ) from None
    store = Store.open(settings.database)
    try:
        check_exposure(settings, store)
    finally:
        store.close()


def dispatcher_environment(settings: ServiceSettings) -> dict[str, str]:
    """Return the dispatcher's settings as environment variables.

    They are not passed as arguments, because the list of processes would show the database's password.
    """
    file = settings.database_password_file
    return {
        **({"TANGENT_DATABASE_PASSWORD_FILE": str(file.absolute())} if file is not None else {}),
        "TANGENT_HOME": str(settings.home.absolute()),
        "TANGENT_DATABASE_URL": settings.database_url,
        "TANGENT_RAY_ADDRESS": settings.ray_address,
        # The dispatcher exits by itself when this process is gone, however it ended.
        "TANGENT_PARENT_PID": str(os.getpid()),
    }


def _reason(error: OSError) -> str:
    # Python appends the attempted call in parentheses, which the message already names.
    return str(error.strerror or error).partition(" (")[0].lower()
