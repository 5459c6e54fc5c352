"""Fixtures for the tests of studies: a store on each database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import catalog
from optuna.storages import RDBStorage
from postgres_server import PostgresServer
from simulated_dispatch import SimulatedDispatcher

from studies.store import Store

__all__: list[str] = []


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its schema and a catalogue; copied for each test."""
    path = tmp_path_factory.mktemp("template") / "tangent.db"
    _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with its schema and a catalogue; the template of each test's own."""
    name = postgres.create()
    _prepare(postgres.url(name))
    return name


def _prepare(url: str) -> None:
    store = Store.open(url)
    store.announce(catalog(), dispatcher="here")
    store.close()
    # Create Optuna's tables too: creating them with the first copy would take longer than most tests.
    optunas = RDBStorage(url)
    optunas.remove_session()
    optunas.engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with its schema and a catalogue: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "tangent.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        yield server.url(name)
        server.drop(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database without tables."""
    return (
        f"sqlite:///{tmp_path}/tangent.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store with a catalogue, on each database."""
    opened = Store.open(database_url, migrate=False)
    yield opened
    opened.close()


@pytest.fixture
def play(store: Store) -> SimulatedDispatcher:
    """Simulated runs of the store's studies."""
    return SimulatedDispatcher(store)
