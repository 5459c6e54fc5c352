"""The capacity of a run whose workers report once a second, the cost of a report, and Ray Tune's own cost.

    .venv/bin/python benchmarks/reports.py --json reports.json --markdown reports.md
    .venv/bin/python benchmarks/reports.py --parts tune

`rates` and `limit` use real runs with simulated workers instead of Ray (`simulated_runs.py`), on a separate
PostgreSQL server:

    rates     this many packs train and report once a second for `--seconds`; `late` is how long a report
              waits before it is handled
    limit     packs report as fast as the run handles reports, in one run or in several at once

`tune` starts a real Ray whose actors train nothing and report immediately. It measures the processor time of
Tune's process, without any of Tangent's code, by the number of packs in training.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from postgres import Postgres, postgres
from tables import Table, add_outputs, machine, publish

from studies.spec import parse_spec
from studies.store import Store
from workers.catalog import installed_catalog

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_TUNE = """
import json, os, sys, time
import ray
from ray import tune
packs, rounds = int(sys.argv[1]), int(sys.argv[2])
ray.init(num_cpus=packs, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)

class Light(tune.Trainable):
    def setup(self, config):
        self.steps = 0
    def step(self):
        self.steps += 1
        return {"report": "x" * 2000, "worker": "host:1", "done": self.steps >= rounds}
    def save_checkpoint(self, checkpoint_dir):
        pass
    def load_checkpoint(self, checkpoint):
        pass

from ray.tune import Callback
class Counting(Callback):
    at, cpu, n = [], [], 0
    def on_trial_result(self, iteration, trials, trial, result, **info):
        Counting.n += 1
        # After a few reports per actor, all actors have started.
        if Counting.n in (5 * packs, (rounds - 5) * packs):
            Counting.at.append(time.perf_counter())
            Counting.cpu.append(time.process_time())

os.environ.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", TUNE_GLOBAL_CHECKPOINT_S="1000000000",
    TUNE_RESULT_BUFFER_LENGTH="0")
os.environ.update(RAY_AIR_NEW_OUTPUT="0", TUNE_MAX_PENDING_TRIALS_PG="100000")
tune.Tuner(tune.with_resources(Light, {"cpu": 1}),
    tune_config=tune.TuneConfig(num_samples=packs, reuse_actors=True),
    run_config=tune.RunConfig(callbacks=[Counting()], verbose=0)).fit()
n = (rounds - 10) * packs
print("FOUND", json.dumps({"packs": packs, "results": n,
    "wall_s": Counting.at[1] - Counting.at[0], "cpu_s": Counting.cpu[1] - Counting.cpu[0]}))
