"""`python -m workers`: a dispatcher on any database and any Ray cluster."""

__all__ = ["main"]

import argparse
import logging
import signal
import sys
from typing import Any

from pydantic import ValidationError

from studies.database_urls import has_password
from studies.errors import StoreUnavailable, TangentError
from studies.logs import LogStream, configure_logging
from studies.private_files import make_home_private
from studies.process_tree import adopt_orphans
from studies.standard_error import write_line
from studies.store import Store
from workers.package_versions import describe_packages
from workers.parent_watchdog import exit_with_parent
from workers.settings import DispatcherSettings, describe_invalid_setting


def _settings() -> DispatcherSettings:
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Run a dispatcher: claim queued studies and train their trials on Ray.",
    )
    parser.add_argument(
        "--database",
        dest="database_url",
        help="database URL (TANGENT_DATABASE_URL; default: SQLite in TANGENT_HOME)",
    )
    parser.add_argument(
        "--ray",
        dest="ray_address",
        help=(
            "'local', 'head' (a cluster that others can join), HOST:PORT of a head, or join:HOST:PORT "
            "(TANGENT_RAY_ADDRESS; default: local)"
        ),
    )
    parser.add_argument(
        "--checkpoints",
        help=(
            "folder or URL that all machines can reach (TANGENT_CHECKPOINTS; default: a folder in "
            "TANGENT_HOME)"
        ),
    )
    parser.add_argument(
        "--cpus",
        type=int,
        help="CPU cores of a local Ray (TANGENT_CPUS; default: all) or of a head (default: none)",
    )
    parser.add_argument("--max-runs", type=int, help="studies to run at once (TANGENT_MAX_RUNS; default: 2)")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    if has_password(given.get("database_url", "")):
        # Every user can list them, and Ray copies them to the processes of its cluster.
        raise StoreUnavailable(
            "expected a URL without a password, because other users can read a command's arguments; put the "
            "password into the file that TANGENT_DATABASE_PASSWORD_FILE names, or set TANGENT_DATABASE_URL"
        )
    return DispatcherSettings(**given)


def _fail(reason: str) -> int:
    write_line(f"error: {reason}")
    return 1


def main() -> int:
    """Run the dispatcher until SIGTERM or SIGINT.

    Return 1, with one line on stderr, if the database or Ray cannot be used.
    """
    try:
        settings = _settings()
        exit_with_parent(settings.parent_pid)
        adopt_orphans()
        configure_logging(settings.log_format, process="dispatcher", dispatcher=settings.name)
        # Ray prints events of its nodes.
        sys.stdout = LogStream(logging.getLogger("tangent.ray"))
        make_home_private(settings.home)
        store = Store.open(settings.database)
        # A write that changes nothing, so that a read-only database is reported before Ray takes its seconds
        # to start.
        store.sign_off(settings.name)
        return _serve(settings, store)
    except ValidationError as error:
        return _fail(describe_invalid_setting(error))
    except TangentError as error:
        return _fail(str(error))


def _serve(settings: DispatcherSettings, store: Store) -> int:
    # Imports take seconds, and a wrong setting is to be reported at once.
    from workers.managed_ray import ManagedRay

    ray = ManagedRay(settings)
    try:
        ray.start()
        # While Ray starts, this process would only wait.
        from workers.catalog import installed_catalog
        from workers.dispatcher import Dispatcher
        from workers.packages import use_packages

        use_packages(settings.packages)
        catalog = installed_catalog()
        ray.wait_until_ready()
        store.announce(catalog, dispatcher=settings.name)
        dispatcher = Dispatcher(settings, store, ray=ray)

        def end(_signal: int, _frame: Any) -> None:
            dispatcher.end()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        logging.getLogger("tangent.dispatcher").info("ready on %s, Ray at %s", settings.name, ray.address)
        logging.getLogger("tangent.dispatcher").info(
            "packages of workloads and optimizers: %s", describe_packages()
        )
        dispatcher.serve()
        return 1 if dispatcher.has_lost_ray else 0
    finally:
        ray.stop()


if __name__ == "__main__":
    sys.exit(main())
