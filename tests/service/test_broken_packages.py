"""A package that a dispatcher could not load, as users see it."""

from collections.abc import Callable

import httpx
import pytest
from typer.testing import Result

from studies.catalog import BrokenPackage, Catalog
from studies.store import Store

__all__: list[str] = []

Run = Callable[..., Result]

BROKEN = BrokenPackage(
    kind="workload",
    package="own-moons 1.0",
    entry_point="moons = own_moons:MOONS",
    error="ModuleNotFoundError: No module named 'sklearn'",
)


@pytest.fixture
def broken(store: Store) -> None:
    """A dispatcher has announced the package."""
    store.announce(Catalog(broken=(BROKEN,)), dispatcher="here")


@pytest.mark.usefixtures("broken")
def test_the_api_lists_it_and_the_service_is_ready(live: str) -> None:
    ready = httpx.get(f"{live}/readyz")
    assert (ready.status_code, ready.json()["broken_packages"]) == (200, [BROKEN.model_dump()])
    assert httpx.get(f"{live}/v1/broken-packages").json()["items"] == [BROKEN.model_dump()]


@pytest.mark.usefixtures("broken")
def test_the_command_line_and_the_page_show_it_with_the_kind_that_it_would_add(run: Run, live: str) -> None:
    assert str(BROKEN) in run("workloads").stdout
    assert str(BROKEN) not in run("optimizers").stdout
    assert "own-moons 1.0" in httpx.get(f"{live}/workloads").text
    assert "own-moons 1.0" not in httpx.get(f"{live}/optimizers").text


@pytest.mark.usefixtures("broken")
def test_an_unknown_workload_is_explained_by_it(run: Run, live: str) -> None:
    body = {"workload": "moons", "arms": ["adamp"], "budget": {"trials_per_arm": 2}}
    answer = httpx.post(f"{live}/v1/studies", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/workload"
    assert str(BROKEN) in error["detail"]
    assert str(BROKEN) in run("workloads", "moons").stderr
