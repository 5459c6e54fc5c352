r"""A study with Tangent, with plain Optuna and with stock Ray Tune: seconds, and how good the results are.

    .venv/bin/python benchmarks/throughput.py --json throughput.json --markdown throughput.md
    .venv/bin/python benchmarks/throughput.py --studies digits-mlp:32:10 --pruner asha hyperband
    .venv/bin/python benchmarks/throughput.py --studies digits-cnn:32:10 --sides tangent stock \
        --seeds 1 --repeats 1
    # A quick check that takes half a minute:
    .venv/bin/python benchmarks/throughput.py --studies digits-mlp:2:1 --seeds 1 --repeats 1

Sides:
    tangent     `tangent up` on SQLite, with requests over HTTP. *Cold* runs from the start of the service on
                an empty folder to the end of its first study. *Warm* runs from the submission of a later
                study, when the service has become idle, to its end. Confirmation and paired search are off,
                because no other side has them.
    default     warm studies of Tangent's default design, with paired search and confirmation
                (`--design default`).
    optuna      plain Optuna: a process for each core, which share a journal file; see `plain_optuna.py`. The
                seconds include the start of the processes and their imports.
    stock       `ray.tune.Tuner` with `OptunaSearch` (TPE) and a function trainable, one Tuner per arm; see
                `stock.py`. Warm is with Ray already up, and cold includes its start.
    reused      the same with `reuse_actors=True`, which Tune leaves off by default: the fastest that Tune
                alone can be.

All sides train the same arms (AdamP, AdamW, SGDP and SGD over the spaces of examples/digits.json), trials,
epochs, batches and schedule of the same workload, with TPE and `--cpus` trials or packs of one thread at
once. With the pruners `asha` and `hyperband`, Optuna uses its own `SuccessiveHalvingPruner` and
`HyperbandPruner`, and Ray its own ASHA.

Each of the `--repeats` rounds starts every side anew, in another order, and runs its part of the `--seeds`
seeds. Seconds are medians over all studies of a side. CPU seconds are those of all its processes, including
Ray's and the workers', during warm studies. The best validation value of an arm is the mean over the seeds
with its 95 % interval, by Student's t.

A study is WORKLOAD:TRIALS:EPOCHS, with the trials of each arm. The larger models get fewer trials and epochs
than their cards say, so that the whole table takes half an hour. `stock` takes minutes for each study.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

import optuna
from load_processes import free_port, started, wait_for
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from side_processes import Side
from tables import Table, add_outputs, machine, publish

from service.client import Client
from studies.resolve import ResolvedStudy, resolve
from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.statistics.paired import mean_interval
from studies.views import StudyView
from workers.catalog import installed_catalog

__all__ = ["main"]

_HERE = Path(__file__).parent
_ARMS = ("adamp", "adamw", "sgdp", "sgd")
_SIDES = ("tangent", "optuna", "stock", "reused")
_STUDIES: Final = (
    "digits-mlp:32:10",
    "digits-cnn:32:10",
    "digits-mlp:128:10",
    "mnist5k-cnn:16:5",
    "pydoc-lm:8:1",
)
_LOOK_EVERY_S = 0.25
_START_WITHIN_S = 180.0

Measured = dict[str, Any]
"""One study: its `side` and `seed`, and `warm_s`, `cold_s`, `cpu_s` and `arms` where they apply."""


def _body(given: argparse.Namespace, study: Sequence[str], *, pruner: str, seed: int) -> dict[str, Any]:
    """Return the study's submission as JSON."""
    workload, trials, epochs = study
    arms = json.loads((_HERE.parent / "examples" / "digits.json").read_text())["arms"]
    return {
        "workload": workload,
        "arms": [arm for arm in arms if arm["optimizer"] in given.arms],
        "budget": {"trials_per_arm": int(trials), "epochs": int(epochs)},
        "sampler": "tpe",
        "pruner": pruner,
        "seed": seed,
        "confirmation": {"seeds": 0},
        "search": {"paired": 0},
    }