"""


def _commits(server: Postgres) -> int:
    with server.connect() as connection:
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = 'tangent'"
        ).fetchone()
    return 0 if row is None else int(row[0])


def _runs(
    server: Postgres,
    store: Store,
    *,
    runs: int,
    packs: int,
    size: int,
    every_s: float,
    seconds: float,
    home: Path,
) -> dict[str, Any]:
    """Run this number of packs for this time, and return the figures of their reports."""
    commands: list[Sequence[str | Path]] = []
    for n in range(runs):
        body = {
            "workload": "digits-mlp",
            "arms": ["adamp", "adamw"],
            # Enough epochs that no trial ends during the measurement.
            "budget": {"trials_per_arm": packs * size, "epochs": 10_000},
            "sampler": "random",
            "confirmation": {"seeds": 0},
            "resources": {"max_pack_size": size},
        }
        store.submit(parse_spec(body))
        claim = store.claim_next(dispatcher="reports", lease_s=120.0)
        assert claim is not None, "one was just submitted"
        claimed = [
            claim.study_id,
            str(claim.attempt),
            "--packs",
            str(packs),
            "--every-s",
            str(every_s),
            "--for-s",
            str(seconds),
        ]
        commands.append(
            [
                sys.executable,
                Path(__file__).with_name("simulated_runs.py"),
                server.url,
                *claimed,
                "--json",
                home / f"run-{n}.json",
            ]
        )
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for command in commands
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError("a run failed; its error is printed above")
    found = [json.loads((home / f"run-{n}.json").read_text()) for n in range(runs)]
    reports = sum(one["reports"] for one in found)
    late_ms = sorted(1000 * late for one in found for late in one["late_s"])
    return {
        "runs": runs,
        "packs": packs,
        "size": size,
        "every_s": every_s,
        "reports_per_s": sum(one["reports"] / one["wall_s"] for one in found),
        "members_per_s": sum(one["members"] / one["wall_s"] for one in found),
        "cpu_ms_a_report": 1000 * sum(one["cpu_s"] for one in found) / max(1, reports),
        "cores": sum(one["cpu_s"] / one["wall_s"] for one in found),
        "postgres_cores": statistics.fmean(one["postgres_cores"] for one in found),
        "commits_per_s": statistics.fmean(one["commits_per_s"] for one in found),
        "late_ms": [
            late_ms[min(len(late_ms) - 1, int(share * len(late_ms)))] if late_ms else 0.0
            for share in (0.5, 0.99, 1.0)
        ],
    }


def _row(one: dict[str, Any]) -> list[str]:
    return [
        f"{one['runs']} × {one['packs']} × {one['size']}",
        f"{one['reports_per_s']:.0f}",
        f"{one['members_per_s']:.0f}",
        # Packs that report as fast as reports are handled are never late.
        *(f"{ms:.0f}" if one["every_s"] else "" for ms in one["late_ms"][:2]),
        f"{one['cpu_ms_a_report']:.2f}",
        f"{one['cores']:.2f}",
        f"{one['postgres_cores']:.2f}",
        f"{one['commits_per_s']:.0f}",
    ]


def _tune(packs: int, rounds: int) -> dict[str, Any]:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", _TUNE, str(packs), str(rounds)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    if line is None:
        raise RuntimeError(f"Ray Tune did not finish: {done.stderr[-2000:]}")
    return json.loads(line.removeprefix("FOUND "))


def main() -> None:
    """Start the servers, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", choices=["rates", "limit", "tune"], default=["rates", "limit", "tune"]
    )
    parser.add_argument(
        "--workers",
        nargs="+",
        type=int,
        default=[100, 300, 1000],
        help="packs in training, each of which reports once a second",
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8], help="trials in a pack")
    parser.add_argument("--runs", nargs="+", type=int, default=[1, 2], help="runs at once, for `limit`")
    parser.add_argument("--tune", nargs="+", type=int, default=[4, 16, 48], help="actors of Ray Tune")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration in seconds (15)")
    add_outputs(parser)
    given = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "rates": [], "limit": [], "tune": []}
    tables: list[Table] = []
    header = [
        "runs × packs × trials",
        "reports/s",
        "trials/s",
        "late p50 ms",
        "p99 ms",
        "run CPU ms a report",
        "run cores",
        "PostgreSQL cores",
        "commits/s",
    ]
    with tempfile.TemporaryDirectory(prefix="tangent-reports-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        if {"rates", "limit"} & set(given.parts):
            with postgres(home) as server:
                store = Store.open(server.url)
                store.announce(installed_catalog(), dispatcher="reports")
                cases = [("rates", 1, n, size, 1.0) for size in given.sizes for n in given.workers]
                cases += [("limit", n, 16, size, 0.0) for size in given.sizes for n in given.runs]
                for part, runs, packs, size, every_s in cases:
                    if part in given.parts:
                        one = _runs(
                            server,
                            store,
                            runs=runs,
                            packs=packs,
                            size=size,
                            every_s=every_s,
                            seconds=given.seconds,
                            home=home,
                        )
                        measured[part].append(one)
                        print(part, *_row(one), file=sys.stderr, flush=True)
                store.close()
    titles = {
        "rates": "Packs that report once a second",
        "limit": "Packs that report as fast as they are listened to",
    }
    tables += [
        Table(title=titles[part], header=header, rows=[_row(one) for one in measured[part]])
        for part in titles
        if measured[part]
    ]
    if "tune" in given.parts:
        for packs in given.tune:
            measured["tune"].append(_tune(packs, max(20, 1000 // packs)))
            time.sleep(1)
        rows = [
            [
                f"{one['packs']}",
                f"{one['results'] / one['wall_s']:.0f}",
                f"{1000 * one['cpu_s'] / one['results']:.2f}",
                f"{one['cpu_s'] / one['wall_s']:.2f}",
            ]
            for one in measured["tune"]
        ]
        tables.append(
            Table(title="Ray Tune alone", header=["actors", "results/s", "CPU ms a result"], rows=rows)
        )
    publish(given, measured, tables)


if __name__ == "__main__":
    main()
