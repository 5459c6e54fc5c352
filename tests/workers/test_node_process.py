"""The process of a Ray node: readiness, its end, and the processes that end with it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dispatcher_process import until
from processes import below, is_alive

from workers.node_process import NODE_ENVIRONMENT, WORKER_ENVIRONMENT, NodeFailed, NodeProcess
from workers.parent_watchdog import LEAVE_SIGNAL

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
STARTED = "print('Ray runtime started.', flush=True)"
# A node that starts a training process from a thread that keeps running, as a raylet sometimes does. The
# training process writes a file when it receives the signal to leave.
WITH_A_TRAINABLE = """
import subprocess, sys, threading, time
def start():
    subprocess.Popen([sys.executable, "-c", '''
import os, pathlib, signal, sys, time
def leave(*_):
    pathlib.Path(sys.argv[1]).write_text("left")
    os._exit(0)
signal.signal(signal.SIGUSR1, leave)
pathlib.Path(sys.argv[1]).write_text("training")
time.sleep(60)
''', sys.argv[1], "ray::ResourceTrainable"])
    time.sleep(60)
threading.Thread(target=start, daemon=True).start()
print("Ray runtime started.", flush=True)
time.sleep(60)
"""
# Starts a node in its own session. The node starts another process and prints its id.
WITH_A_NODE = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", '''
import os, subprocess, time
from workers.parent_watchdog import exit_with_parent
exit_with_parent(os.getppid(), with_group=True)
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
'''], start_new_session=True).wait()
"""

# A node with a training process that starts a daemon: it forks twice, leaves the session and ignores SIGTERM.
# Both write their ids to a file.
WITH_A_DAEMON = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", '''
import os, signal, sys, time
def write():
    with open(sys.argv[1], "a") as file:
        file.write(str(os.getpid()) + chr(10))
write()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write()
        time.sleep(60)
    os._exit(0)
