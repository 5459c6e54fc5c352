"""What every test shares.

One thread, repeatable examples, and a stated reason where a machine lacks what a marker needs.
"""

import os
import shutil
from collections.abc import Iterator

# Two cores are shared with Ray and the servers under test; set before the first import of numpy or torch,
# which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import hypothesis
import pytest
from postgres_server import PostgresServer, binaries, postgres_server
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

__all__: list[str] = []

# The same examples on every run: a failure in CI is a failure here, and the suite never fails by luck.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


# Folders and files whose tests do.
_STARTS_RAY = ("tests/end_to_end/", "tests/service/test_cli_up.py")


class _Lanes(LoadScopeScheduling):
    """The tests of a file stay in one process of pytest-xdist, and all that start Ray in the same one.

    Two Rays would share two cores.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if file.startswith(_STARTS_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Let files be the lanes of a run in several processes.

    pytest-xdist's own groups do not work with this pytest.
    """
    return _Lanes(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that lacks its system package or its GPU, and say so.

    In CI, where scripts/system-packages has brought the packages, a missing one fails the test: a suite that
    skips is no proof.
    """
    for marker, package, is_present in (
        ("browser", "chromium", shutil.which("chromium") is not None),
        ("postgres", "postgresql", binaries() is not None),
        ("clock", "faketime", shutil.which("faketime") is not None),
    ):
        if item.get_closest_marker(marker) is None or is_present:
            continue
        reason = f"needs Debian's package '{package}': apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session; a test that uses it is marked `postgres`."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test alone."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)
