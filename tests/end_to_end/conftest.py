"""One dispatcher with its Ray for all tests that leave it alive: starting them takes longer than most studies."""

from collections.abc import Iterator

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process

__all__: list[str] = []


@pytest.fixture(scope="session")
def dispatcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DispatcherProcess]:
    """A dispatcher that tests share; who kills it takes one of its own."""
    with dispatcher_process(tmp_path_factory.mktemp("dispatcher")) as running:
        yield running
