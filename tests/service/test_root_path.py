"""The service below a path of its host, behind the documentation's nginx, which may also remove the path."""

import re
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from live_servers import serving
from ports import free_port
from proxy_servers import certificate, nginx_binary

from service.app import create_app
from service.client import Client
from service.event_streams import StreamSettings
from service.settings import ServiceSettings, SettingsInvalid
from studies.states import StudyMove
from studies.store import Store

pytestmark = [pytest.mark.nginx, pytest.mark.tls]

__all__: list[str] = []

ROOT = "/tangent"
DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"
LINK = re.compile(r'\s(?:href|src|action|hx-get|data-icon)="([^"#][^"]*)"')
# Not "text/html" alone, for which the events of a study are an endless stream.
PAGE = {"accept": "text/html, application/json"}
STRIPPING = "a proxy that removes the path"
BOTH = pytest.mark.parametrize("url", ["as documented", STRIPPING], indirect=True)

Play = Callable[..., str]
Body = dict[str, Any]


@pytest.fixture
def app(settings: ServiceSettings, store: Store, pace: StreamSettings) -> FastAPI:
    """A service below the root path."""
    given = settings.model_copy(update={"root_path": ROOT, "rate_per_s": 0})
    return create_app(given, store, stream_settings=pace)


@pytest.fixture
def url(
    request: pytest.FixtureRequest, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[str]:
    """The URL of the service behind nginx."""
    (example,) = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    port = free_port()
    with serving(app) as inner:
        config = (
            example.replace("listen 443", f"listen 127.0.0.1:{port}")
            .replace("/etc/ssl/lab.example.pem", str(cert))
            .replace("/etc/ssl/lab.example.key", str(key))
            .replace(
                "http://127.0.0.1:8780;",
                f"{inner}/;" if getattr(request, "param", None) == STRIPPING else f"{inner};",
            )
        )
        folders = " ".join(
            f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {folders}\n{config}}}",
            encoding="utf-8",
        )
        nginx = subprocess.Popen(
            [str(nginx_binary()), "-e", "stderr", "-c", tmp_path / "nginx.conf", "-p", tmp_path]
        )
        try:
            yield _answering(f"https://localhost:{port}{ROOT}")
        finally:
            nginx.terminate()
            nginx.wait(10)


def _answering(url: str) -> str:
    deadline = time.monotonic() + 10
    with Client(url) as client:
        while True:
            try:
                client.health()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return url


@pytest.fixture
def browser(url: str) -> Generator[httpx.Client]:
    """A client that keeps cookies, as a browser does; it follows no redirects."""
    with httpx.Client(base_url=url, verify=httpx.create_ssl_context(), headers=PAGE, timeout=60) as http:
        yield http


def log_in(browser: httpx.Client, store: Store, url: str) -> httpx.Response:
    """Log in through the form of the page that asks for a token."""
    secret = store.create_token("alice", role="submitter")
    page = browser.get("/workloads")
    assert page.status_code == 401
    (action,) = re.findall(r'action="([^"]+/login)"', page.text)
    (to,) = re.findall(r'name="next" value="([^"]+)"', page.text)
    return browser.post(
        urljoin(url, action), data={"token": secret, "next": to}, headers={"origin": url.removesuffix(ROOT)}
    )


@BOTH
def test_a_browser_logs_in_and_the_cookie_is_sent_only_below_the_path(
    browser: httpx.Client, store: Store, url: str
) -> None:
    answer = log_in(browser, store, url)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{ROOT}/workloads")
    (cookie,) = browser.cookies.jar
    assert (cookie.name, cookie.path, cookie.secure) == ("__Secure-tangent", ROOT, True)
    assert browser.get("/workloads").status_code == 200
    assert browser.post("/logout").headers["location"] == f"{ROOT}/login"
    assert not list(browser.cookies.jar)


