"""Errors that keep a Ray head or worker from starting, and the output of `python -m workers.node`."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from workers.node import check_token_mode, start_head
from workers.node_process import NodeFailed

__all__: list[str] = []


def test_a_worker_logs_rays_output_as_json_if_configured(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    program = (
        "import sys; from workers import node; "
        "node._command = lambda *options: [sys.executable, '-u', '-c', \"print('token "
        "rejected\\\\n'); raise SystemExit(1)\"]; "
        "import socket; head = socket.create_server(('127.0.0.1', 0)); "
        "sys.argv[1:] = [f'127.0.0.1:{head.getsockname()[1]}']; sys.exit(node.main())"
    )
    environment = {**os.environ, "TANGENT_LOG_FORMAT": "json", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, last = done.stderr.splitlines()
    event = json.loads(first)
    assert (event["event"], event["logger"], event["process"], event["node"]) == (
        "token rejected",
        "tangent.node",
        "worker",
        socket.gethostname(),
    )
    assert (done.returncode, last) == (1, "error: Ray did not start: token rejected")


def test_a_head_starts_only_where_ray_requires_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(NodeFailed, match="RAY_AUTH_MODE=token"):
        check_token_mode()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_token_mode()
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(NodeFailed, match="RAY_AUTH_TOKEN_PATH"):
        start_head(port=6379, node_address="127.0.0.1", cpus=0)


@pytest.mark.parametrize("address", ["localhost", "nowhere.invalid"])
def test_a_head_needs_an_address_that_other_machines_can_reach(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    with pytest.raises(NodeFailed, match="TANGENT_NODE_ADDRESS"):
        start_head(port=6379, node_address=address, cpus=0)
