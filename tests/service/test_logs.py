"""Logs: one line per entry, as text or JSON, with its ids. No caller can forge a line."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_servers import process, wait_until_it_answers
from ports import free_port

from service.cli.dispatcher_supervisor import DispatcherSupervisor
from service.request_log import REQUEST_ID, route_of
from service.settings import ServiceSettings
from studies.logs import configure_logging, message_of
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
Body = dict[str, Any]
Played = Callable[..., str]

# A service in its own process, because pytest configures the logging of this one.
SERVED = """
import anyio, httpx, logging, os, sys
from service.app import create_app
from service.settings import ServiceSettings
from studies.logs import configure_logging
from studies.store import Store

settings = ServiceSettings.load(home=os.environ["TANGENT_HOME"])
configure_logging(settings.log_format, level=settings.log_level, process="service")
store = Store.open(settings.database_url, migrate=False)
app = create_app(settings, store)

@app.get("/broken/{what}")
def broken(what: str):
    password = "hush-hush"
    logging.getLogger("tangent.service").info("about to fail")
    raise ValueError("this cannot be")

async def main():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8780") as client:
        for line in sys.argv[1:]:
            method, path, *headers = line.split(" ")
            answer = await client.request(
                method, path, headers=dict(header.split("=", 1) for header in headers)
            )
            print(answer.status_code, answer.headers["x-request-id"])