time.sleep(60)
''', sys.argv[1]])
"""
# The owner of such a node, which stops it once it has ended.
OWNER = f"""
import sys, threading
from studies.process_tree import adopt_orphans
from workers.node_process import NodeProcess
adopt_orphans()
ended = threading.Event()
program = {f"{WITH_A_DAEMON}{STARTED}; time.sleep(60)"!r}
node = NodeProcess([sys.executable, "-u", "-c", program, sys.argv[1]], address="127.0.0.1:1")
node.call_when_ended(ended.set)
ended.wait()
node.stop()
"""


def node(program: str, *arguments: str) -> NodeProcess:
    return NodeProcess([sys.executable, "-u", "-c", program, *arguments], address="127.0.0.1:1")


def test_a_node_is_ready_once_ray_reports_its_start() -> None:
    running = node(f"import time; time.sleep(0.3); {STARTED}; time.sleep(60)")
    running.wait_until_ready()
    assert not running.has_ended
    running.stop()
    assert running.has_ended


def test_the_first_error_explains_why_a_node_did_not_start() -> None:
    with pytest.raises(NodeFailed, match=r"RuntimeError: the port is taken$"):
        node("raise RuntimeError('the port is taken\\nread more at example.org')").wait_until_ready()
    with pytest.raises(NodeFailed, match=r"token rejected$"):
        node("print('token rejected'); raise SystemExit(1)").wait_until_ready()


def test_on_end_is_called_for_a_node_that_ends_by_itself_but_not_for_one_that_is_stopped() -> None:
    ended, stopped = threading.Event(), threading.Event()
    short, long = (
        node(f"{STARTED}; import time; time.sleep(0.5)"),
        node(f"{STARTED}; import time; time.sleep(60)"),
    )
    short.call_when_ended(ended.set)
    long.call_when_ended(stopped.set)
    assert ended.wait(20)
    short.stop()
    long.stop()
    assert not stopped.wait(1.5)


def test_a_node_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = "
        "subprocess.Popen(['sleep', '60']); "
    )
    program += f"open({str(pid_file)!r}, 'w').write(str(child.pid)); {STARTED}; time.sleep(60)"
    running = node(program)
    running.wait_until_ready()
    running.stop()
    until(lambda: not is_alive(int(pid_file.read_text())), what="the child to end", timeout_s=10.0)


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
    until(lambda: running.has_ended, what="the node to count as ended", timeout_s=20.0)
    running.stop()


def test_a_node_that_stops_asks_training_processes_to_leave_even_those_started_by_a_thread(
    tmp_path: Path,
) -> None:
    assert LEAVE_SIGNAL == signal.SIGUSR1
    file = tmp_path / "state"
    # The main thread ignores SIGTERM, as `ray start` outlives the processes that train on it.
    running = node(
        f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WITH_A_TRAINABLE}", str(file)
    )
    running.wait_until_ready()
    until(lambda: file.exists() and file.read_text() == "training", what="the training process")
    running.stop()
    assert file.read_text() == "left"


def test_a_node_whose_starter_is_killed_ends_with_all_its_processes() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_NODE], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        time.sleep(0.2)
        process.kill()
        process.wait()
        until(lambda: not is_alive(orphan), what="the node's child to end", timeout_s=10.0)


def test_trials_inherit_none_of_the_services_variables(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tangent.node")
    monkeypatch.setenv("TANGENT_DATABASE_URL", "postgresql+psycopg://tangent:secret@db/tangent")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    running = node(
        "import os; print(sorted(name for name in os.environ if "
        "name.startswith('TANGENT_')), os.environ['OMP_NUM_THREADS'], "
        f"os.environ['RAY_health_check_period_ms']); {STARTED}; import time; time.sleep(60)"
    )
    running.wait_until_ready()
    running.stop()
    assert "['TANGENT_PARENT_PID', 'TANGENT_RAY_FOLDER'] 3 1000" in caplog.text


def test_rays_advice_for_manual_use_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "tangent.node")
    at = "2026-11-21 21:41:35,987\\t"
    output = (
        f"{at}INFO scripts.py:1143 --   ray stop\\nwhat went wrong\\n{at}SUCC "
        "scripts.py:1085 -- Ray runtime started."
    )
    running = node(f"print('{output}', flush=True); import time; time.sleep(60)")
    running.wait_until_ready()
    running.stop()
    assert "Ray runtime started" in caplog.text
    assert "what went wrong" in caplog.text
    assert "ray stop" not in caplog.text


def test_a_cluster_node_has_all_variables_of_a_worker_and_requires_a_token() -> None:
    assert WORKER_ENVIRONMENT.items() <= NODE_ENVIRONMENT.items()
    assert NODE_ENVIRONMENT["RAY_AUTH_MODE"] == "token"


@pytest.fixture
def with_a_daemon(tmp_path: Path) -> Iterator[Callable[[], tuple[NodeProcess, list[int]]]]:
    """Starts a node whose training process has started a daemon; returns it and both ids."""
    started: list[NodeProcess] = []

    def start() -> tuple[NodeProcess, list[int]]:
        file = tmp_path / "pids"
        started.append(node(f"{WITH_A_DAEMON}{STARTED}; time.sleep(60)", str(file)))
        started[-1].wait_until_ready()
        until(lambda: file.exists() and file.read_text().count("\n") == 2, what="the daemon to start")
        return started[-1], [int(pid) for pid in file.read_text().split()]

    yield start
    for each in started:
        each.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_ends_with_the_training_process_that_started_it(
    with_a_daemon: Callable[[], tuple[NodeProcess, list[int]]], number: signal.Signals
) -> None:
    running, (trainable, daemon) = with_a_daemon()
    assert is_alive(daemon)
    os.kill(trainable, number)
    until(lambda: not is_alive(daemon), what="the daemon to end", timeout_s=10.0)
    assert not running.has_ended


def test_a_daemon_ends_with_its_node(with_a_daemon: Callable[[], tuple[NodeProcess, list[int]]]) -> None:
    running, (_, daemon) = with_a_daemon()
    running.stop()
    assert not is_alive(daemon)


@pytest.mark.parametrize("killed", ["guardian", "owner"])
def test_a_daemon_ends_when_its_nodes_guardian_or_owner_is_killed(tmp_path: Path, killed: str) -> None:
    file = tmp_path / "pids"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(file)])
    try:
        until(lambda: file.exists() and file.read_text().count("\n") == 2, what="the daemon to start")
        daemon = int(file.read_text().split()[1])
        (guardian,) = below(owner.pid, command="workers.guardian")
        os.kill(guardian if killed == "guardian" else owner.pid, signal.SIGKILL)
        until(lambda: not is_alive(daemon) and not is_alive(guardian), what="both to end", timeout_s=10.0)
    finally:
        owner.kill()
        owner.wait()


def test_rays_sockets_have_paths_that_fit_whatever_the_temporary_folder(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tangent.node")
    program = f"import os; print('in', os.environ.get('RAY_TMPDIR')); {STARTED}; import time; time.sleep(60)"
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder, own in (("/var/tmp", None), ("/tmp/" + 40 * "\N{LATIN SMALL LETTER E WITH ACUTE}", "/tmp")):
        monkeypatch.setenv("TMPDIR", folder)
        running = node(program)
        running.wait_until_ready()
        running.stop()
        assert f"in {own}" in caplog.messages
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + 40 * "e")
    with pytest.raises(NodeFailed, match="RAY_TMPDIR has 45"):
        node(program)


def test_a_node_that_its_cluster_rejects_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    # What `ray start` of Ray 2.60 prints.
    program = (
        "print('RuntimeError: Failed to connect to GCS. Last connection error: Traceback:'); print('ray."
        "exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing'); "
        "raise SystemExit(1)"
    )
    for mode, named in (("disabled", "RAY_AUTH_MODE=token"), ("token", "RAY_AUTH_TOKEN_PATH")):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(NodeFailed, match=named):
            node(program).wait_until_ready()


def test_a_nodes_folder_is_removed_when_it_ends_and_by_the_next_node_if_its_guardian_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest's own is too long for Ray.
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        monkeypatch.setenv("RAY_TMPDIR", temporary)
        (root / "ray-of-something-else").mkdir()
        first, second = (node(f"{STARTED}; import time; time.sleep(60)") for _ in range(2))
        for each in (first, second):
            each.wait_until_ready()
        folders = set(root.glob("ray-*/tangent.lock"))
        assert len(folders) == 2
        os.kill(first._process.pid, signal.SIGKILL)
        first.stop()
        assert set(root.glob("ray-*/tangent.lock")) == folders
        third = node(f"{STARTED}; import time; time.sleep(60)")
        third.wait_until_ready()
        assert len(folders & set(root.glob("ray-*/tangent.lock"))) == 1
        second.stop()
        third.stop()
        assert [folder.name for folder in root.iterdir()] == ["ray-of-something-else"]
