"""The service under load: a large database, 200 requests a second, event streams and running studies.

    .venv/bin/python benchmarks/load.py --keep /var/tmp/tangent-record --json load.json --markdown load.md

It creates 1,000 studies, 100,000 trials and 1,000,000 measurements (`load_record.py`), starts `tangent serve`
with API tokens and four runs without Ray (`simulated_runs.py`), opens 20 event streams on their studies, and
sends 200 requests a second for a minute on an open schedule (`load_traffic.py`):

    ms      from the moment a request was due to the last byte of its response
    lag ms  how late the generator itself sent the request; included in `ms`

Everything shares this machine's cores. `--keep FOLDER` keeps the filled database; later runs use a copy of
it, so that all start from the same state.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load_mix import Mix
from load_record import fill, measure
from load_traffic import Answer, Reader, Traffic
from postgres import Postgres, postgres
from tables import Table, add_outputs, machine, publish

from studies.actors import Actor
from studies.spec import parse_spec
from studies.store import Store
from workers.catalog import installed_catalog

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SETTLE_S = 5.0
_MEMORY = (
    ("idle_mb", "before anything was asked"),
    ("rss_before_mb", "before"),
    ("rss_after_mb", "after"),
    ("rss_peak_mb", "at most"),
)


@dataclass(frozen=True)
class _Process:
    """A process started by this benchmark."""

    process: subprocess.Popen[bytes]

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far, including those of ended children."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = sum(int(field) for field in fields[11:15]) / _TICKS_PER_S
        return own + sum(_cpu_s(int(pid)) for pid in self.children)

    @property
    def rss_mb(self) -> float:
        """Resident memory of it and its children."""
        return sum(_rss_mb(pid) for pid in (self.process.pid, *map(int, self.children)))

    @property
    def children(self) -> list[str]:
        """Process ids of its children, started by any of its threads."""
        return [
            pid
            for task in Path(f"/proc/{self.process.pid}/task").glob("*/children")
            for pid in task.read_text().split()
        ]


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        return (
            sum(
                int(field) for field in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
            )
            / _TICKS_PER_S
        )
    return 0.0


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


@contextlib.contextmanager
def _started(command: Sequence[str | Path], log: Path, environment: dict[str, str]) -> Iterator[_Process]:
    """Start a process in its own process group, and end it afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        yield _Process(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(port: int, served: _Process, log: Path) -> None:
    for _ in range(300):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1),
        ):
            return
        if served.process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start: {log.read_text(errors='replace')[-2000:]}")


def _prepared(given: argparse.Namespace, home: Path) -> None:
    """Fill a database in `home`, or copy a kept one there."""
    kept: Path | None = given.keep
    if kept is not None and (kept / "data").exists():
        subprocess.run(["cp", "-a", "--reflink=auto", f"{kept}/.", home], check=True)
        return
    began = time.monotonic()
    with postgres(home) as server:
        store = Store.open(server.url)
        store.announce(installed_catalog(), dispatcher="load")
        # The rate limit is 50 requests a second per caller, so these callers together may make 400.
        owners = [Actor(name=f"caller-{n}", role="submitter") for n in range(8)]
        for owner in owners:
            store.create_token(str(owner.name), role="submitter")
        fill(store, server, studies=given.studies, owners=owners, large=given.large, giant_of=given.giant_of)
        print(f"filled in {time.monotonic() - began:.0f} s: {measure(server)}", file=sys.stderr, flush=True)
        store.close()
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{home}/.", kept], check=True)


def _submitted(store: Store, count: int) -> list[str]:
    """Submit the studies that will run, with priority over all queued ones."""
    found: list[str] = []
    for n in range(count):
        body = {
            "name": f"Running {n}",
            "workload": "digits-mlp",
            "arms": ["adamp", "sgdp", "adamw", "sgd"],
            "budget": {"trials_per_arm": 100, "epochs": 10},
            "sampler": "tpe",
            "confirmation": {"seeds": 2},
            "resources": {"max_pack_size": 8, "priority": "high"},
        }
        found.append(store.submit(parse_spec(body)).id)
    return found


