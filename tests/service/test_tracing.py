"""Traces: one per request, with its SQL statements, sent to the configured collector."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_port

from service.app import create_app
from service.settings import ServiceSettings, SettingsInvalid
from service.tracing import start_tracing
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Body = dict[str, Any]
Play = Callable[..., str]
ServeApp = Callable[..., AbstractContextManager[str]]


class Collector:
    """A collector that receives spans by OTLP over HTTP and stores them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        assert path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.resources.append(
                {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            )
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def exporter() -> None:
    """The extra `otel`, which the extra `dev` includes."""
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel: pip install -e '.[otel]'"
    )


@pytest.fixture
def collector(exporter: None) -> Generator[Collector]:
    del exporter
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join(5)


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


def test_a_request_is_one_trace_with_its_statements(
    collector: Collector, settings: ServiceSettings, store: Store, play: Play, body: Body, serve_app: ServeApp
) -> None:
    study = play(body)
    traced = settings.model_copy(update={"otlp_endpoint": collector.url})
    with serve_app(create_app(traced, store)) as url, httpx.Client(base_url=url) as client:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert client.get(f"/v1/studies/{study}", headers={"traceparent": parent}).status_code == 200
        for quiet in ("/healthz", "/readyz", "/metrics", "/static/none.css"):
            client.get(quiet)
    (request,) = [span for span in collector.spans if span.name == "GET /v1/studies/{study_id}"]
    assert attributes(request)["http.response.status_code"] == 200
    assert request.trace_id.hex() == parent.split("-")[1]
    statements = [span for span in collector.spans if "db.query.text" in attributes(span)]
    within = [span for span in statements if span.trace_id == request.trace_id]
    assert len(within) >= 2
    assert within == statements
    assert {span.parent_span_id for span in within} == {request.span_id}
    assert not [
        span.name
        for span in collector.spans
        if any(name in span.name for name in ("healthz", "readyz", "metrics", "static"))
    ]
    assert {resource["service.name"] for resource in collector.resources} == {"tangent"}


def test_no_value_of_a_statement_is_sent(
    collector: Collector, settings: ServiceSettings, store: Store, serve_app: ServeApp
) -> None:
    secret = store.create_token("alice", role="viewer")
    traced = settings.model_copy(update={"otlp_endpoint": collector.url})
    with serve_app(create_app(traced, store)) as url:
        httpx.get(f"{url}/v1/studies", headers={"authorization": f"Bearer {secret}"}).raise_for_status()
    assert collector.spans
    assert not any(secret in str(span) or "alice" in str(span) for span in collector.spans)


@pytest.mark.usefixtures("exporter")
def test_an_unreachable_collector_delays_no_request(
    settings: ServiceSettings, store: Store, serve_app: ServeApp
) -> None:
    traced = settings.model_copy(update={"otlp_endpoint": "http://127.0.0.1:9"})
    with serve_app(create_app(traced, store)) as url:
        began = time.monotonic()
        assert httpx.get(f"{url}/v1/studies").status_code == 200
        assert time.monotonic() - began < 5
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_without_a_collector_only_the_opentelemetry_api_is_imported(
    settings: ServiceSettings,
) -> None:
    assert start_tracing(settings) is None
    code = (
        "import sys, service.app; print(*[name for name in sys.modules if "
        "name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_a_missing_extra_is_a_one_line_error_with_the_remedy(tmp_path: Path) -> None:
    # The extra is installed here, so its import is made to fail.
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from service.serve import serve; from "
        f"service.settings import ServiceSettings; sys.exit(serve(ServiceSettings.load(port={free_port()})))"
    )
    given = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TANGENT_HOME": str(tmp_path),
        ENDPOINT: "http://collector:4318",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"tangent: {ENDPOINT} is set, but OpenTelemetry is not installed (")
    assert "pip install 'tangent-studies[otel]'" in done.stderr


def test_the_collector_comes_from_opentelemetrys_own_variable(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.otlp_endpoint is None
    monkeypatch.setenv(ENDPOINT, "http://collector:4318/")
    assert ServiceSettings.load().otlp_endpoint == "http://collector:4318"
    monkeypatch.setenv(ENDPOINT, "collector:4317")
    with pytest.raises(SettingsInvalid, match=rf"^{ENDPOINT}: expected a URL"):
        ServiceSettings.load()
