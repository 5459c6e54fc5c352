"""A dispatcher that cannot start reports the reason in one line; a process ends with its parent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dispatcher_process import until
from processes import is_alive

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
    ("arguments", "environment", "message"),
    [
        (["--database", "sqlite:////proc/no/tangent.db"], {}, "/proc/no"),
        (["--database", "mysql://host/name"], {}, "SQLite"),
        (["--database", "postgresql+psycopg://nobody@127.0.0.1:1/none"], {}, "127.0.0.1"),
        (["--database", "postgresql://me:geheim@db/x"], {}, "TANGENT_DATABASE_PASSWORD_FILE"),
        (["--ray", "127.0.0.1:1"], {}, "no Ray cluster answers at 127.0.0.1:1"),
        ([], {"TANGENT_MAX_RUNS": "many"}, "TANGENT_MAX_RUNS"),
    ],
)
def test_a_failed_start_is_reported_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = start(tmp_path, *arguments, **environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = "import os, sys, time; from workers.parent_watchdog import exit_with_parent; "
    child += "exit_with_parent(os.getppid()); "
    child += f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    )
    until(lambda: pid_file.exists() and pid_file.read_text(), what="the child to start", timeout_s=30.0)
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(int(pid_file.read_text())), what="the child to end", timeout_s=10.0)
