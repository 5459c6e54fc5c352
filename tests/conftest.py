"""Settings shared by all tests: one thread, repeatable examples, and reasons for skipped tests."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Tests share two cores with Ray and the servers under test. Set before the first import of numpy or torch,
# which read these variables once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import hypothesis
import pytest
import torchvision_environment
from postgres_server import PostgresServer, binaries, postgres_server
from proxy_servers import nginx_binary
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from studies import process_tree

__all__: list[str] = []

# The same examples on every run, so that a failure in CI can be reproduced.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

# Folders and files whose tests start Ray.
_STARTS_RAY = ("tests/end_to_end/", "tests/service/test_cli_up.py")


class _Lanes(LoadScopeScheduling):
    """Runs each file's tests in one process of pytest-xdist, and all tests that start Ray in the same one.

    Two Ray clusters would compete for two cores.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if file.startswith(_STARTS_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Distribute whole files over the processes; pytest-xdist's own groups do not work with this pytest."""
    return _Lanes(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose system package or GPU is missing, with the reason.

    In CI, where scripts/system-packages installs the packages, a missing one fails the test.
    """
    for marker, package, is_present in (
        ("browser", "chromium", shutil.which("chromium") is not None),
        ("postgres", "postgresql", binaries() is not None),
        ("clock", "faketime", shutil.which("faketime") is not None),
        ("nginx", "nginx-light", nginx_binary() is not None),
        ("tls", "openssl", shutil.which("openssl") is not None),
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


@pytest.fixture(autouse=True)
def own_children() -> Iterator[None]:
    """End the adoption of orphans that a test has begun: in later tests it would end processes of theirs."""
    yield
    if process_tree._has_adopted:
        ctypes.CDLL(None).prctl(process_tree._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        process_tree._has_adopted = False


@pytest.fixture(scope="session")
def torchvision_python() -> Path:
    """The interpreter of an environment with torchvision; tests that use it have the marker `slow`."""
    try:
        return torchvision_environment.create()
    except subprocess.CalledProcessError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"torchvision cannot be installed: {error}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests; tests that use it have the marker `postgres`."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database for this test."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)
