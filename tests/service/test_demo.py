"""The demo keeps track of its own service, and touches no other process.

Its whole course is what `make demo` runs.
"""

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
    """The demo's script as a module, with a folder of its own."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", tmp_path)
    monkeypatch.setattr(module, "RECORD", tmp_path / "service.json")
    monkeypatch.setattr(module, "LOG", tmp_path / "up.log")
    return module


@pytest.fixture
def sleeper() -> Generator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record(demo: ModuleType, pid: int, *, born: str) -> None:
    """Write down a service as an earlier run of the demo would have."""
    demo.RECORD.write_text(json.dumps(asdict(demo.Service(pid=pid, born=born, port=8780))))


def test_a_service_that_runs_is_found_again_and_stop_ends_it(
    demo: ModuleType, sleeper: subprocess.Popen[bytes]
) -> None:
    born = demo.start_time(sleeper.pid)
    assert born is not None
    record(demo, sleeper.pid, born=born)
    assert demo.recorded() == demo.Service(pid=sleeper.pid, born=born, port=8780)
    assert demo.main(["stop"]) == 0
    assert sleeper.wait(5) == -signal.SIGTERM
    assert not demo.RECORD.exists()


def test_another_process_under_the_same_number_is_left_alone(
    demo: ModuleType, sleeper: subprocess.Popen[bytes]
) -> None:
    record(demo, sleeper.pid, born="an earlier time")
    assert demo.main(["stop"]) == 0
    assert sleeper.poll() is None
    assert not demo.RECORD.exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1}', "\x00"])
def test_a_broken_record_counts_as_none(demo: ModuleType, text: str) -> None:
    demo.RECORD.write_text(text)
    assert demo.recorded() is None


def test_stop_without_a_service_says_so(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["stop"]) == 0
    assert "is not running" in capsys.readouterr().out


def test_a_dead_process_was_not_born(demo: ModuleType, sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert demo.start_time(sleeper.pid) is None


def test_the_next_free_port_is_taken(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(demo, "FIRST_PORT", port)
        assert demo.free_port() > port


def test_a_service_that_does_not_start_is_told_with_its_log(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    (tmp_path / "service.py").write_text("raise SystemExit('error: there is no room today')")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert demo.main([]) == 1
    said = capsys.readouterr().err
    assert "the service did not start; up.log ends with" in said
    assert "there is no room today" in said
    assert not demo.RECORD.exists()


def test_anything_else_is_bad_usage(demo: ModuleType) -> None:
    assert demo.main(["start"]) == 2