async def _load(
    given: argparse.Namespace, ports: list[int], mix: Mix, readers: list[Reader]
) -> tuple[Traffic, tuple[float, float]]:
    """Warm up and send requests for the given time.

    Return the results, the seconds until the last response, and the generator's own processor seconds.
    """
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    warm = Traffic(ports, mix.choose, rate=given.rate / 4, seed=1)
    await warm.run(given.warm_s)
    traffic = Traffic(ports, mix.choose, rate=given.rate, seed=2)
    mix.begin()
    own = time.perf_counter(), time.process_time()
    await traffic.run(given.seconds)
    took = time.perf_counter() - own[0], time.process_time() - own[1]
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    return traffic, took


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _row(name: str, answers: Sequence[Answer]) -> list[str]:
    ms = [1000 * answer.latency_s for answer in answers]
    errors = sum(answer.status == 0 or answer.status >= 400 for answer in answers)
    kb = statistics.fmean(answer.size for answer in answers) / 1024
    return [
        name,
        f"{len(answers)}",
        *(f"{_quantile(ms, share):.0f}" for share in (0.5, 0.95, 0.99)),
        f"{max(ms):.0f}",
        f"{kb:.1f}",
        f"{errors}",
    ]


def _tables(answers: Sequence[Answer], found: dict[str, Any]) -> list[Table]:
    kinds = sorted({answer.kind for answer in answers})
    rows = [_row(kind, [answer for answer in answers if answer.kind == kind]) for kind in kinds]
    lag_ms = [1000 * answer.lag_s for answer in answers]
    cores = ", ".join(f"{who} {used:.2f}" for who, used in found["cores"].items())
    notes = [
        (
            f"The generator was {_quantile(lag_ms, 0.5):.1f} ms late in the median, "
            f"{_quantile(lag_ms, 0.99):.1f} at p99, {max(lag_ms):.0f} at most."
        ),
        f"{len(answers) / found['seconds']:.0f} requests a second; cores used: {cores}.",
        f"Service: {', '.join(f'{found[name]:.0f} MB {when}' for name, when in _MEMORY)}.",
        (
            f"{found['readers']} streams: {found['stream_events']} events received, {found['stream_gaps']} "
            f"gaps, {found['stream_faults']} faults."
        ),
        (
            f"Its transactions took {found['transaction_s']:.1f} s of the "
            f"{found['request_s']:.1f} s that its requests took."
        ),
    ]
    header = ["requests", "n", "p50 ms", "p95 ms", "p99 ms", "max ms", "KB", "errors"]
    return [Table(title=found["title"], header=header, rows=[*rows, _row("all", answers)], notes=notes)]


def _sum_of(text: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}_sum"))


def _statements(server: Postgres) -> list[dict[str, Any]]:
    """Return the statements with the longest total time, longest first."""
    with server.connect() as connection:
        rows = connection.execute(
            b"SELECT query, calls, total_exec_time + total_plan_time, mean_exec_time, rows FROM "
            b"pg_stat_statements ORDER BY 3 DESC LIMIT 25"
        ).fetchall()
    return [dict(zip(("query", "calls", "total_ms", "mean_ms", "rows"), row, strict=True)) for row in rows]


