r"""The demo's study with Tangent and with Ray Tune alone: wall seconds, processor seconds and best results.

    .venv/bin/python benchmarks/throughput.py
    .venv/bin/python benchmarks/throughput.py --workload digits-mlp --pruner asha \
        --json throughput.json --markdown throughput.md
    # A quick check that takes a minute:
    .venv/bin/python benchmarks/throughput.py --trials 2 --epochs 1 --workload digits-mlp \
        --sides tangent reused

Sides:
    tangent     a dispatcher on SQLite; the clock runs from a study's submission to its end.
    stock       `ray.tune.Tuner` with `OptunaSearch` (TPE) and a function trainable, one Tuner per arm; see
                `stock.py`.
    reused      the same with `reuse_actors=True`, which Tune leaves off by default: the fastest that Tune
                alone can be.

All sides train the same arms (AdamP, AdamW, SGDP and SGD over the spaces of examples/digits.json), trials,
epochs, batches and schedule of the same workload, with `--cpus` trials or packs of one thread at once. Each
round gives every side a new process with its own Ray, in a new order. The clock starts once that process is
idle and its Ray is up; the time this takes is listed separately, and the table also has the wall time that
includes it. Processor seconds are those of all processes of the side, including Ray's and the workers', while
the clock runs. Figures are medians over the rounds; the best validation value of each arm is from the last
round.

The full run, 4 arms of 32 trials and 10 epochs, takes about 10 minutes for each workload and pruner, nearly
all of it for `stock`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dispatch import dispatching
from side_processes import Side
from tables import Table, add_outputs, machine, publish

from studies.resolve import ResolvedStudy, resolve
from studies.spec import parse_spec
from workers.catalog import installed_catalog

__all__ = ["main"]

_HERE = Path(__file__).parent
_ARMS = ("adamp", "adamw", "sgdp", "sgd")
_SIDES = ("tangent", "stock", "reused")


def _body(given: argparse.Namespace, *, workload: str, pruner: str) -> dict[str, Any]:
    """Return the study's submission as JSON."""
    arms = json.loads((_HERE.parent / "examples" / "digits.json").read_text())["arms"]
    return {
        "workload": workload,
        "arms": [arm for arm in arms if arm["optimizer"] in given.arms],
        "budget": {"trials_per_arm": given.trials, "epochs": given.epochs},
        # Ray Tune has no confirmation runs either.
        "confirmation": {"seeds": 0},
        "sampler": "tpe",
        # Nor does it pair the first trials of its searches.
        "search": {"paired": 0},
        "pruner": pruner,
        "seed": given.seed,
    }


