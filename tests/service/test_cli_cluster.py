"""`tangent migrate`, `tangent serve` and `tangent worker join`: the separate parts of a cluster."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
SECRET = "tangent_" + 32 * "ab"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a separate machine that has the token of a Ray cluster."""
    (tmp_path / "ray_token").write_text("ray")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("TANGENT_", "RAY_"))
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "TANGENT_HOME": str(tmp_path),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray_token"),
    }


def tangent(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own and wait until it exits."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_migrate_creates_the_database_and_its_first_token_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "first").write_text(f"{SECRET}\n")
    for expected in ("Created the admin token `first`", "up to date.\n"):
        done = tangent(environment, "migrate", "--first-token-file", str(tmp_path / "first"))
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
        assert SECRET not in done.stdout + done.stderr
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db", migrate=False)
    token = store.authenticate(SECRET)
    assert token is not None
    assert (token.name, token.role, len(store.tokens())) == ("first", "admin", 1)
    store.close()


def test_a_revoked_first_token_is_not_created_again(tmp_path: Path, environment: dict[str, str]) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    store.create_first_token("first", secret=SECRET)
    store.revoke_token("first")
    store.close()
    (tmp_path / "first").write_text(SECRET)
    assert (
        tangent(environment, "migrate", "--first-token-file", str(tmp_path / "first")).stdout
        == "The database is up to date.\n"
    )


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("short", "expected a secret of 32 to 256"),
        ("", "0 lines"),
        (None, "cannot read"),
    ],
)
def test_an_invalid_secret_creates_no_token(
    tmp_path: Path, environment: dict[str, str], secret: str | None, why: str
) -> None:
    if secret is not None:
        (tmp_path / "first").write_text(secret)
    done = tangent(environment, "migrate", "--first-token-file", str(tmp_path / "first"))
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert why in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_serve_runs_without_a_dispatcher_and_stops_on_sigterm(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "listening" in process.stderr.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
                assert answer.status == 200
            assert not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert not (tmp_path / "logs" / "dispatcher.log").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["head"], 2, "expected HOST:PORT"),
        (["head:0"], 2, "expected HOST:PORT"),
        (["127.0.0.1:1"], 1, "127.0.0.1:1: Connection refused"),
        (["no-such-host.invalid:6379"], 1, "no-such-host.invalid:6379: "),
    ],
)
def test_a_worker_that_cannot_join_says_why_in_one_line(
    environment: dict[str, str], arguments: list[str], status: int, why: str
) -> None:
    done = tangent(environment, "worker", "join", *arguments)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert why in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_worker_without_the_clusters_token_does_not_connect(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "ray_token").unlink()
    done = tangent(environment, "worker", "join", "127.0.0.1:1")
    assert done.returncode == 1
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr
