"""Services that are killed during deliveries: every message arrives, and is duplicated only by a kill."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from webhook_receiver import receiver

from studies.catalog import Catalog
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store, tables
from studies.webhooks import parse_webhook

__all__: list[str] = []

KILLS = 8
STUDIES = 64
# As many deliveries as a service sends at once.
LOST_AT_A_KILL = 8


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def services(home: Path, url: str) -> Generator[list[subprocess.Popen[bytes]]]:
    """Yield two services on one database that a test may kill and replace."""
    started = [start(home, url), start(home, url)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def start(home: Path, url: str) -> subprocess.Popen[bytes]:
    """Start a service and wait until it answers."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
    given = {
        "TANGENT_HOME": str(home),
        "TANGENT_DATABASE_URL": url,
        "TANGENT_WEBHOOK_ALLOW": "127.0.0.0/8",
        "TANGENT_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve"], env=environment | given, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    process.kill()
    process.wait()
    raise AssertionError("the service does not answer")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.postgres
def test_every_message_arrives_although_services_are_killed(
    tmp_path: Path, postgres_url: str, catalog: Catalog, body: dict[str, Any]
) -> None:
    store = Store.open(postgres_url)
    store.announce(catalog, dispatcher="here")
    with receiver() as hook, services(tmp_path, postgres_url) as running:
        hook.delay_s = 0.2
        webhooks = {
            made.id: made
            for made in (
                store.create_webhook(parse_webhook({"url": f"{hook.url}/{n}", "events": ["study.*"]}))
                for n in range(4)
            )
        }
        for n in range(STUDIES):
            study = store.submit(parse_spec(body)).id
            store.move(study, StudyMove.CANCEL)
            if n % (STUDIES // KILLS) == STUDIES // KILLS - 1:
                place = (n // (STUDIES // KILLS)) % 2
                running[place].send_signal(signal.SIGKILL)
                running[place].wait()
                running[place] = start(tmp_path, postgres_url)
        hook.delay_s = 0.0
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and states(store) != {"delivered": STUDIES * 2 * len(webhooks)}:
            time.sleep(0.5)
        assert states(store) == {"delivered": STUDIES * 2 * len(webhooks)}
        came = Counter(each.headers["webhook-id"] for each in hook.received)
        with store._database.read() as connection:
            assert set(came) == set(connection.execute(select(tables.delivery.c.id)).scalars())
        twice = sum(count - 1 for count in came.values())
        logging.getLogger("tangent.tests").info(
            "%d messages, %d kills, %d came twice", len(came), KILLS, twice
        )
        assert twice <= KILLS * LOST_AT_A_KILL
        for each in hook.received[-50:]:
            webhook = list(webhooks.values())[int(each.path.rpartition("/")[2])]
            each.verified(webhook.secret)
    store.close()


def states(store: Store) -> Counter[str]:
    with store._database.read() as connection:
        return Counter(connection.execute(select(tables.delivery.c.state)).scalars())