def _tangent(given: argparse.Namespace, bodies: Sequence[dict[str, Any]]) -> Iterator[Measured]:
    """Yield what a new service takes for its first study, and then for each study once it is warm."""
    with tempfile.TemporaryDirectory(prefix="tangent-throughput-") as folder, Side() as side:
        log, port = Path(folder) / "up.log", free_port()
        command = [Path(sys.executable).parent / "tangent", "up", "--port", str(port)]
        environment = {**side.environment, "TANGENT_HOME": folder, "TANGENT_CPUS": str(given.cpus)}
        begun = datetime.now(UTC)
        with (
            started(command, log, environment, ends_within_s=40.0) as up,
            Client(f"http://127.0.0.1:{port}") as client,
        ):
            wait_for(port, up, log, within_s=_START_WITHIN_S)
            _wait_for_catalogue(client, bodies[0])
            study = _carried_out(client, bodies[0])
            yield {"side": "tangent", "seed": bodies[0]["seed"], "cold_s": _seconds(begun, study.ended_at)}
            for body in bodies:
                designs = {"tangent": body}
                if given.design == "default":
                    paired = {name: body[name] for name in body if name not in {"confirmation", "search"}}
                    designs["default"] = paired
                for name, design in designs.items():
                    side.rest()
                    used_before = side.cpu_s
                    study = _carried_out(client, design)
                    yield {
                        "side": name,
                        "seed": body["seed"],
                        "warm_s": _seconds(study.created_at, study.ended_at),
                        "cpu_s": side.cpu_s - used_before,
                        "arms": _arms(client, study.id),
                    }


def _seconds(begun: datetime, ended: datetime | None) -> float:
    assert ended is not None, "the study is closed"
    return (ended - begun).total_seconds()


def _wait_for_catalogue(client: Client, body: Mapping[str, Any]) -> None:
    """Wait until the service knows the study's workload, which its dispatcher announces."""
    deadline = time.monotonic() + _START_WITHIN_S
    while body["workload"] not in client.workloads():
        if time.monotonic() > deadline:
            raise RuntimeError("expected a dispatcher that announces its catalogue, got none in time")
        time.sleep(0.1)


def _carried_out(client: Client, body: dict[str, Any]) -> StudyView:
    """Submit a study, wait until it is closed, and return it."""
    study = client.submit(body)
    while study.state not in CLOSED_STUDY_STATES:
        time.sleep(_LOOK_EVERY_S)
        study = client.study(study.id)
    if study.state is not StudyState.COMPLETED:
        raise RuntimeError(
            f"expected the study to complete, but it is {study.state.value}: {study.state_reason}"
        )
    return study


def _arms(client: Client, study_id: str) -> dict[str, Any]:
    epochs = Counter[str]()
    for trial in client.every_trial(study_id, phase="all"):
        epochs[trial.arm] += trial.epochs_done
    return {
        arm.name: {
            "best": arm.best.value if arm.best is not None else None,
            "trials": arm.progress.trials,
            "completed": arm.progress.completed,
            "failed": arm.progress.failed,
            "epochs": epochs[arm.name],
        }
        for arm in client.arms(study_id)
    }


def _optuna(given: argparse.Namespace, plan: ResolvedStudy, *, pruner: str, seed: int) -> Measured:
    """Return what plain Optuna takes for a study, with the start of its processes."""
    with tempfile.TemporaryDirectory(prefix="plain-optuna-") as folder, Side() as side:
        storage = f"{folder}/journal.log"
        asked = {"plan": plan.model_dump(mode="json"), "pruner": pruner, "seed": seed, "storage": storage}
        trials = plan.arms[0].trials
        begun = time.monotonic()
        processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(_HERE / "plain_optuna.py"),
                    json.dumps(
                        {
                            **asked,
                            "sampler_seed": seed * given.cpus + n,
                            "trials": trials // given.cpus + (n < trials % given.cpus),
                        }
                    ),
                ],
                env=side.environment,
                # As `tangent up` is started, so that a scheduler that groups sessions treats both alike.
                start_new_session=True,
            )
            for n in range(given.cpus)
        ]
        codes = [process.wait() for process in processes]
        wall_s = time.monotonic() - begun
        if any(codes):
            raise RuntimeError(
                "expected a result from plain Optuna, but a process failed; see its error above"
            )
        return {
            "side": "optuna",
            "seed": seed,
            "warm_s": wall_s,
            "cold_s": wall_s,
            "cpu_s": side.cpu_s,
            "arms": {arm.name: _optuna_arm(storage, arm.name, plan) for arm in plan.arms},
        }