anyio.run(main)
store.close()
"""


def run(code: str, *arguments: str, **environment: str) -> tuple[list[str], list[str]]:
    """Return the lines that a program writes to standard output and to standard error."""
    given = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=given,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def served(settings: Any, store: Any) -> Callable[..., tuple[list[list[str]], list[str]]]:
    """`served("GET /path Header=value", …, **environment)`.

    Status and request id of each answer, and the lines of the log.
    """
    del store

    def ask(*requests: str, **environment: str) -> tuple[list[list[str]], list[str]]:
        out, err = run(SERVED, *requests, TANGENT_HOME=str(settings.home), **environment)
        return [line.split() for line in out], err

    return ask


Served = Callable[..., tuple[list[list[str]], list[str]]]


def as_json(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_each_request_is_one_json_line(served: Served, play: Played, body: Body) -> None:
    study = play(body)
    answers, log = served(f"GET /v1/studies/{study}?secret=hush", "GET /nothing", TANGENT_LOG_FORMAT="json")
    first, second = as_json(log)
    assert [first[name] for name in ("level", "logger", "process", "method", "route", "status")] == [
        "info",
        "tangent.access",
        "service",
        "GET",
        "/v1/studies/{study_id}",
        200,
    ]
    assert (first["path"], first["study_id"]) == (f"/v1/studies/{study}", study)
    assert first["duration_ms"] > 0
    assert first["timestamp"].endswith("Z")
    assert [first["request_id"], second["request_id"]] == [answers[0][1], answers[1][1]]
    assert (second["route"], second["status"]) == ("unmatched", 404)
    assert "study_id" not in second
    assert not any("hush" in line for line in log)


def test_a_line_names_the_token_of_refused_requests_too_and_shows_no_secret(
    served: Served, store: Store
) -> None:
    secret = store.log_in(
        store.create_token("vera", role="viewer"), lifetime=timedelta(hours=1), address=None
    )
    assert secret is not None
    asked = [f"{what} Cookie=tangent={secret}" for what in ("GET /v1", "POST /v1/studies", "GET /v1/audit")]
    answers, log = served(*asked, "GET /v1", TANGENT_LOG_FORMAT="json")
    assert [status for status, _ in answers] == ["200", "403", "403", "401"]
    lines = as_json(log)
    assert [(line["route"], line.get("caller")) for line in lines] == [
        ("/v1", "vera"),
        ("/v1/studies", "vera"),
        ("/v1/audit", "vera"),
        ("/v1", None),
    ]
    assert not any(secret in line for line in log)


def test_lines_about_a_trial_name_it_and_its_study(served: Served, play: Played, body: Body) -> None:
    study = play(body)
    _, log = served(
        f"GET /v1/trials/{study}.adamp.0",
        f"GET /v1/trials/{study}.adamp.0/measurements",
        TANGENT_LOG_FORMAT="json",
    )
    assert [(line["study_id"], line["trial_id"]) for line in as_json(log)] == [
        (study, f"{study}.adamp.0")
    ] * 2


def test_a_valid_request_id_is_kept(served: Served) -> None:
    answers, log = served(
        "GET /v1 X-Request-ID=from-a-proxy.7",
        "GET /v1 X-Request-ID=" + "a" * 65,
        'GET /v1 X-Request-ID=x","level":"info',
        TANGENT_LOG_FORMAT="json",
    )
    ids = [request_id for _, request_id in answers]
    assert ids[0] == "from-a-proxy.7"
    assert [len(request_id) for request_id in ids[1:]] == [32, 32]
    assert [line["request_id"] for line in as_json(log)] == ids


def test_an_internal_error_is_logged_with_its_request_and_cause_but_no_values(served: Served) -> None:
    ((status, request_id),), log = served("GET /broken/thing", TANGENT_LOG_FORMAT="json")
    lines = as_json(log)
    assert status == "500"
    assert [line["event"].split(" (")[0] for line in lines] == [
        "about to fail",
        "GET /broken/thing failed",
        "GET /broken/thing 500",
    ]
    assert {line["request_id"] for line in lines} == {request_id}
    assert [line["level"] for line in lines] == ["info", "error", "warning"]
    assert "ValueError: this cannot be" in lines[1]["exception"]
    assert not any("hush-hush" in line and "password =" not in line for line in log)


def test_console_logs_have_one_line_per_entry_and_tracebacks_below(served: Served) -> None:
    _, log = served("GET /v1", "GET /broken/thing")
    assert "GET /v1 200" in log[0]
    assert "[info]" in log[0]
    assert "Traceback (most recent call last):" in log
    assert any(line == "ValueError: this cannot be" for line in log)
    assert not any(line.startswith("{") for line in log)


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_caller_can_inject_a_log_line(served: Served, form: str) -> None:
    _, log = served(
        "GET /x%0a2026-01-01T00:00:00Z%20[info]%20all%20is%20well%1b[2J",
        "GET /broken/%0aforged%20line",
        TANGENT_LOG_FORMAT=form,
    )
    assert not any(line.startswith(("2026-01-01", "forged")) for line in log)
    assert not any("\x1b" in line for line in log)


def test_the_next_request_of_a_connection_does_not_inherit_its_study(
    settings: ServiceSettings, store: Store, tmp_path: Path, body: Body
) -> None:
    study, port = store.submit(parse_spec(body)).id, free_port()
    with process(
        tmp_path,
        TANGENT_DATABASE_URL=settings.database_url,
        TANGENT_PORT=str(port),
        TANGENT_LOG_FORMAT="json",
    ) as service:
        wait_until_it_answers(port)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
            head = f"Host: 127.0.0.1:{port}\r\n"
            one.sendall(
                (
                    f"GET /v1/studies/{study} HTTP/1.1\r\n{head}\r\nGET /v1/optimizers "
                    f"HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
                ).encode()
            )
            while one.recv(65536):
                pass
        service.terminate()
        log = service.communicate(timeout=30)[1].splitlines()
    by_route = {line["route"]: line for line in as_json([line for line in log if "tangent.access" in line])}
    assert by_route["/v1/studies/{study_id}"]["study_id"] == study
    assert "study_id" not in by_route["/v1/optimizers"]


def test_probes_are_logged_only_at_debug(served: Served, store: Store) -> None:
    asked = ("GET /healthz", "GET /readyz", "GET /metrics", "GET /static/none.css")
    assert served(*asked)[1] == []
    # 503 of /readyz is a normal response.
    store.sign_off("here")
    assert served("GET /readyz")[1] == []
    lines = as_json(served(*asked, TANGENT_LOG_FORMAT="json", TANGENT_LOG_LEVEL="debug")[1])
    assert [line["route"] for line in lines if line["logger"] == "tangent.access"] == [
        "/healthz",
        "/readyz",
        "/metrics",
        "/static/*",
    ]


def test_a_higher_level_drops_requests_and_keeps_errors(served: Served) -> None:
    _, log = served("GET /v1", "GET /broken/thing", TANGENT_LOG_FORMAT="json", TANGENT_LOG_LEVEL="warning")
    assert [line["level"] for line in as_json(log)] == ["error", "warning"]


def test_a_process_can_add_its_study_to_all_later_lines() -> None:
    code = """
