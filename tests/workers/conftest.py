"""A database for each test, with an announced catalogue, for runs to work on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from catalogs import catalog
from simulated_dispatch import SimulatedDispatcher

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
def one_thread() -> Iterator[None]:
    """PyTorch with one thread, so that sums are always in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def play(store: Store) -> SimulatedDispatcher:
    """Runs of the store's studies, without Ray."""
    return SimulatedDispatcher(store)