def _runs(
    given: argparse.Namespace, server: Postgres, store: Store, home: Path, stack: ExitStack
) -> dict[str, _Process]:
    """Submit the studies that will run, and start a run of each.

    Return the runs by study once all have begun.
    """
    studies, runs = _submitted(store, given.runs), dict[str, _Process]()
    for n in range(given.runs):
        claim = store.claim_next(dispatcher="load", lease_s=30.0)
        assert claim is not None, "they were just submitted"
        assert claim.study_id in studies, "they have the highest priority"
        command = [
            sys.executable,
            Path(__file__).with_name("simulated_runs.py"),
            server.url,
            claim.study_id,
            str(claim.attempt),
        ]
        environment = {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
        runs[claim.study_id] = stack.enter_context(
            _started([*command, "--packs", "2"], home / f"run-{n}.log", environment)
        )
    while not all("ready" in _log(home / f"run-{n}.log") for n in range(given.runs)):
        if any(run.process.poll() is not None for run in runs.values()):
            raise RuntimeError(
                f"a run has ended: {[_log(home / f'run-{n}.log')[-2000:] for n in range(given.runs)]}"
            )
        time.sleep(0.2)
    return runs


def _log(file: Path) -> str:
    return file.read_text(errors="replace")


def _services(
    given: argparse.Namespace, server: Postgres, home: Path, stack: ExitStack
) -> dict[int, _Process]:
    """Start the service's replicas, and return their processes by port."""
    ports = [_free_port() for _ in range(given.replicas)]
    served: dict[int, _Process] = {}
    for port in ports:
        log = home / f"serve-{port}.log"
        environment = {
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("UVPATH", "")]),
            "TANGENT_HOME": str(home),
            "TANGENT_DATABASE_URL": server.url,
            "TANGENT_PORT": str(port),
        }
        served[port] = stack.enter_context(
            _started([Path(sys.executable).parent / "tangent", "serve"], log, environment)
        )
        _wait_for(port, served[port], log)
    return served


def _beating(store: Store, stack: ExitStack) -> threading.Event:
    """Send a dispatcher's heartbeat every few seconds until the returned event is set."""
    is_over = threading.Event()
    stack.callback(is_over.set)

    def beat() -> None:
        while not is_over.wait(5.0):
            store.heartbeat("load")

    store.heartbeat("load")
    threading.Thread(target=beat, daemon=True).start()
    return is_over


def _measured(given: argparse.Namespace, server: Postgres, home: Path, stack: ExitStack) -> dict[str, Any]:
    store = Store.open(server.url)
    stack.callback(store.close)
    tokens = [store.create_token(f"load-{n}-{time.time_ns()}", role="submitter") for n in range(8)]
    by_study = _runs(given, server, store, home, stack)
    by_port = _services(given, server, home, stack)
    running, runs = list(by_study), list(by_study.values())
    ports, served = list(by_port), list(by_port.values())
    is_over = _beating(store, stack)
    time.sleep(_SETTLE_S)
    idle_mb = sum(process.rss_mb for process in served)
    mix = Mix(store, server, tokens, running=running)
    last = {study_id: store.change_stamps([study_id])[study_id][1] for study_id in running}
    readers = [
        Reader(
            ports[n % len(ports)],
            running[n % len(running)],
            tokens[n % len(tokens)],
            last[running[n % len(running)]],
        )
        for n in range(given.readers)
    ]
    watched: dict[str, Any] = {"peak": 0.0}

    def begin() -> None:
        with server.connect() as connection:
            connection.execute("SELECT pg_stat_statements_reset()")
        watched["rss"] = sum(process.rss_mb for process in served)
        watched["cpu"] = _cpu(server, served, runs)
        watched["metrics"] = [_scraped(port, tokens[0]) for port in ports]
        threading.Thread(target=watch, daemon=True).start()

    def watch() -> None:
        while not is_over.wait(0.5):
            watched["peak"] = max(watched["peak"], sum(process.rss_mb for process in served))

    mix.on_begin = begin
    if given.profile is not None:
        _profile(given, served[0], home)
    traffic, (took_s, own_cpu_s) = asyncio.run(_load(given, ports, mix, readers))
    cpu = _cpu(server, served, runs)
    metrics = [_scraped(port, tokens[0]) for port in ports]
    cores = {who: (cpu[who] - watched["cpu"][who]) / took_s for who in cpu} | {
        "generator": own_cpu_s / took_s
    }
    after_mb = sum(process.rss_mb for process in served)
    names = {
        "transaction_s": "tangent_database_transaction_seconds",
        "request_s": "tangent_http_request_seconds",
    }
    sums = {
        key: sum(
            _sum_of(new, name) - _sum_of(old, name)
            for new, old in zip(metrics, watched["metrics"], strict=True)
        )
        for key, name in names.items()
    }
    for fault in traffic.faults[:20]:
        print(fault, file=sys.stderr)
    return {
        "title": (
            f"{given.rate:g} requests a second for {given.seconds:g} s, {given.replicas} service "
            f"process{'es' * (given.replicas > 1)}, {given.readers} streams, {given.runs} runs"
        ),
        "seconds": given.seconds,
        "took_s": took_s,
        "cores": cores,
        "idle_mb": idle_mb,
        "rss_before_mb": watched["rss"],
        "rss_after_mb": after_mb,
        "rss_peak_mb": watched["peak"],
        "readers": len(readers),
        "stream_events": sum(reader.events for reader in readers),
        "stream_gaps": sum(reader.gaps for reader in readers),
        "stream_faults": sum(reader.fault is not None for reader in readers),
        **sums,
        "load_after": os.getloadavg()[0],
        "faults": traffic.faults,
        "statements": _statements(server),
        "answers": [asdict(answer) for answer in traffic.answers],
    }


