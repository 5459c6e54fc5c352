"""The client behind proxies and TLS: what works, and one sentence with cause and fix where it does not."""

import time
from collections.abc import Generator
from pathlib import Path

import pytest
from live_servers import serving
from ports import free_port
from proxy_servers import certificate, http_proxy, tls_front
from typer.testing import CliRunner

from service.app import create_app
from service.cli.app import app as command
from service.client import Client, ServiceUnreachable
from service.proxies import proxy_for
from service.settings import ServiceSettings
from studies.store import Store

__all__: list[str] = []

HOST = "lab.example"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Start from an environment without proxies and certificates."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.fixture
def port(settings: ServiceSettings, store: Store) -> Generator[int]:
    """The port of a service that is also called lab.example."""
    with serving(create_app(settings.model_copy(update={"allowed_hosts": (HOST,)}), store)) as url:
        yield int(url.rsplit(":", 1)[1])


@pytest.fixture(scope="module")
def cert_and_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine and lab.example, and its key."""
    return certificate(tmp_path_factory.mktemp("tls"), names=f"DNS:localhost,DNS:{HOST},IP:127.0.0.1")


def failure(url: str) -> str:
    """Return the message of the client's exception, which must come at once, for reads and changes."""
    messages: list[str] = []
    for ask in ("studies", "submit"):
        began = time.monotonic()
        with pytest.raises(ServiceUnreachable) as raised, Client(url) as client:
            client.studies() if ask == "studies" else client.submit({})
        assert time.monotonic() - began < 4.0
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(command, ["list", "--url", url])
    assert (shown.exit_code, shown.stderr) == (1, f"error: {messages[0]}\n")
    return messages[0]


def test_a_proxy_is_used_for_other_machines(port: int, environment: pytest.MonkeyPatch) -> None:
    with http_proxy(port) as proxy:
        environment.setenv("ALL_PROXY", proxy)
        with Client(f"http://{HOST}") as client:
            assert client.health().status == "up"


@pytest.mark.tls
def test_a_proxy_is_used_for_tls(
    port: int, cert_and_key: tuple[Path, Path], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("SSL_CERT_FILE", str(cert_and_key[0]))
    with tls_front(port, *cert_and_key) as secure, http_proxy(secure) as proxy:
        environment.setenv("https_proxy", proxy.removeprefix("http://"))
        with Client(f"https://{HOST}") as client:
            assert client.health().status == "up"


@pytest.mark.parametrize(("scheme", "variable"), [("http", "HTTP_PROXY"), ("https", "ALL_PROXY")])
def test_a_dead_proxy_is_named_without_its_password(
    environment: pytest.MonkeyPatch, scheme: str, variable: str
) -> None:
    environment.setenv(variable, f"http://alice:secret@127.0.0.1:{free_port()}")
    message = failure(f"{scheme}://{HOST}")
    assert variable in message
    assert f"add {HOST} to NO_PROXY" in message
    assert "secret" not in message
    assert "tangent up" not in message


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(environment: pytest.MonkeyPatch, scheme: str) -> None:
    with http_proxy(0, refusal=b"407 Proxy Authentication Required") as proxy:
        environment.setenv("ALL_PROXY", proxy)
        message = failure(f"{scheme}://{HOST}")
    assert "ALL_PROXY" in message
    assert "407" in message


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "gopher://proxy", "http://[::1", "http://"])
def test_a_variable_that_names_no_usable_proxy_is_named(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("ALL_PROXY", value)
    message = failure(f"http://{HOST}")
    assert message.startswith("ALL_PROXY")
    assert f"add {HOST} to NO_PROXY" in message


@pytest.mark.parametrize(
    ("url", "exempt", "is_used"),
    [
        ("http://lab.example", "", True),
        ("http://lab.example", "::1/128,10.0.0.0/8", True),
        ("http://lab.example", "lab.example", False),
        ("http://lab.example", ".example", False),
        ("http://lab.example:8780", "lab.example:8780", False),
        ("http://mylab.example", "lab.example", True),
        ("http://lab.example", "*", False),
        ("http://10.1.2.3", "::1/128,10.0.0.0/8", False),
        ("http://11.1.2.3", "10.0.0.0/8", True),
        ("http://[2001:db8::5]:80", "2001:db8::/32", False),
        ("http://127.0.0.1:8780", "", False),
        ("http://localhost", "", False),
    ],
)
def test_no_proxy_lists_hosts_and_networks(
    environment: pytest.MonkeyPatch, url: str, exempt: str, is_used: bool
) -> None:
    environment.setenv("http_proxy", "http://proxy:3128")
    environment.setenv("NO_PROXY", exempt)
    assert (proxy_for(url) is not None) == is_used
    Client(url).close()


@pytest.mark.tls
def test_a_private_certificate_is_refused_until_ssl_cert_file_names_it(
    port: int, cert_and_key: tuple[Path, Path], environment: pytest.MonkeyPatch
) -> None:
    with tls_front(port, *cert_and_key) as secure:
        url = f"https://127.0.0.1:{secure}"
        message = failure(url)
        assert "certificate" in message
        assert "SSL_CERT_FILE" in message
        environment.setenv("SSL_CERT_FILE", str(cert_and_key[0]))
        with Client(url) as client:
            assert client.health().status == "up"


@pytest.mark.tls
def test_a_certificate_for_another_name_is_refused(
    port: int, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path, names="DNS:elsewhere.example")
    environment.setenv("SSL_CERT_FILE", str(cert))
    with tls_front(port, cert, key) as secure:
        message = failure(f"https://127.0.0.1:{secure}")
    assert "certificate" in message
    assert "host name" in message


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_variable_that_names_no_certificates_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, variable: str, is_there: bool
) -> None:
    path = tmp_path / "ca.pem"
    if is_there:
        path.write_text("not a certificate", encoding="utf-8")
    environment.setenv(variable, str(path))
    message = failure("https://127.0.0.1:1")
    assert message.startswith(f"{variable}: ")
    assert str(path) in message


def test_https_to_a_plain_port_advises_http(live: str) -> None:
    assert "write http://" in failure(live.replace("http:", "https:"))


def test_http_to_a_port_with_tls_advises_https() -> None:
    with http_proxy(0, refusal=b"400 The plain HTTP request was sent to HTTPS port") as url:
        assert "write https://" in failure(url)


def test_an_answer_that_is_not_http_is_not_asked_for_again() -> None:
    with http_proxy(0, refusal=b"\x15\x03\x01") as url:
        assert "write https://" in failure(url)


def test_an_unknown_host_is_not_reported_as_a_stopped_service() -> None:
    message = failure("http://no-such-host.invalid")
    assert "DNS" in message
    assert "tangent up" not in message


def test_a_redirect_names_the_url_to_use(live: str) -> None:
    with http_proxy(0, refusal=f"301 Moved Permanently\r\nlocation: {live}/x/v1/studies".encode()) as url:
        assert f"{live}/x" in failure(url)