import logging, threading
from studies.logs import configure_logging
log = logging.getLogger("tangent.run")
configure_logging("json", process="run")
log.info("ready")
configure_logging("json", process="run", study_id="k3f9x2db", attempt=2)
thread = threading.Thread(
    target=lambda: log.warning("trials come back: %s", "lost", extra={"trial_ids": ["k3f9x2db.adamp.0"]})
)
thread.start(); thread.join()
log.info("of another", extra={"study_id": "another"})
"""
    first, second, third = as_json(run(code)[1])
    assert (first["process"], first["event"]) == ("run", "ready")
    assert "study_id" not in first
    assert (second["study_id"], second["attempt"], second["trial_ids"]) == (
        "k3f9x2db",
        2,
        ["k3f9x2db.adamp.0"],
    )
    assert second["event"] == "trials come back: lost"
    assert third["study_id"] == "another"


def test_warnings_of_libraries_have_the_same_format() -> None:
    code = """
import logging
from studies.logs import configure_logging
configure_logging("json")
logging.getLogger("uvicorn.error").info("started")
logging.getLogger("uvicorn.error").warning("odd: %s", {"a": 1}, extra={"color_message": "\\x1b[31modd"})
"""
    (line,) = as_json(run(code)[1])
    assert (line["event"], line["logger"], line["level"]) == ("odd: {'a': 1}", "uvicorn.error", "warning")
    assert "color_message" not in line


def test_a_line_is_valid_json_whatever_its_fields_contain() -> None:
    code = r"""
import logging, pathlib, datetime
from studies.logs import configure_logging
configure_logging("json")
log = logging.getLogger("tangent.service")
log.info("odd", extra={"a": pathlib.Path("/x"), "b": datetime.datetime(2026, 1, 1), "c": float("nan"),
    "d": "\udcff\x00\u2028"})
"""
    (line,) = as_json(run(code)[1])
    assert (line["a"], line["b"], line["d"]) == ("/x", "2026-01-01 00:00:00", "\udcff\x00\u2028")


def test_existing_log_handlers_are_kept() -> None:
    root, ours = logging.getLogger(), logging.getLogger("tangent")
    before, level = list(root.handlers), ours.level
    try:
        configure_logging("json")
        assert root.handlers == before
        assert ours.level == logging.INFO
    finally:
        ours.setLevel(level)


@pytest.mark.parametrize(
    ("line", "tells"),
    [
        ("ValueError: no such thing", "ValueError: no such thing"),
        ('{"event": "no Ray answers", "level": "warning"}', "no Ray answers"),
        (
            '{"event": "it ends", "exception": "Traceback\\n  here\\nValueError: no such thing"}',
            "ValueError: no such thing",
        ),
        ('{"no": "line of ours"}', '{"no": "line of ours"}'),
        ("7", "7"),
        ("", ""),
    ],
)
def test_the_last_log_line_is_shown_as_text(line: str, tells: str) -> None:
    assert message_of(line) == tells


def test_every_response_has_its_request_id(http: httpx.Client) -> None:
    ids = {
        http.get(path).headers[REQUEST_ID]
        for path in ("/", "/v1", "/nothing", "/healthz", "/static/none.css")
    }
    assert len(ids) == 5
    assert http.get("/v1", headers={"host": "example.com"}).headers[REQUEST_ID]


def test_a_route_is_logged_as_its_template() -> None:
    assert route_of({"type": "http", "path": "/nothing"}) == "unmatched"
    assert (
        route_of({"type": "http", "path": "/openapi.json", "endpoint": print, "path_params": {}})
        == "/openapi.json"
    )
    assert (
        route_of({"type": "http", "path": "/static/a.css", "root_path": "/static", "app_root_path": ""})
        == "/static/*"
    )


def test_a_dispatchers_json_log_is_read_and_quoted_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
import json, sys
print(json.dumps({"event": "ready on here:7, Ray at local", "level": "info"}), flush=True)
print(json.dumps({"event": "the local Ray has died", "level": "error"}), flush=True)
sys.exit(1)
"""
    (tmp_path / "workers.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    dispatcher = DispatcherSupervisor({}, log=tmp_path / "dispatcher.log", warn=print)
    dispatcher.start()
    assert dispatcher.wait_until_ready(timeout_s=20)
    dispatcher.stop(timeout_s=5)
    assert dispatcher.last_line() == "the local Ray has died"


def test_printed_lines_become_log_lines_without_colours() -> None:
    code = r"""
import logging, sys
from studies.logs import LogStream, configure_logging
configure_logging("json")
sys.stdout = LogStream(logging.getLogger("tangent.ray"))
print("\x1b[33m(raylet)\x1b[0m a node died\n\nof old", end="")
print(" age", flush=True)
"""
    first, second = as_json(run(code)[1])
    assert (first["event"], first["logger"], first["level"]) == (
        "(raylet) a node died",
        "tangent.ray",
        "warning",
    )
    assert second["event"] == "of old age"