def _optuna_arm(storage: str, name: str, plan: ResolvedStudy) -> dict[str, Any]:
    study = optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(storage)))
    trials = study.trials
    completed = [trial.value for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
    return {
        "best": study.best_value if completed else None,
        "trials": len(trials),
        "completed": len(completed),
        "failed": sum(trial.state is optuna.trial.TrialState.FAIL for trial in trials),
        # Without a pruner only whole trials and trials that diverged exist, and reports are left out.
        "epochs": sum(len(trial.intermediate_values) or plan.epochs for trial in trials),
    }


def _stock(
    given: argparse.Namespace, plan: ResolvedStudy, *, pruner: str, seed: int, reuse_actors: bool
) -> Measured:
    """Return what the same search takes with Ray Tune alone, without and with the start of its Ray."""
    asked = {
        "plan": plan.model_dump(mode="json"),
        "pruner": pruner,
        "seed": seed,
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
            found = json.loads(answer)
            return {
                "side": "reused" if reuse_actors else "stock",
                "seed": seed,
                "warm_s": found["wall_s"],
                "cold_s": start_s + found["wall_s"],
                "cpu_s": side.cpu_s - used_before,
                "arms": found["arms"],
            }
        finally:
            process.stdin.close()
            process.wait()


def _ended(errors: IO[str]) -> RuntimeError:
    errors.seek(0)
    return RuntimeError(f"expected a result from Ray Tune's side, but it ended: {errors.read()[-4000:]}")


def _round(
    given: argparse.Namespace,
    study: Sequence[str],
    *,
    pruner: str,
    seeds: Sequence[int],
    sides: Sequence[str],
) -> Iterator[Measured]:
    """Yield what each side takes for the study with each of these seeds."""
    bodies = [_body(given, study, pruner=pruner, seed=seed) for seed in seeds]
    for side in sides:
        if side == "tangent":
            yield from _tangent(given, bodies)
            continue
        for body in bodies:
            plan = resolve(parse_spec(body), installed_catalog())
            if side == "optuna":
                yield _optuna(given, plan, pruner=pruner, seed=body["seed"])
            else:
                yield _stock(given, plan, pruner=pruner, seed=body["seed"], reuse_actors=side == "reused")


def _table(found: Sequence[Measured], *, title: str) -> Table:
    sides = list(dict.fromkeys(one["side"] for one in found))

    def median(side: str, name: str) -> float | None:
        values = [one[name] for one in found if one["side"] == side and name in one]
        return statistics.median(values) if values else None

    arms = next(one["arms"] for one in found if "arms" in one)
    header = ["side", "warm s", "/ optuna", "cold s", "- optuna", "CPU s", "epochs", *arms]
    rows: list[list[str]] = []
    notes: list[str] = []
    for side in sides:
        whole = [one for one in found if one["side"] == side and "arms" in one]
        row = [side]
        for name, sign in (("warm_s", "/"), ("cold_s", "-")):
            own, plain = median(side, name), median("optuna", name)
            against = ""
            if own is not None and plain is not None:
                against = f"{own / plain:.2f}" if sign == "/" else f"{own - plain:+.1f}"
            row += ["" if own is None else f"{own:.1f}", against]
        row.append(f"{median(side, 'cpu_s'):.1f}")
        row.append(
            f"{statistics.fmean(sum(arm['epochs'] for arm in one['arms'].values()) for one in whole):.0f}"
        )
        row += [_mean_text([one["arms"][arm]["best"] for one in whole]) for arm in arms]
        rows.append(row)
        failed = sum(arm["failed"] for one in whole for arm in one["arms"].values())
        if failed:
            notes.append(f"{side}: {failed} trials failed")
    return Table(title=title, header=header, rows=rows, notes=notes)


def _summary(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the seconds of Tangent and of plain Optuna, one row for each study."""
    header = ["study", "pruner", "plain Optuna s", "Tangent, warm s", "/ Optuna", "cold s", "- Optuna"]
    header += ["default design, warm s", "CPU s: plain Optuna", "Tangent"]
    rows: list[list[str]] = []
    for run in runs:
        workload, trials, epochs = run["study"]

        def median(side: str, name: str, found: Sequence[Measured] = run["found"]) -> float:
            values = [one[name] for one in found if one["side"] == side and name in one]
            return statistics.median(values) if values else math.nan

        plain, warm, cold = (
            median("optuna", "warm_s"),
            median("tangent", "warm_s"),
            median("tangent", "cold_s"),
        )
        seconds = [
            f"{plain:.1f}",
            f"{warm:.1f}",
            f"{warm / plain:.2f}",
            f"{cold:.1f}",
            f"{cold - plain:+.1f}",
        ]
        seconds += [
            f"{value:.1f}"
            for value in (
                median("default", "warm_s"),
                median("optuna", "cpu_s"),
                median("tangent", "cpu_s"),
            )
        ]
        study = f"{workload}, {len(run['found'][-1]['arms'])} × {trials}, {epochs} epochs"
        rows.append([study, run["pruner"], *("" if text == "nan" else text for text in seconds)])
    return Table(title="Tangent and plain Optuna", header=header, rows=rows)


def _mean_text(values: Sequence[float | None]) -> str:
    estimate = mean_interval([value for value in values if value is not None])
    if math.isnan(estimate.mean):
        return "none"
    half = (estimate.high - estimate.low) / 2
    return f"{estimate.mean:.4f}" + ("" if math.isnan(half) else f" ± {half:.4f}")


def _study(given: str) -> list[str]:
    parts = given.split(":")
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise argparse.ArgumentTypeError(
            f"expected WORKLOAD:TRIALS:EPOCHS, got {given!r}; write digits-mlp:32:10"
        )
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--studies",
        nargs="+",
        type=_study,
        default=[_study(study) for study in _STUDIES],
        metavar="WORKLOAD:TRIALS:EPOCHS",
        help=f"studies ({' '.join(_STUDIES)})",
    )
    parser.add_argument("--pruner", nargs="+", choices=["none", "asha", "hyperband"], default=["none"])
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=["tangent", "optuna"])
    parser.add_argument(
        "--design",
        choices=["plain", "default"],
        default="plain",
        help="`default` adds studies of Tangent's default design",
    )
    parser.add_argument("--arms", nargs="+", choices=_ARMS, default=_ARMS)
    parser.add_argument("--cpus", type=int, default=2, help="trials or packs at once (2)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument(
        "--seeds", type=int, default=5, help="studies with different seeds, in all rounds (5)"
    )
    add_outputs(parser)
    given = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "runs": []}
    tables: list[Table] = []
    for study in given.studies:
        for pruner in given.pruner:
            found: list[Measured] = []
            for n in range(given.repeats):
                # A new order in every round, so that other load on the machine does not always hit the same
                # side.
                order = given.sides[:: -1 if n % 2 else 1]
                seeds = range(n, max(given.seeds, given.repeats), given.repeats)
                for one in _round(given, study, pruner=pruner, seeds=seeds, sides=order):
                    found.append(one)
                    took = {
                        name: round(one[name], 1) for name in ("warm_s", "cold_s", "cpu_s") if name in one
                    }
                    print(
                        ":".join(study), pruner, one["side"], one["seed"], took, file=sys.stderr, flush=True
                    )
            measured["runs"].append({"study": study, "pruner": pruner, "found": found})
            workload, trials, epochs = study
            title = (
                f"{workload}, pruner {pruner}: {len(given.arms)} arms of {trials} trials, {epochs} epochs, "
                f"{given.cpus} cores, {max(given.seeds, given.repeats)} seeds"
            )
            tables.append(_table(found, title=title))
    if {"tangent", "optuna"} <= set(given.sides):
        tables.insert(0, _summary(measured["runs"]))
    publish(given, measured, tables)


if __name__ == "__main__":
    main()
