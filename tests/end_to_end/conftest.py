"""One dispatcher with Ray for all tests that leave it alive; starting it takes longer than most studies.

With `-m slow`, PostgreSQL as well.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process
from postgres_server import PostgresServer

__all__: list[str] = []


@pytest.fixture(
    scope="session",
    params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])],
)
def database(request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """Creates a dispatcher's database and returns its URL; None for SQLite in the dispatcher's home."""
    if request.param == "sqlite":
        return lambda: None
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda: server.url(server.create())


@pytest.fixture(scope="session")
def dispatcher(
    tmp_path_factory: pytest.TempPathFactory, database: Callable[[], str | None]
) -> Iterator[DispatcherProcess]:
    """A shared dispatcher; tests that kill their dispatcher use `own`."""
    # Every character is part of the folder's name.
    home = tmp_path_factory.mktemp("dispatcher") / "a%2Fb c?d#é"
    with dispatcher_process(home, database=database()) as running:
        yield running


@pytest.fixture
def own(
    database: Callable[[], str | None], tmp_path: Path
) -> Callable[[], AbstractContextManager[DispatcherProcess]]:
    """A function that starts a dispatcher for one test only."""
    return lambda: dispatcher_process(tmp_path, database=database())
