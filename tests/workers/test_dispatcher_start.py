"""A dispatcher that cannot start says why in one line; a process that lost its parent ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

__all__: list[str] = []


def start(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        env={**os.environ, "TANGENT_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--database", "sqlite:////proc/no/tangent.db"], {}, "/proc/no"),
        (["--database", "mysql://host/name"], {}, "SQLite"),
        (["--database", "postgresql+psycopg://nobody@127.0.0.1:1/none"], {}, "127.0.0.1"),
        (["--ray", "127.0.0.1:1"], {}, "no Ray answers at 127.0.0.1:1"),
        ([], {"TANGENT_MAX_RUNS": "many"}, "max_runs"),
    ],
)
def test_what_keeps_a_dispatcher_from_starting_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = start(tmp_path, *arguments, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = "import os, sys, time; from workers.parent_watchdog import end_with_parent; "
    child += "end_with_parent(os.getppid()); "
    child += f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    )
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    stat = Path(f"/proc/{pid_file.read_text()}/stat")
    parent.kill()
    parent.wait()
    while (
        stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z" and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert time.monotonic() < deadline