def _profile(given: argparse.Namespace, served: _Process, home: Path) -> None:
    """Profile a service with py-spy while it works."""
    command = [
        given.profile,
        "record",
        "-p",
        str(served.process.pid),
        "-d",
        str(int(given.warm_s + given.seconds)),
        "-r",
        "50",
        "-f",
        "raw",
        "--gil",
    ]
    subprocess.Popen(
        [*command, "-o", home / "profile.txt"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _cpu(server: Postgres, served: Sequence[_Process], runs: Sequence[_Process]) -> dict[str, float]:
    return {
        "service": sum(one.cpu_s for one in served),
        "PostgreSQL": server.cpu_s,
        "runs": sum(one.cpu_s for one in runs),
    }


def _scraped(port: int, token: str) -> str:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.read().decode()


def main() -> None:
    """Fill the database, start the services, send the requests and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (200)")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration in seconds (60)")
    parser.add_argument(
        "--warm-s",
        type=float,
        default=10.0,
        help="seconds of warm-up at a quarter of the rate (10)",
    )
    parser.add_argument("--replicas", type=int, default=1, help="service processes (1)")
    parser.add_argument("--readers", type=int, default=20, help="open event streams (20)")
    parser.add_argument("--runs", type=int, default=4, help="running studies (4)")
    parser.add_argument("--studies", type=int, default=1000, help="studies in the database (1000)")
    parser.add_argument("--large", type=int, default=10, help="number of these with 2,000 trials (10)")
    parser.add_argument(
        "--giant-of", type=int, default=10, help="size of one more study / 2,000 (10); 0: none"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="folder in which the filled database is kept and reused"
    )
    parser.add_argument(
        "--profile",
        metavar="PY-SPY",
        help="path of py-spy, to profile the service; the profile is written next to the JSON",
    )
    add_outputs(parser)
    given = parser.parse_args()
    # Exit normally on SIGTERM, so that the started processes end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tangent-load-") as folder, ExitStack() as stack:
        home = Path(folder)
        # PostgreSQL runs as its own user, which must be able to enter the folder.
        home.chmod(0o755)
        about = machine()
        _prepared(given, home)
        server = stack.enter_context(postgres(home))
        found = _measured(given, server, home, stack)
        contents = measure(server)
        if given.profile is not None and given.json is not None:
            time.sleep(3)
            shutil.copy(home / "profile.txt", given.json.with_suffix(".profile.txt"))
        answers = [Answer(**one) for one in found["answers"]]
        publish(given, {"machine": about, "contents": asdict(contents), **found}, _tables(answers, found))
        print(f"load after: {found['load_after']:.1f}; {contents}", file=sys.stderr)


if __name__ == "__main__":
    main()
