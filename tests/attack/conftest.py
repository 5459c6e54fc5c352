"""A service with data behind a real server, on SQLite; one for each test module."""

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from live_servers import serving
from populated_store import AttackTarget, PopulatedStore, populate

from service.app import create_app
from service.connection_timeouts import Timeouts
from service.event_streams import StreamSettings
from service.rate_limits import RateLimits
from service.settings import ServiceSettings
from studies.store import Store

__all__: list[str] = []


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PopulatedStore]:
    """A database to copy, and its contents."""
    path = tmp_path_factory.mktemp("furnished") / "tangent.db"
    store = Store.open(f"sqlite:///{path}")
    data = populate(store)
    store.close()
    return path, data


@pytest.fixture(scope="module")
def attacked(
    furnished: tuple[Path, PopulatedStore], tmp_path_factory: pytest.TempPathFactory
) -> Generator[AttackTarget]:
    """A service without rate limits and with short timeouts, whose database is shared by the tests."""
    path, data = furnished
    home = tmp_path_factory.mktemp("attacked")
    shutil.copy(path, home / "tangent.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TANGENT_")]:
            patch.delenv(name)
        settings = ServiceSettings.load(home=home, rate_per_s=0)
    store = Store.open(settings.database_url, migrate=False)
    app = create_app(
        settings,
        store,
        stream_settings=StreamSettings(poll_s=0.02, max_poll_s=0.05, heartbeat_s=0.2, recheck_s=0.2),
    )
    # The limits have their own tests; here one test would affect the next.
    app.state.login_limits = RateLimits(0)
    with serving(app, timeouts=Timeouts(head_s=1.5, body_s=2.0, unread_s=1.5)) as url:
        yield AttackTarget(url, data, store, app)
    store.close()
