"""A process finds and ends everything below it, daemons included."""

import platform
import subprocess
import sys
import time

import pytest

__all__: list[str] = []

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to an ancestor")

# Starts a process that leaves its session, forks twice and ignores SIGTERM, as daemons do; prints its id.
DAEMON = """
import os, signal, time
def start_daemon():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(writing, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    os.wait()
    return int(os.read(reading, 20))
"""


def run(program: str) -> list[str]:
    """Run a program in a new process, and return the lines that it prints."""
    text = f"from studies.process_tree import *\nimport psutil\n{DAEMON}\n{program}"
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=True
    ).stdout.splitlines()


def test_a_daemon_that_ignores_sigterm_is_killed_and_collected() -> None:
    began = time.monotonic()
    assert run(
        "adopt_orphans(); pid = start_daemon(); print([p.pid for p in descendants()] == [pid])\n"
        "end_descendants(grace_s=0.2); print(psutil.pid_exists(pid), descendants())"
    ) == ["True", "False set()"]
    assert time.monotonic() - began < 10


def test_processes_that_are_spared_stay_and_all_others_end() -> None:
    assert run(
        "adopt_orphans(); kept, other = start_daemon(), start_daemon()\n"
        "end_descendants(spare=lambda p: p.pid == kept, grace_s=0.1)\n"
        "print([p.pid for p in descendants()] == [kept])\n"
        "end_descendants(grace_s=0.1)"
    ) == ["True"]


def test_a_process_whose_first_thread_has_ended_is_ended_with_the_processes_below_it() -> None:
    # The number of the system call that ends one thread.
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    child = "import ctypes, subprocess, sys, threading, time\n"
    child += "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
    child += "threading.Thread(target=time.sleep, args=(60,)).start(); "
    child += f"ctypes.CDLL(None).syscall({number}, 0)"
    assert run(
        f"adopt_orphans(); import subprocess, sys; command = [sys.executable, '-c', {child!r}]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)\n"
        "below = int(child.stdout.readline())\n"
        "while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE: time.sleep(0.01)\n"
        "end_descendants(grace_s=0.2); print(psutil.pid_exists(child.pid), psutil.pid_exists(below))"
    ) == ["False False"]


def test_only_children_in_other_sessions_count_as_adopted() -> None:
    assert run(
        "import subprocess; own = subprocess.Popen(['sleep', '60'])\n"
        "adopt_orphans(); pid = start_daemon(); end_adopted(grace_s=0.1)\n"
        "print(psutil.pid_exists(pid), [p.pid for p in descendants()] == [own.pid]); own.kill()"
    ) == ["False True"]


def test_a_process_that_adopts_nothing_leaves_children_in_other_sessions_alone() -> None:
    assert run(
        "import subprocess; own = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "end_adopted(grace_s=0.1); print(own.poll()); own.kill()"
    ) == ["None"]


def test_a_process_without_children_ends_nothing_and_does_not_wait() -> None:
    assert run(
        "adopt_orphans(); began = time.monotonic(); end_descendants(); print(time.monotonic() - began < 0.5)"
    )
