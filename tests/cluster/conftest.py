"""One cluster for all tests, because starting one takes as long as most tests."""

from collections.abc import Iterator

import pytest
from cluster.hosts import why_not_here
from cluster.lab import Lab, lab
from postgres_server import binaries

__all__: list[str] = []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Lab]:
    """A cluster of five hosts; every test leaves it healthy."""
    reason = why_not_here() or (None if binaries() else "needs Debian's package 'postgresql'")
    if reason is not None:
        pytest.skip(reason)
    with lab() as running:
        yield running
