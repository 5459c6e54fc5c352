"""The record that runs work on, in a database of each test's own, with a catalogue announced."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import catalog
from playing import Play

from studies.store import Store

__all__: list[str] = []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose catalogue one dispatcher has announced."""
    opened = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    opened.announce(catalog(), dispatcher="here")
    yield opened
    opened.close()


@pytest.fixture
def play(store: Store) -> Play:
    """Runs without Ray on the store's studies."""
    return Play(store)
