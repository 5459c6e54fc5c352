"""The demo: starts a service under .demo/, runs a study of a few minutes and shows its results.

`demo.py` starts the service, or reuses one that an earlier run started, and leaves it running. `demo.py stop`
stops that service and no other process.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
RECORD = HOME / "service.json"
LOG = HOME / "logs" / "up.log"
STUDY = "examples/digits.json"
FIRST_PORT = 8780
READY_S = 180
STOP_S = 60


class DemoError(Exception):
    """The demo failed; the message gives the reason and the log to read."""


@dataclass(frozen=True)
class Service:
    """A service that this run or an earlier one started.

    Attributes:
        pid: process id of `tangent up`.
        born: start time of that process in kernel ticks, because the system may reuse a process id.
        port: its port on 127.0.0.1.
    """

    pid: int
    born: str
    port: int

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def is_alive(self) -> bool:
        """Return whether the process is still running."""
        return start_time(self.pid) == self.born


def start_time(pid: int) -> str | None:
    """Return a process's start time in kernel ticks, or None if it is not running or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name in parentheses may contain spaces. After it come the state, 18 numbers, the start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def recorded() -> Service | None:
    """Return the recorded service if it is still running; remove a stale record."""
    try:
        service = Service(**json.loads(RECORD.read_text()))
    except (OSError, ValueError, TypeError):
        RECORD.unlink(missing_ok=True)
        return None
    if not service.is_alive():
        RECORD.unlink(missing_ok=True)
        return None
    return service


def is_ready(service: Service) -> bool:
    """Return whether the service responds and has a dispatcher."""
    # urllib would use a proxy from the environment, which cannot reach this machine's loopback.
    connection = HTTPConnection("127.0.0.1", service.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return the first free port from 8780 on."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise DemoError(
        f"no port from {FIRST_PORT} to {FIRST_PORT + 99} is free on 127.0.0.1; stop a program that uses one"
    )


def last_lines(count: int) -> str:
    """Return the end of the log, indented."""
    lines = LOG.read_text(errors="replace").splitlines()[-count:] if LOG.exists() else []
    return "\n".join(f"    {line}" for line in lines)


def start() -> Service:
    """Start the service and wait until it can run studies.

    It runs in its own session, so that it keeps running when this terminal is closed.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    # Settings in the environment are for real services; the demo always uses the defaults.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
    command = [
        sys.executable,
        "-m",
        "service",
        "up",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--home",
        str(HOME),
    ]
    print(f"Starting the service and a dispatcher (log: {LOG.relative_to(ROOT)}) ...", flush=True)
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    service = Service(pid=process.pid, born=start_time(process.pid) or "", port=port)
    RECORD.write_text(json.dumps(asdict(service)))
    deadline = time.monotonic() + READY_S
    try:
        while not is_ready(service):
            if process.poll() is not None:
                RECORD.unlink(missing_ok=True)
                raise DemoError(
                    f"the service did not start; {LOG.relative_to(ROOT)} ends with\n{last_lines(5)}"
                )
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the service was not ready after {READY_S} s; read {LOG.relative_to(ROOT)} and "
                    f"{HOME.name}/logs/dispatcher.log"
                )
            time.sleep(0.3)
    except BaseException:
        stop(service)
        raise
    return service


def stop(service: Service) -> None:
    """Stop a service, and kill it if it takes too long."""
    for number, timeout_s in ((signal.SIGTERM, STOP_S), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        if not service.is_alive():
            break
        os.kill(service.pid, number)
        deadline = time.monotonic() + timeout_s
        while service.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
    RECORD.unlink(missing_ok=True)


def tangent_command(service: Service, *arguments: str) -> list[str]:
    """Return the command line of a `tangent` command against the service, and print its short form."""
    print(f"\n$ tangent {' '.join(arguments)}", flush=True)
    return [sys.executable, "-m", "service", *arguments, "--url", service.url]


def run(service: Service) -> None:
    """Submit the study, show its progress and its results."""
    submitted = subprocess.run(
        tangent_command(service, "submit", STUDY, "--json"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if submitted.returncode != 0:
        raise DemoError(f"the study was rejected; read {LOG.relative_to(ROOT)}")
    study = json.loads(submitted.stdout)["id"]
    page = f"{service.url}/studies/{study}"
    print(f"Study {study}; follow it at {page}", flush=True)
    try:
        watched = subprocess.run(tangent_command(service, "watch", study), cwd=ROOT, check=False)
    except KeyboardInterrupt:
        print(
            f"\nThe study is still running. Follow it with `tangent watch {study} --url {service.url}` or at "
            f"{page}; `make demo-stop` stops everything."
        )
        raise
    if watched.returncode != 0:
        raise DemoError(f"the study did not complete; read {HOME.name}/logs/dispatcher.log or see {page}")
    subprocess.run(tangent_command(service, "best", study), cwd=ROOT, check=True)
    print(f"\nDashboard: {page}")
    print("The service keeps running; stop it with: make demo-stop")


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Hold the demo's lock, so that two runs at once do not both start a service."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Run the demo, or stop its service; return the exit status."""
    if arguments not in ([], ["stop"]):
        print("usage: scripts/demo [stop]", file=sys.stderr)
        return 2
    try:
        with lock():
            service = recorded()
            if arguments == ["stop"]:
                if service is None:
                    print("The demo's service is not running.")
                else:
                    stop(service)
                    print(
                        f"Stopped the demo's service (process {service.pid}). "
                        f"Its studies are kept in {HOME.name}/."
                    )
                return 0
            if service is not None and not is_ready(service):
                print("The demo's service does not respond; restarting it ...", flush=True)
                stop(service)
                service = None
            service = service or start()
        run(service)
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
