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
def database(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Creates a dispatcher's database and returns its URL."""
    if request.param == "sqlite":
        return lambda home: f"sqlite:///{home}/tangent.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda _home: server.url(server.create())


@pytest.fixture(scope="session")
def dispatcher(
    tmp_path_factory: pytest.TempPathFactory, database: Callable[[Path], str]
) -> Iterator[DispatcherProcess]:
    """A shared dispatcher; tests that kill their dispatcher use `own`."""
    home = tmp_path_factory.mktemp("dispatcher")
    with dispatcher_process(home, database=database(home)) as running:
        yield running


@pytest.fixture
def own(
    database: Callable[[Path], str], tmp_path: Path
) -> Callable[[], AbstractContextManager[DispatcherProcess]]:
    """A function that starts a dispatcher for one test only."""
    return lambda: dispatcher_process(tmp_path, database=database(tmp_path))