def test_every_link_of_every_page_stays_below_the_path(
    browser: httpx.Client, store: Store, url: str, play: Play, body: Body
) -> None:
    study = play(body | {"suite": "small"}, confirm=3)
    play(body | {"suite": "small", "seed": 1}, close=False)
    log_in(browser, store, url)
    origin = url.removesuffix(ROOT)
    pending, seen, outside = [f"{url}/", f"{url}/docs", f"{url}/studies/{study}"], set[str](), set[str]()
    while pending:
        page = pending.pop()
        # Pages that differ only in their query or in the number of a trial have the same links.
        path = urlsplit(page).path
        kind = re.sub(r"\.(adamp|adamw)\.c?\d+", ".ARM.N", path)
        if kind in seen:
            continue
        seen.add(kind)
        answer = browser.get(page)
        # Forms have addresses that expect another method or a query, and the audit log is for admins.
        assert answer.status_code in {200, 204, 403, 405, 422}, (page, answer.status_code)
        if answer.headers.get("content-type", "").startswith("text/html") and "/report" not in page:
            links = {urljoin(page, unescape(link)) for link in LINK.findall(answer.text)}
            ours = {link for link in links if link.startswith(f"{origin}/")}
            outside |= {link for link in ours if not link.startswith(f"{url}/")}
            pending += sorted(ours)
    assert outside == set()
    paths = {path.removeprefix(ROOT) for path in seen}
    assert {
        "/",
        "/docs",
        "/suites/small",
        f"/studies/{study}",
        f"/trials/{study}.ARM.N",
        "/account",
    } <= paths
    assert any(path.startswith("/static/style.") for path in paths)
    assert any(path.endswith("/live") for path in paths)


def test_forms_lead_to_pages_below_the_path(
    browser: httpx.Client, store: Store, url: str, body: Body
) -> None:
    log_in(browser, store, url)
    page = browser.get("/new").text
    action = next(found for found in re.findall(r'action="([^"]+)"', page) if found.endswith("/new"))
    made = browser.post(
        urljoin(url, action), data={"spec": httpx.Request("POST", url, json=body).content.decode()}
    )
    assert made.status_code == 303
    study_page = browser.get(urljoin(url, made.headers["location"]))
    (pause,) = (
        found for found in re.findall(r'action="([^"]+)"', study_page.text) if found.endswith("/pause")
    )
    paused = browser.post(urljoin(url, pause))
    assert paused.headers["location"] == urlsplit(str(study_page.url)).path
    assert store.studies().items[0].state == "paused"


@BOTH
def test_the_client_submits_watches_and_downloads_below_the_path(
    url: str, store: Store, play: Play, body: Body, tmp_path: Path
) -> None:
    with Client(url) as client:
        study = client.submit(body).id
        stopping = threading.Timer(0.3, lambda: store.move(study, StudyMove.CANCEL))
        stopping.start()
        began = time.monotonic()
        first, *_ = seen = [(event, time.monotonic() - began) for event in client.watch(study)]
        stopping.join()
        # Not buffered until the end of the stream.
        assert first[1] < 0.3 < seen[-1][1]
        assert [event for event, _ in seen] == list(store.events(study))
        done = play(body)
        assert len(list(client.every_trial(done))) == 6
        with (tmp_path / "bundle.zip").open("wb") as file:
            client.bundle(done, file)


@BOTH
def test_the_api_names_paths_that_exist_below_the_root(url: str, body: Body) -> None:
    with httpx.Client(verify=httpx.create_ssl_context()) as http:
        made = http.post(f"{url}/v1/studies", json=body)
        assert http.get(urljoin(url, made.headers["location"])).json()["id"] == made.json()["id"]
        assert http.get(f"{url}/openapi.json").json()["servers"] == [{"url": ROOT}]
        index = http.get(f"{url}/v1").json()
        for name in ("studies", "problems", "openapi", "docs", "health", "optimizers"):
            assert http.get(urljoin(url, index[name])).status_code == 200, name
        problem = http.get(f"{url}/v1/studies/zzzzzzzz").json()
        kind = http.get(urljoin(url, problem["type"]))
        assert (kind.status_code, kind.json()["type"]) == (200, problem["type"])
        assert f"curl {url}/v1/studies" not in http.get(f"{url}/", headers=PAGE).text


@pytest.mark.parametrize("given", ["tangent", "//x", "/a b", "/a?b", "/a/../b", "/ü", "https://x/y"])
def test_a_root_path_that_is_no_path_is_refused(given: str, settings: ServiceSettings) -> None:
    with pytest.raises(SettingsInvalid, match="--root-path: expected a path"):
        ServiceSettings.load(home=settings.home, root_path=given)


@pytest.mark.parametrize(("given", "path"), [("/tangent/", "/tangent"), ("/", ""), ("/a/b", "/a/b")])
def test_the_url_for_clients_includes_the_root_path(given: str, path: str, settings: ServiceSettings) -> None:
    loaded = ServiceSettings.load(home=settings.home, root_path=given)
    assert (loaded.root_path, loaded.url) == (path, f"http://127.0.0.1:8780{path}")
