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
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load_mix import Mix
from load_processes import Process, free_port, started, wait_for
from load_record import fill, measure
from load_traffic import Answer, Reader, load
from load_training import measured as measured_in_training
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
        (
            f"{found['readers']} streams: {found['stream_events']} events received, {found['stream_gaps']} "
            f"gaps, {found['stream_faults']} faults."
        ),
    ]
    if "transaction_s" in found:
        notes += [
            f"Service: {', '.join(f'{found[name]:.0f} MB {when}' for name, when in _MEMORY)}.",
            (
                f"Its transactions took {found['transaction_s']:.1f} s of the "
                f"{found['request_s']:.1f} s that its requests took."
            ),
        ]
    if "trials_finished" in found:
        notes.append(f"{found['trials_finished']} trials finished meanwhile.")
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
) -> dict[str, Process]:
    """Submit the studies that will run, and start a run of each.

    Return the runs by study once all have begun.
    """
    studies, runs = _submitted(store, given.runs), dict[str, Process]()
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
            started([*command, "--packs", "2"], home / f"run-{n}.log", environment)
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
) -> dict[int, Process]:
    """Start the service's replicas, and return their processes by port."""
    ports = [free_port() for _ in range(given.replicas)]
    served: dict[int, Process] = {}
    for port in ports:
        log = home / f"serve-{port}.log"
        environment = {
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("UVPATH", "")]),
            "TANGENT_HOME": str(home),
            "TANGENT_DATABASE_URL": server.url,
            "TANGENT_PORT": str(port),
        }
        served[port] = stack.enter_context(
            started([Path(sys.executable).parent / "tangent", "serve"], log, environment)
        )
        wait_for(port, served[port], log)
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
    traffic, (took_s, own_cpu_s) = asyncio.run(
        load(ports, mix, readers, rate=given.rate, seconds=given.seconds, warm_s=given.warm_s)
    )
    ended = [n for n, run in enumerate(runs) if run.process.poll() not in {None, 0}]
    if ended:
        raise RuntimeError(f"runs have failed: {[_log(home / f'run-{n}.log')[-2000:] for n in ended]}")
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


def _profile(given: argparse.Namespace, served: Process, home: Path) -> None:
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


def _cpu(server: Postgres, served: Sequence[Process], runs: Sequence[Process]) -> dict[str, float]:
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
    parser.add_argument(
        "--training",
        action="store_true",
        help="instead: `tangent up` on SQLite while a study trains with Ray, watched by many; by default 30 "
        "requests a second, 10 streams and 1 study",
    )
    add_outputs(parser)
    is_training = "--training" in sys.argv
    if is_training:
        parser.set_defaults(rate=30.0, readers=10, runs=1)
    given = parser.parse_args()
    # Exit normally on SIGTERM, so that the started processes end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tangent-load-") as folder, ExitStack() as stack:
        home = Path(folder)
        # PostgreSQL runs as its own user, which must be able to enter the folder.
        home.chmod(0o755)
        about = machine()
        if given.training:
            found = measured_in_training(given, home, stack)
            answers = [Answer(**one) for one in found["answers"]]
            publish(given, {"machine": about, **found}, _tables(answers, found))
            return
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
