"""A node is ready when its program says so, is missed when it ends, and ends with the process that started
it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from workers.node import NODE_ENVIRONMENT, WORKER_ENVIRONMENT, Node, NodeFailed, check_token_mode, start_head

__all__: list[str] = []

STARTED = "print('Ray runtime started.', flush=True)"


def node(program: str) -> Node:
    return Node([sys.executable, "-u", "-c", program], address="127.0.0.1:1")


def test_a_node_is_ready_when_ray_says_that_it_started() -> None:
    running = node(f"import time; time.sleep(0.3); {STARTED}; time.sleep(60)")
    running.wait_until_ready()
    assert not running.has_ended
    running.stop()
    assert running.has_ended


def test_a_node_that_does_not_start_says_why() -> None:
    with pytest.raises(NodeFailed, match=r"^Ray did not start: RuntimeError: the port is taken$"):
        node("raise RuntimeError('the port is taken\\nread more at example.org')").wait_until_ready()
    with pytest.raises(NodeFailed, match=r"^Ray did not start: no way in$"):
        node("print('no way in'); raise SystemExit(1)").wait_until_ready()


def test_the_end_of_a_node_is_heard_of_unless_it_was_told_to_end() -> None:
    ended, stopped = threading.Event(), threading.Event()
    short, long = (
        node(f"{STARTED}; import time; time.sleep(0.5)"),
        node(f"{STARTED}; import time; time.sleep(60)"),
    )
    short.follow(ended.set)
    long.follow(stopped.set)
    assert ended.wait(20)
    short.stop()
    long.stop()
    assert not stopped.wait(1.5)


def test_a_node_that_ignores_the_request_is_ended_by_force_with_what_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = "
        "subprocess.Popen(['sleep', '60']); "
    )
    program += f"open({str(pid_file)!r}, 'w').write(str(child.pid)); {STARTED}; time.sleep(60)"
    running = node(program)
    running.wait_until_ready()
    running.stop()
    child = int(pid_file.read_text())
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def test_a_node_whose_raylet_has_ended_counts_as_ended(tmp_path: Path) -> None:
    fake = tmp_path / "raylet"
    fake.symlink_to(sys.executable)
    program = (
        f"import subprocess, time; child = subprocess.Popen([{str(fake)!r}, '-c', 'import time; "
        f"time.sleep(1.5)']); {STARTED}; time.sleep(60)"
    )
    running = node(program)
    running.wait_until_ready()
    assert not running.has_ended
    deadline = time.monotonic() + 20
    while not running.has_ended and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.has_ended
    running.stop()


def test_what_trials_inherit_holds_nothing_of_this_services(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tangent.node")
    monkeypatch.setenv("TANGENT_DATABASE_URL", "postgresql+psycopg://tangent:geheim@db/tangent")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    running = node(
        "import os; print(sorted(name for name in os.environ if "
        "name.startswith('TANGENT_')), os.environ['OMP_NUM_THREADS'], "
        f"os.environ['RAY_health_check_period_ms']); {STARTED}; import time; time.sleep(60)"
    )
    running.wait_until_ready()
    running.stop()
    assert "['TANGENT_PARENT_PID'] 3 1000" in caplog.text


def test_a_worker_that_is_told_to_writes_all_that_its_ray_says_as_json(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    program = (
        "import sys; from workers import node; "
        "node._command = lambda options: [sys.executable, '-u', '-c', \"print('no way "
        "in\\\\n'); raise SystemExit(1)\"]; "
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
    said = json.loads(first)
    assert (said["event"], said["logger"], said["process"], said["node"]) == (
        "no way in",
        "tangent.node",
        "worker",
        socket.gethostname(),
    )
    assert (done.returncode, last) == (1, "error: Ray did not start: no way in")


def test_rays_advice_to_those_who_start_it_by_hand_is_not_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tangent.node")
    at = "2026-11-21 21:41:35,987\\t"
    said = (
        f"{at}INFO scripts.py:1143 --   ray stop\\nwhat went wrong\\n{at}SUCC "
        "scripts.py:1085 -- Ray runtime started."
    )
    running = node(f"print('{said}', flush=True); import time; time.sleep(60)")
    running.wait_until_ready()
    running.stop()
    assert "Ray runtime started" in caplog.text
    assert "what went wrong" in caplog.text
    assert "ray stop" not in caplog.text


def test_every_node_has_a_workers_settings() -> None:
    assert WORKER_ENVIRONMENT.items() <= NODE_ENVIRONMENT.items()
    assert NODE_ENVIRONMENT["RAY_AUTH_MODE"] == "token"


def test_no_head_is_started_that_obeys_anyone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(NodeFailed, match="set RAY_AUTH_MODE=token"):
        check_token_mode()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_token_mode()
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(NodeFailed, match="none cannot be read"):
        start_head(port=6379, node_address="127.0.0.1", cpus=0)


def test_a_head_that_only_this_machine_could_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    with pytest.raises(
        NodeFailed, match=r"no other machine reaches a Ray head at 127\.0\.0\.1; set TANGENT_NODE_ADDRESS"
    ):
        start_head(port=6379, node_address="localhost", cpus=0)


def test_a_name_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    with pytest.raises(NodeFailed, match=r"'nowhere\.invalid' is no address of this machine"):
        start_head(port=6379, node_address="nowhere.invalid", cpus=0)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
