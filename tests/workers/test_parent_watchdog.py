"""A process ends only after the address that it depends on has been silent for some time."""

import socket
import subprocess
import sys
import time

__all__: list[str] = []

PROGRAM = """
import sys, time
from workers.parent_watchdog import exit_without
exit_without(sys.argv[1], silent_for_s=1.0, connect_every_s=0.1)
time.sleep(60)
"""


def test_a_process_ends_some_time_after_its_address_stops_listening() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, address])
    listener.settimeout(20)
    for _ in range(15):
        listener.accept()[0].close()
    assert process.poll() is None
    listener.close()
    closed = time.monotonic()
    assert process.wait(20) == 1
    assert time.monotonic() - closed >= 0.8, "it ended too early"
