"""`tangent up` as a real process: failures to start, and how it restarts and stops its dispatcher."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from service.cli.dispatcher_supervisor import DispatcherSupervisor
from service.settings import ServiceSettings

__all__: list[str] = []

ROOT = Path(__file__).parents[2]


def environment(**given: str) -> dict[str, str]:
    """Return an environment without other settings of Tangent that imports this checkout."""
    silent = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
    return {**silent, "PYTHONPATH": str(ROOT), **given}


def up(home: Path, *arguments: str, port: int | None = None) -> list[str]:
    """Return the command line that starts a separate service."""
    return [
        sys.executable,
        "-m",
        "service",
        "up",
        "--home",
        str(home),
        "--port",
        str(port or free_port()),
        *arguments,
    ]


def refused(command: list[str]) -> str:
    """Return the one-line error of a failed start."""
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert ended.returncode == 1, ended
    assert ended.stderr.startswith("error: "), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_a_port_in_use_is_a_one_line_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(up(tmp_path, port=port))
    assert f"port {port} of 127.0.0.1: address already in use" in message


def test_a_database_that_cannot_be_opened_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused(up(tmp_path, "--database", f"sqlite:///{tmp_path}/file/tangent.db"))
    (tmp_path / "tangent.db").write_bytes(
        b"this is not a database, but it is long enough to be taken for one" * 20
    )
    assert "tangent.db" in refused(up(tmp_path))


def test_a_home_that_cannot_be_created_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"cannot write to {tmp_path}/file/home" in refused(up(tmp_path / "file" / "home"))


def test_a_ray_cluster_that_does_not_answer_is_a_one_line_error(tmp_path: Path) -> None:
    port = free_port()
    assert f"no Ray cluster answers at 127.0.0.1:{port}: Connection refused" in refused(
        up(tmp_path, "--ray", f"127.0.0.1:{port}")
    )


def test_listening_on_other_addresses_requires_a_token(tmp_path: Path) -> None:
    assert "no API token exists" in refused(up(tmp_path, "--host", "0.0.0.0"))


@pytest.fixture
def fake_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replace the package `workers` in child processes by a script; returns the path for its log."""

    def put(text: str) -> Path:
        (tmp_path / "path").mkdir(exist_ok=True)
        (tmp_path / "path" / "workers.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
        return tmp_path / "dispatcher.log"

    return put


@pytest.fixture
def kept() -> Generator[Callable[..., DispatcherSupervisor]]:
    """Create supervisors that are stopped after the test."""
    made: list[DispatcherSupervisor] = []

    def make(**given: Any) -> DispatcherSupervisor:
        made.append(DispatcherSupervisor({}, **given))
        return made[-1]

    yield make
    for dispatcher in made:
        dispatcher.stop(timeout_s=5)


def wait(until: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_dispatcher_is_restarted_with_a_warning(
    fake_workers: Callable[[str], Path], kept: Callable[..., DispatcherSupervisor]
) -> None:
    warnings: list[str] = []
    dispatcher = kept(
        log=fake_workers("import time\nprint('x ready on y', flush=True)\ntime.sleep(60)"),
        warn=warnings.append,
    )
    dispatcher.start()
    assert dispatcher.wait_until_ready(timeout_s=20)
    dispatcher.keep_running()
    first = dispatcher.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait(lambda: dispatcher.pid != first)
    assert len(warnings) == 1
    assert "SIGKILL" in warnings[0]


def test_the_restart_delay_doubles_while_the_dispatcher_keeps_exiting(
    fake_workers: Callable[[str], Path], kept: Callable[..., DispatcherSupervisor]
) -> None:
    warnings: list[str] = []
    dispatcher = kept(
        log=fake_workers("import sys\nprint('no Ray today', file=sys.stderr)\nsys.exit(3)"),
        warn=warnings.append,
    )
    dispatcher.start()
    dispatcher.keep_running()
    wait(lambda: len(warnings) == 2)
    assert all("status 3 (no Ray today)" in warning for warning in warnings)
    assert [warning.rpartition(" in ")[2] for warning in warnings] == ["1 s", "2 s"]


def test_a_failed_start_is_explained_by_the_last_line_of_output(
    fake_workers: Callable[[str], Path], kept: Callable[..., DispatcherSupervisor]
) -> None:
    log = fake_workers("print('warming up\\nerror: no Ray today')")
    log.write_text("an earlier dispatcher was ready on here\n")
    dispatcher = kept(log=log, warn=print)
    dispatcher.start()
    assert not dispatcher.wait_until_ready(timeout_s=20)
    assert dispatcher.last_line() == "error: no Ray today"


def test_a_dispatcher_that_ignores_sigterm_is_killed(
    fake_workers: Callable[[str], Path], kept: Callable[..., DispatcherSupervisor]
) -> None:
    text = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(' ready "
        "on ', flush=True)\ntime.sleep(60)"
    )
    dispatcher = kept(log=fake_workers(text), warn=print)
    dispatcher.start()
    assert dispatcher.wait_until_ready(timeout_s=20)
    began = time.monotonic()
    dispatcher.stop(timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert dispatcher.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(dispatcher.pid, 0)


def test_the_dispatcher_does_not_inherit_the_users_token(
    fake_workers: Callable[[str], Path],
    kept: Callable[..., DispatcherSupervisor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TANGENT_TOKEN", "tangent_secret")
    log = fake_workers("import os\nprint('TANGENT_TOKEN' in os.environ, ' ready on ', flush=True)")
    dispatcher = kept(log=log, warn=print)
    dispatcher.start()
    dispatcher.wait_until_ready(timeout_s=20)
    assert log.read_text().startswith("False")


@pytest.mark.ray
def test_service_and_dispatcher_start_and_stop_together(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        up(tmp_path, port=port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(http_proxy="http://127.0.0.1:9"),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Dashboard: http://127.0.0.1:{port}/")
        assert "ready on" in (tmp_path / "logs" / "dispatcher.log").read_text()
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
        assert not Path(f"/proc/{children[0]}").exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.ray
def test_killing_up_also_ends_its_dispatcher(tmp_path: Path) -> None:
    process = subprocess.Popen(
        up(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    )
    assert process.stdout is not None
    process.stdout.readline()
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    process.kill()
    process.communicate()
    assert len(children) == 1
    wait(lambda: not Path(f"/proc/{children[0]}").exists())


def test_a_terminal_gets_bars_and_no_color_is_respected(
    live: str, store: Any, body: dict[str, Any], settings: ServiceSettings
) -> None:
    from studies.spec import parse_spec
    from studies.states import StudyMove

    del settings
    shown: dict[str, str] = {}
    for name, given in (("plain", {"NO_COLOR": "1"}), ("coloured", {})):
        study_id = store.submit(parse_spec(body)).id
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "service", "watch", study_id, "--url", live]
        process = subprocess.Popen(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment(TERM="xterm-256color", **given),
        )
        os.close(follower)
        seen = os.read(leader, 4096)
        store.move(study_id, StudyMove.CANCEL)
        while True:
            try:
                seen += os.read(leader, 4096)
            except OSError:
                break
        assert process.wait(20) == 1
        os.close(leader)
        shown[name] = seen.decode()
    assert "━" in shown["coloured"]
    assert "\x1b[38" in shown["coloured"] or "\x1b[3" in shown["coloured"]
    assert "\x1b[3" not in shown["plain"].replace("\x1b[?", "")
