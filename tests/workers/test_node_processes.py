"""Which processes belong to a node, and that none of them outlives whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dispatcher_process import until

from workers.node import _descendants

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
# Starts a process from a thread that stays, as a raylet does now and then, and says which it is.
FROM_A_THREAD = """
import subprocess, threading, time
def start():
    print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
    time.sleep(60)
threading.Thread(target=start).start()
"""
# Starts a node's process in a session of its own, which starts another, and says which that is.
WITH_A_NODE = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", '''
import os, subprocess, time
from workers.parent_watchdog import end_with_parent
end_with_parent(os.getppid(), with_group=True)
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
'''], start_new_session=True).wait()
"""


def test_what_a_thread_has_started_is_found_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FROM_A_THREAD], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            started = int(process.stdout.readline())
            assert started in _descendants(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_node_whose_starter_is_killed_leaves_nothing_behind() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_NODE], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        left = int(process.stdout.readline())
        time.sleep(0.2)
        process.kill()
        process.wait()
        until(lambda: not is_alive(left), what="what the node had started to end", timeout_s=10.0)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