def _tangent(given: argparse.Namespace, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the time and the results of the study with Tangent."""
    with tempfile.TemporaryDirectory(prefix="tangent-throughput-") as folder, Side() as side:
        begun = time.monotonic()
        with dispatching(Path(folder), side, cpus=given.cpus) as dispatch:
            start_s = dispatch.ready() - begun
            used_before = side.cpu_s
            study = dispatch.carried_out(body)
            cpu_s = side.cpu_s - used_before
            assert study.ended_at is not None, "it is closed"
            trials = dispatch.store.every_trial(study.id)
            arms = {
                arm.name: {
                    "best": arm.best.value if arm.best is not None else None,
                    "trials": arm.progress.trials,
                    "completed": arm.progress.completed,
                    "failed": arm.progress.failed,
                    "epochs": sum(trial.epochs_done for trial in trials if trial.arm == arm.name),
                }
                for arm in dispatch.store.arms(study.id)
            }
            wall_s = (study.ended_at - study.created_at).total_seconds()
            return {
                "start_s": start_s,
                "wall_s": wall_s,
                "cpu_s": cpu_s,
                "trained_s": sum(trial.cost_s for trial in trials),
                "arms": arms,
            }


def _stock(
    given: argparse.Namespace, plan: ResolvedStudy, *, pruner: str, reuse_actors: bool
) -> dict[str, Any]:
    """Return the time and the results of the same search with Ray Tune alone."""
    asked = {
        "plan": plan.model_dump(mode="json"),
        "pruner": pruner,
        "seed": given.seed,
        "cpus": given.cpus,
        "reuse_actors": reuse_actors,
    }
    with Side() as side, tempfile.TemporaryFile("w+") as errors:
        begun = time.monotonic()
        command = [sys.executable, str(_HERE / "stock.py"), str(given.cpus)]
        process = subprocess.Popen(
            command,
            env=side.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdin is not None, "it is started with a pipe"
        assert process.stdout is not None, "it is started with a pipe"
        try:
            if process.stdout.readline().strip() != "ready":
                raise _ended(errors)
            start_s = side.rest() - begun
            used_before = side.cpu_s
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise _ended(errors)
            return {"start_s": start_s, "cpu_s": side.cpu_s - used_before, **json.loads(answer)}
        finally:
            process.stdin.close()
            process.wait()


def _ended(errors: IO[str]) -> RuntimeError:
    errors.seek(0)
    return RuntimeError(f"expected a result from Ray Tune's side, but it ended: {errors.read()[-4000:]}")


def _table(runs: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> Table:
    def median(side: str, *names: str) -> float:
        return statistics.median(sum(run[name] for name in names) for run in runs[side])

    header = [
        "side",
        "wall s",
        "/ tangent",
        "with start s",
        "/ tangent",
        "CPU s",
        "/ tangent",
        "epochs",
        *next(iter(runs.values()))[-1]["arms"],
    ]
    rows: list[list[str]] = []
    for side in runs:
        row = [side]
        for names in (("wall_s",), ("wall_s", "start_s"), ("cpu_s",)):
            against = f"{median(side, *names) / median('tangent', *names):.2f}" if "tangent" in runs else ""
            row += [f"{median(side, *names):.1f}", against]
        arms = runs[side][-1]["arms"]
        row.append(str(sum(arm["epochs"] for arm in arms.values())))
        rows.append(row + ["none" if arm["best"] is None else f"{arm['best']:.4f}" for arm in arms.values()])
    failed = [
        f"{side}: {n} trials failed"
        for side in runs
        if (n := sum(arm["failed"] for arm in runs[side][-1]["arms"].values()))
    ]
    return Table(title=title, header=header, rows=rows, notes=failed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", nargs="+", default=["digits-mlp", "digits-cnn"])
    parser.add_argument("--pruner", nargs="+", choices=["none", "asha"], default=["none", "asha"])
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=_SIDES)
    parser.add_argument("--arms", nargs="+", choices=_ARMS, default=_ARMS)
    parser.add_argument("--trials", type=int, default=32, help="trials of each arm (32)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each trial (10)")
    parser.add_argument("--cpus", type=int, default=2, help="trials or packs at once (2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of samplers, models and data order (0)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds (1)")
    add_outputs(parser)
    given = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "runs": []}
    tables: list[Table] = []
    for workload in given.workload:
        for pruner in given.pruner:
            body = _body(given, workload=workload, pruner=pruner)
            plan = resolve(parse_spec(body), installed_catalog())
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in _SIDES if side in given.sides}
            for n in range(given.repeats):
                # A new order in every round, so that other load on the machine does not always hit the same
                # side.
                for side in list(runs)[:: -1 if n % 2 else 1]:
                    took = (
                        _tangent(given, body)
                        if side == "tangent"
                        else _stock(given, plan, pruner=pruner, reuse_actors=side == "reused")
                    )
                    runs[side].append(took)
                    print(
                        f"{workload}, {pruner}, {side}: {took['wall_s']:.1f} s, {took['cpu_s']:.1f} CPU s",
                        file=sys.stderr,
                        flush=True,
                    )
            measured["runs"].append(
                {
                    "workload": workload,
                    "pruner": pruner,
                    "trials": given.trials,
                    "epochs": given.epochs,
                    "sides": runs,
                }
            )
            title = (
                f"{workload}, pruner {pruner}: {len(plan.arms)} arms of {given.trials} trials, "
                f"{given.epochs} epochs, {given.cpus} cores"
            )
            tables.append(_table(runs, title=title))
    publish(given, measured, tables)


if __name__ == "__main__":
    main()
