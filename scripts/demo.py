"""The demo: a service of its own under .demo/, one study of a few minutes, and what came of it.

`demo.py` starts the service, or goes on with the one it started before, and leaves it running; `demo.py stop`
ends exactly that one.
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
    """The demo cannot go on; the message says why and where to look."""


@dataclass(frozen=True)
class Service:
    """A service that an earlier run, or this one, started.

    Attributes:
        pid: of `tangent up`.
        born: when that process started, as the system writes it; a process id alone may by now be another
            program's.
        port: on 127.0.0.1.
    """

    pid: int
    born: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def is_alive(self) -> bool:
        """Return whether this very process still runs."""
        return birth(self.pid) == self.born


def birth(pid: int) -> str | None:
    """Return when a process started, in the kernel's own ticks.

    None when there is none, or only what its parent has not collected.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces; after it come the state and 18 numbers before the start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def recorded() -> Service | None:
    """Return the service of the record if it still runs; a stale record is removed."""
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
    """Return whether the service answers and has a dispatcher to run studies."""
    # Not by urllib: a proxy of the environment cannot reach this machine's own address.
    connection = HTTPConnection("127.0.0.1", service.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return the first port from 8780 that nothing listens on."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise DemoError(f"no port from {FIRST_PORT} to {FIRST_PORT + 99} is free on 127.0.0.1")


def last_lines(count: int) -> str:
    """Return the end of the log, indented."""
    lines = LOG.read_text(errors="replace").splitlines()[-count:] if LOG.exists() else []
    return "\n".join(f"    {line}" for line in lines)


def start() -> Service:
    """Start the service in a session of its own, so that it outlives this terminal.

    Return it once it can run studies.
    """
    LOG.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    # The demo is the same for everyone: settings in the environment are for real services.
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
    service = Service(pid=process.pid, born=birth(process.pid) or "", port=port)
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
        end(service)
        raise
    return service


def end(service: Service) -> None:
    """End a service in good order, by force if it takes too long."""
    for sign, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        if not service.is_alive():
            break
        os.kill(service.pid, sign)
        deadline = time.monotonic() + patience_s
        while service.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
    RECORD.unlink(missing_ok=True)


def tangent(service: Service, *arguments: str, shown: bool = True) -> list[str]:
    """Return the command line of a `tangent` command against the service.

    Show it as one would type it.
    """
    if shown:
        print(f"\n$ tangent {' '.join(arguments)}", flush=True)
    return [sys.executable, "-m", "service", *arguments, "--url", service.url]


def run(service: Service) -> None:
    """Submit the study, show its progress and what came of it."""
    submitted = subprocess.run(
        tangent(service, "submit", STUDY, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if submitted.returncode != 0:
        raise DemoError(f"the study was refused; the service's log is {LOG.relative_to(ROOT)}")
    study = json.loads(submitted.stdout)["id"]
    page = f"{service.url}/studies/{study}"
    print(f"Study {study}; follow it at {page}", flush=True)
    try:
        watched = subprocess.run(tangent(service, "watch", study), cwd=ROOT, check=False)
    except KeyboardInterrupt:
        print(
            f"\nThe study goes on: `tangent watch {study} --url {service.url}`, or look at {page}; "
            "`make demo-stop` ends everything."
        )
        raise
    if watched.returncode != 0:
        raise DemoError(
            f"the study did not complete; read {HOME.name}/logs/dispatcher.log, or look at {page}"
        )
    subprocess.run(tangent(service, "best", study), cwd=ROOT, check=True)
    print(f"\nDashboard: {page}")
    print("The service keeps running; stop it with: make demo-stop")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the demo's lock: two runs at once must not both start a service."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Run the demo, or stop its service; return the exit status."""
    if arguments not in ([], ["stop"]):
        print("usage: scripts/demo [stop]", file=sys.stderr)
        return 2
    try:
        with alone():
            service = recorded()
            if arguments == ["stop"]:
                if service is None:
                    print("The demo's service is not running.")
                else:
                    end(service)
                    print(
                        f"Stopped the demo's service (process {service.pid}). "
                        f"Its studies stay in {HOME.name}/."
                    )
                return 0
            if service is not None and not is_ready(service):
                print("The demo's service does not answer any more; starting it anew ...", flush=True)
                end(service)
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
