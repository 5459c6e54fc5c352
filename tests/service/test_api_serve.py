"""`serve` as a process: it starts, shuts down cleanly, and reports a failed start in one line."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_servers import process, wait_until_it_answers
from ports import free_port

from service.client import Client
from service.serve import serve
from service.settings import ServiceSettings
from studies.catalog import Catalog
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]


@pytest.fixture
def refused(settings: ServiceSettings, capsys: pytest.CaptureFixture[str]) -> Generator[Refused]:
    """Start a service that cannot start, and return its one line of output."""
    log = logging.getLogger("tangent")
    level = log.level

    def say(**given: Any) -> str:
        assert serve(ServiceSettings.load(home=settings.home, **given)) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("tangent: ")
        assert output.err.count("\n") == 1
        return output.err

    yield say
    log.setLevel(level)


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_service_with_open_streams_shuts_down_cleanly(
    tmp_path: Path, stop_signal: signal.Signals, catalog: Catalog, body: dict[str, Any]
) -> None:
    port = free_port()
    begun = threading.Event()

    def watch(url: str) -> None:
        with httpx.stream("GET", url, timeout=30) as answer:
            for _ in answer.iter_lines():
                begun.set()

    with process(tmp_path, TANGENT_PORT=str(port)) as started:
        wait_until_it_answers(port)
        # A second reader of the same database, like the dispatcher.
        store = Store.open(f"sqlite:///{tmp_path / 'tangent.db'}", migrate=False)
        store.announce(catalog, dispatcher="here")
        study = store.submit(parse_spec(body)).id
        store.close()
        watcher = threading.Thread(
            target=watch, args=(f"http://127.0.0.1:{port}/v1/studies/{study}/events",), daemon=True
        )
        watcher.start()
        assert begun.wait(5)
        started.send_signal(stop_signal)
        out, err = started.communicate(timeout=15)
        watcher.join(5)
    assert not watcher.is_alive()
    assert started.returncode == 0
    assert out == ""
    assert "Traceback" not in err
    assert f"listening at http://127.0.0.1:{port}" in err


def test_a_port_in_use_is_a_one_line_error_and_creates_nothing(refused: Refused, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refused(port=port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid"])
def test_an_unusable_address_is_a_one_line_error(refused: Refused, host: str) -> None:
    message = refused(host=host, port=free_port())
    assert host in message
    assert "TANGENT_HOST" in message


def test_a_folder_in_place_of_the_database_is_a_one_line_error(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "tangent.db").mkdir()
    assert "the database" in refused(port=free_port())


def test_a_file_that_is_not_a_database_is_a_one_line_error(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "tangent.db").write_text("nothing of the kind " * 100, encoding="utf-8")
    assert "the database" in refused(port=free_port())


def test_a_home_that_cannot_be_created_is_a_one_line_error(refused: Refused) -> None:
    assert "/proc/nowhere" in refused(database_url="sqlite:////proc/nowhere/tangent.db", port=free_port())


@pytest.mark.parametrize("url", ["nonsense", "mysql://here/tangent"])
def test_an_unsupported_database_url_is_a_one_line_error(refused: Refused, url: str) -> None:
    assert "postgresql+psycopg://" in refused(database_url=url, port=free_port())


def test_an_unreachable_database_is_a_one_line_error_without_its_password(refused: Refused) -> None:
    output = refused(
        database_url=f"postgresql+psycopg://tangent:hush-hush@127.0.0.1:{free_port()}/tangent",
        port=free_port(),
    )
    assert "the database" in output
    assert "hush-hush" not in output


def test_an_exposed_service_does_not_start_without_a_token(refused: Refused) -> None:
    assert "`tangent token create" in refused(host="0.0.0.0", port=free_port())


def test_an_exposed_service_starts_with_a_token(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'tangent.db'}")
    secret = store.create_token("alice", role="viewer")
    store.close()
    port = free_port()
    with process(tmp_path, TANGENT_HOST="0.0.0.0", TANGENT_PORT=str(port)):
        wait_until_it_answers(port)
        with Client(f"http://127.0.0.1:{port}", secret) as client:
            assert client.studies().total == 0
