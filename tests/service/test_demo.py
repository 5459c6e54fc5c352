"""The demo tracks its own service and stops no other process; `make demo` runs it as a whole."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The demo's script as a module, with a temporary folder."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module by name.
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", tmp_path)
    monkeypatch.setattr(module, "RECORD", tmp_path / "service.json")
    monkeypatch.setattr(module, "LOG", tmp_path / "up.log")
    return module


@pytest.fixture
def sleeper() -> Generator[subprocess.Popen[bytes]]:
    """An idle process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record(demo: ModuleType, pid: int, *, born: str) -> None:
    """Record a service as an earlier run of the demo would."""
    demo.RECORD.write_text(json.dumps(asdict(demo.Service(pid=pid, born=born, port=8780))))


def test_a_running_service_is_found_again_and_stopped(
    demo: ModuleType, sleeper: subprocess.Popen[bytes]
) -> None:
    born = demo.start_time(sleeper.pid)
    assert born is not None
    record(demo, sleeper.pid, born=born)
    assert demo.recorded() == demo.Service(pid=sleeper.pid, born=born, port=8780)
    assert demo.main(["stop"]) == 0
    assert sleeper.wait(5) == -signal.SIGTERM
    assert not demo.RECORD.exists()


def test_another_process_with_the_same_pid_is_not_stopped(
    demo: ModuleType, sleeper: subprocess.Popen[bytes]
) -> None:
    record(demo, sleeper.pid, born="an earlier time")
    assert demo.main(["stop"]) == 0
    assert sleeper.poll() is None
    assert not demo.RECORD.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1}', "\x00"])
def test_a_broken_record_is_ignored(demo: ModuleType, text: str) -> None:
    demo.RECORD.write_text(text)
    assert demo.recorded() is None


def test_stop_without_a_service_says_so(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["stop"]) == 0
    assert "is not running" in capsys.readouterr().out


def test_a_zombie_has_no_start_time(demo: ModuleType, sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert demo.start_time(sleeper.pid) is None


def test_the_first_free_port_is_chosen(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(demo, "FIRST_PORT", port)
        assert demo.free_port() > port


def test_a_failed_start_shows_the_end_of_the_log(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    (tmp_path / "tangent.db").write_text("this is not a database" * 100)
    assert demo.main([]) == 1
    stderr = capsys.readouterr().err
    assert "the service did not start; up.log ends with" in stderr
    assert "not a database" in stderr
    assert not demo.RECORD.exists()


def test_an_unknown_argument_is_bad_usage(demo: ModuleType) -> None:
    assert demo.main(["start"]) == 2
