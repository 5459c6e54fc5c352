"""A cluster on its own hosts: database, service, a dispatcher with the Ray head, two workers.

Every process that ends is restarted, as systemd would do.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

import psycopg
from cluster.hosts import Host, Network, network
from postgres_server import binaries

from service.client import Client
from studies.store import Store

__all__ = ["NODES", "Lab", "Part", "lab"]

NODES = ("node1", "node2")
_ROOT = Path(__file__).parents[2]
_CHECKPOINTS_MIB = 24
# Ray's own processes and one training process use half of it.
_NODE_MIB = 2560
_RESTART_AFTER_S = 1.0
_READY_WITHIN_S = 120.0
_POSTGRES = {
    "listen_addresses": "*",
    "unix_socket_directories": "",
    # A killed server loses nothing that it has passed to the kernel; these tests simulate no power failures.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "log_min_messages": "fatal",
}
# Observes the trials inside the database, independently of the service and of any run.
_WITNESS = """
CREATE SCHEMA witness;
CREATE TABLE witness.attempt (trial_id text, attempt int, is_charged bool, epochs_before int,
                              epochs_after int, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE witness.epoch (trial_id text, epoch int, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION witness.of_trial() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness.attempt
    VALUES (NEW.id, NEW.attempt, NEW.retries > OLD.retries, OLD.epochs_done, NEW.epochs_done);
  RETURN NULL; END $$;
CREATE FUNCTION witness.of_measurement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness.epoch VALUES (NEW.trial_id, NEW.epoch); RETURN NULL; END $$;
CREATE TRIGGER witness AFTER UPDATE ON public.trial FOR EACH ROW
  WHEN (NEW.attempt > OLD.attempt) EXECUTE FUNCTION witness.of_trial();
CREATE TRIGGER witness AFTER INSERT ON public.measurement FOR EACH ROW
  EXECUTE FUNCTION witness.of_measurement();
"""


@dataclass
class Part:
    """A program of the cluster.

    Attributes:
        is_ready: returns, given its output since its last start, whether it is ready.
        is_kept: whether it is restarted when it ends.
    """

    name: str
    host: Host
    command: list[str]
    environment: dict[str, str]
    is_ready: Callable[[str], bool]
    log: Path
    user: str | None = None
    is_kept: bool = True
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    ended_at: float | None = None
    _offset: int = field(default=0, repr=False)

    @property
    def said(self) -> str:
        """Its output since its last start."""
        with self.log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    @property
    def lives(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def works(self) -> bool:
        """Whether it is alive and ready."""
        return self.lives and self.is_ready(self.said)

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._offset = log.tell()
            self.process = self.host.start(
                self.command, log=log, environment=self.environment, user=self.user
            )
        self.starts += 1
        self.ended_at = None

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self.process is not None
        self.process.send_signal(number)


class Lab:
    """The whole cluster, and access for its clients."""

    def __init__(self, folder: Path, hosts: Network) -> None:
        """Prepare the cluster; `start` starts it."""
        self.folder = folder
        self.hosts = {name: hosts.add(name) for name in ("db", "service", "head")}
        self.hosts |= {name: hosts.add(name, memory_mib=_NODE_MIB) for name in NODES}
        self.checkpoints = folder / "checkpoints"
        self.url = f"postgresql+psycopg://postgres@{self.hosts['db'].address}/postgres"
        self.service_url = f"http://{self.hosts['service'].address}:8780"
        self._filler = self.checkpoints / "filler"
        (folder / "ray_token").write_text(secrets.token_hex(32))
        self.parts = {part.name: part for part in self._parts()}
        self.token = ""

    def _parts(self) -> Iterator[Part]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TANGENT_", "RAY_"))
        }
        plain = {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "tests" / "plugin")]),
            "OMP_NUM_THREADS": "1",
        }
        of_ray = {**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "ray_token")}
        of_database = {"TANGENT_DATABASE_URL": self.url, "TANGENT_HOME": str(self.folder / "home")}

        def part(
            name: str,
            host: str,
            command: list[str],
            environment: dict[str, str],
            is_ready: Callable[[str], bool],
            **more: Any,
        ) -> Part:
            log = self.folder / f"{name}.log"
            log.touch()
            return Part(name, self.hosts[host], command, environment, is_ready, log, **more)

        postgres = binaries()
        assert postgres is not None, "the fixture skips without PostgreSQL"
        settings = [word for name, value in _POSTGRES.items() for word in ("-c", f"{name}={value}")]
        yield part(
            "db",
            "db",
            [str(postgres / "postgres"), "-D", str(self.folder / "data"), *settings],
            plain,
            lambda _: self._answers(),
            user="postgres",
        )
        serve = [sys.executable, "-P", "-m", "service", "serve", "--host", self.hosts["service"].address]
        # These tests send many probes.
        yield part(
            "service",
            "service",
            serve,
            {**plain, **of_database, "TANGENT_RATE_PER_S": "0"},
            lambda _: self._serves(),
        )
        of_head = {
            "TANGENT_CHECKPOINTS": str(self.checkpoints),
            "TANGENT_NODE_ADDRESS": self.hosts["head"].address,
        }
        dispatch = [sys.executable, "-P", "-m", "workers", "--ray", "head"]
        yield part(
            "dispatcher",
            "head",
            dispatch,
            {**of_ray, **of_database, **of_head},
            lambda said: " ready on " in said,
        )
        for node in NODES:
            join = [
                sys.executable,
                "-P",
                "-m",
                "workers.node",
                f"{self.hosts['head'].address}:6379",
                "--cpus",
                "1",
            ]
            yield part(node, node, join, of_ray, lambda said: "Ray runtime started" in said)

    def start(self) -> Self:
        """Start everything and wait until it is ready."""
        self._make_database()
        self.parts["db"].start()
        self.until(self._answers, what="the database to answer", timeout_s=30)
        store = Store.open(self.url)
        self.token = store.create_token("tester", role="admin")
        store.close()
        with self.sql() as connection:
            connection.execute(_WITNESS)
        for name in ("service", "dispatcher"):
            self.parts[name].start()
        # A worker that starts before the head exits and is restarted.
        self.until(
            lambda: "Ray runtime started" in self.parts["dispatcher"].said,
            what="the Ray head to start",
            timeout_s=_READY_WITHIN_S,
        )
        for node in NODES:
            self.parts[node].start()
        self.healed()
        return self

    def _make_database(self) -> None:
        postgres = binaries()
        assert postgres is not None
        data = self.folder / "data"
        data.mkdir()
        shutil.chown(data, "postgres")
        user = pwd.getpwnam("postgres")
        initdb = [
            postgres / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        subprocess.run(
            initdb,
            check=True,
            capture_output=True,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
        )
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")

    def supervise(self) -> None:
        """Restart each part that ended at least a second ago."""
        now = time.monotonic()
        for part in self.parts.values():
            if part.is_kept and part.process is not None and part.process.poll() is not None:
                part.ended_at = part.ended_at or now
                if now - part.ended_at > _RESTART_AFTER_S:
                    part.start()

    def until(self, is_true: Callable[[], Any], *, what: str, timeout_s: float = 60.0) -> Any:
        """Call until the result is true and return it; restart parts that end meanwhile."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.supervise()
            with contextlib.suppress(psycopg.OperationalError):
                found = is_true()
                if found:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout_s:g} s for {what}\n{self.logs()}")

    def healed(self) -> None:
        """Wait until every part is ready."""
        for part in self.parts.values():
            self.until(
                lambda part=part: part.works, what=f"{part.name} to be ready", timeout_s=_READY_WITHIN_S
            )

    def client(self) -> Client:
        """Return a client of the service."""
        return Client(self.service_url, self.token, timeout_s=15.0)

    def asked(self, path: str, *, timeout_s: float) -> tuple[int, str]:
        """Return the status and body of the service's answer on a new connection; status 0 for no answer."""
        connection = HTTPConnection(self.hosts["service"].address, 8780, timeout=timeout_s)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    @contextlib.contextmanager
    def sql(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection to the database."""
        with psycopg.connect(
            host=self.hosts["db"].address,
            user="postgres",
            dbname="postgres",
            autocommit=True,
            connect_timeout=3,
        ) as connection:
            yield connection

    def run_of(self, study_id: str) -> int | None:
        """Return the process that runs a study: the one that writes to the study's log."""
        log = (self.folder / "home" / "logs" / f"run-{study_id}.log").resolve()
        for pid, command in self.hosts["head"].processes().items():
            with contextlib.suppress(OSError):
                if "workers.run" in command and Path(f"/proc/{pid}/fd/1").resolve() == log:
                    return pid
        return None

    def pid(self, host: str, program: str) -> int | None:
        """Return a process of a host by the name of its program, or by its Ray title."""
        for pid, command in self.hosts[host].processes().items():
            name = command.partition(" ")[0].rpartition("/")[2]
            if name.startswith(program):
                return pid
        return None

    def fill_disk(self) -> None:
        """Fill the checkpoints' disk."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0")

    def free_disk(self) -> None:
        """Free the checkpoints' disk."""
        self._filler.unlink(missing_ok=True)

    def logs(self) -> str:
        """Return the end of every log."""
        runs = sorted((self.folder / "home" / "logs").glob("*.log"), key=lambda file: file.stat().st_mtime)
        files = [*(part.log for part in self.parts.values()), *runs[-2:]]
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def end(self) -> None:
        """Kill everything."""
        for part in self.parts.values():
            part.is_kept = False
            if part.process is not None:
                part.process.kill()
                part.process.wait()

    def _answers(self) -> bool:
        try:
            with self.sql() as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def _serves(self) -> bool:
        return self.asked("/healthz", timeout_s=2.0)[0] == HTTPStatus.OK


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """Yield a healthy cluster, and remove it completely afterwards."""
    # Not in /tmp, because each host has its own.
    folder = Path(tempfile.mkdtemp(prefix="tangent-cluster-", dir="/var/tmp"))
    folder.chmod(0o755)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_CHECKPOINTS_MIB}m", "tangent-checkpoints", checkpoints],
            check=True,
        )
        try:
            with network(folder) as hosts:
                made = Lab(folder, hosts)
                try:
                    yield made.start()
                finally:
                    made.end()
        finally:
            subprocess.run(["umount", "--lazy", checkpoints], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
