"""The overhead of a study besides training: milliseconds per pack and trial, and memory, by study size.

    .venv/bin/python benchmarks/overhead.py --json overhead.json --markdown overhead.md
    .venv/bin/python benchmarks/overhead.py --sizes 100 --sampler tpe
    .venv/bin/python benchmarks/overhead.py --sizes 60 --pack-size 1
    .venv/bin/python benchmarks/overhead.py --design plain    # without paired search and confirmation

A separate dispatcher, on SQLite in a temporary folder, runs studies of a workload that trains almost nothing
(`nothing.py`: one step on one weight), in packs of `--pack-size`, with paired search and confirmation as by
default; confirmation runs count as trials too. A first small study does not count. Then, for each size, a
study is submitted once the processes are idle. The figures cover the time from the end of each worker's first
pack, which waits for its imports, to the end of the last trial:

    ms a pack, ms a trial   wall time minus the training seconds on each core, per pack and per trial.
                            Packs on several cores overlap.
    first s                 from the submission to the end of the first trial, including the workers' imports.
    run MB                  resident memory of the study's run process: before it received the study, and
                            peak.

Optuna's copy is measured separately. A thread of the run writes it in parallel, but competes for a core and
for the database's lock. Each size has one study without the copy (see `without_copies.py`) and one with it.
`copied` is the number of trials already copied when the study was closed, and `copy ms` is the time that the
copy of one trial takes by itself, measured for up to 10 s on the study without a copy.

100, 1,000 and 10,000 trials take about 10 minutes.
"""

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from dispatch import Dispatch, dispatching
from nothing import Nothing
from side_processes import Side
from tables import Table, add_outputs, machine, publish
from without_copies import SIGN

from studies.views import TrialView

__all__ = ["main"]

_COPY_FOR_S = 10.0


class _Memory:
    """A monitor of a running process's resident memory in MB: initial and peak."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.before = self.peak = self._read("VmRSS")
        self._watcher = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        with contextlib.suppress(OSError, StopIteration):
            while True:
                self.peak = max(self.peak, self._read("VmHWM"))
                time.sleep(0.2)

    def _read(self, name: str) -> float:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024


def _beyond_training(trials: Sequence[TrialView]) -> dict[str, float]:
    """Return the overhead in milliseconds per pack and per trial, after every worker's first pack."""
    ended = sorted(
        ((trial.ended_at, trial) for trial in trials if trial.ended_at is not None), key=lambda item: item[0]
    )
    firsts = {trial.worker: trial.started_at for _, trial in reversed(ended)}
    # The members of a first pack end within one report of each other, and the next pack begins after that.
    begun = max(at for at, trial in ended if trial.started_at is not None and _is_first(trial, firsts))
    counted = [trial for at, trial in ended if at > begun]
    if not counted:
        raise RuntimeError("expected more packs than workers; raise --sizes")
    wall_s = (ended[-1][0] - begun).total_seconds()
    overhead_ms = 1000 * (wall_s - sum(trial.cost_s for trial in counted) / len(firsts))
    packs = sum(1 / _pack_size(trial) for trial in counted)
    return {
        "ms_a_pack": overhead_ms / packs,
        "ms_a_trial": overhead_ms / len(counted),
        "trained_ms_a_trial": 1000 * statistics.fmean(trial.cost_s for trial in counted),
        "wall_s": wall_s,
        "packs": packs,
        "trials": len(counted),
    }


def _is_first(trial: TrialView, firsts: dict[str | None, Any]) -> bool:
    first = firsts[trial.worker]
    return (
        first is not None
        and trial.started_at is not None
        and (trial.started_at - first).total_seconds() < 0.02
    )


def _pack_size(trial: TrialView) -> int:
    return trial.pack_size or 1


def _measure(dispatch: Dispatch, given: argparse.Namespace, size: int, *, has_copy: bool) -> dict[str, Any]:
    """Return the overhead of a study with this number of trials."""
    sign = dispatch.home / SIGN
    sign.unlink(missing_ok=True)
    if not has_copy:
        sign.touch()
    dispatch.ready()
    pid = dispatch.run_pid()
    assert pid is not None, "a run process is waiting for the study"
    memory = _Memory(pid)
    study = dispatch.carried_out(_body(given, trials=size))
    with contextlib.closing(sqlite3.connect(dispatch.home / "tangent.db")) as connection:
        (copied,) = connection.execute(
            "SELECT count(*) FROM trial WHERE study_id = ? AND copy_state = 1", [study.id]
        ).fetchone()
    trials = dispatch.store.every_trial(study.id, phase=None)
    ends = [trial.ended_at for trial in trials if trial.ended_at is not None]
    while pid in dispatch.runs():
        # The run may still be copying, and its memory still counts.
        time.sleep(0.2)
    found = {
        "size": size,
        "has_copy": has_copy,
        "first_s": (min(ends) - study.created_at).total_seconds(),
        **_beyond_training(trials),
        "copied": copied,
        "run_mb_before": memory.before,
        "run_mb_peak": memory.peak,
    }
    if not has_copy:
        begun = time.monotonic()
        copied = dispatch.store.copy_to_optuna(study.id, within_s=_COPY_FOR_S)
        found["copy_ms"] = 1000 * (time.monotonic() - begun) / max(1, copied)
    return found


def _fix_width(home: Path, width: int) -> None:
    """Use the pack size as stack width, because speeds measured without training are noise."""
    with contextlib.closing(sqlite3.connect(home / "tangent.db")) as connection:
        connection.execute("UPDATE fit SET card = json_set(card, '$.width', ?)", [width])
        connection.commit()


def _body(given: argparse.Namespace, *, trials: int) -> dict[str, Any]:
    plain = {"confirmation": {"seeds": 0}, "search": {"paired": 0}}
    return {
        "workload": Nothing.card.name,
        "arms": given.arms,
        "budget": {"trials_per_arm": max(1, trials // len(given.arms)), "epochs": 1},
        "sampler": given.sampler,
        "resources": {"max_pack_size": given.pack_size},
        # All its splits are the same example, which the check would refuse.
        "check_workload": False,
        **(plain if given.design == "plain" else {}),
    }


def _installed(folder: Path) -> Path:
    """Return a folder that looks like an installed package with the workload.

    It also contains the module that Python imports at startup.
    """
    metadata = folder / "tangent_nothing-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tangent-nothing\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tangent.workloads]\nnothing = nothing:Nothing\n")
    (folder / "sitecustomize.py").write_text("import without_copies\n\nwithout_copies.install()\n")
    return folder


def _table(found: Sequence[dict[str, Any]], *, title: str) -> Table:
    names = (
        "first_s",
        "ms_a_pack",
        "ms_a_trial",
        "trained_ms_a_trial",
        "copied",
        "copy_ms",
        "run_mb_before",
        "run_mb_peak",
    )
    header = [
        "trials",
        "first s",
        "ms a pack",
        "ms a trial",
        "training ms a trial",
        "copied",
        "copy ms",
        "run MB before",
        "run MB at most",
    ]
    kinds = list(dict.fromkeys((one["has_copy"], one["size"]) for one in found))
    medians: dict[tuple[bool, int, str], float] = {}
    rows: list[list[str]] = []
    for has_copy, size in sorted(kinds):
        row = [f"{size:,} {'with' if has_copy else 'without'} copy"]
        for name in names:
            values = [
                one[name]
                for one in found
                if (one["has_copy"], one["size"]) == (has_copy, size) and name in one
            ]
            medians[has_copy, size, name] = statistics.median(values) if values else 0.0
            row.append(
                f"{medians[has_copy, size, name]:.{0 if name.startswith(('copied', 'run')) else 2}f}"
                if values
                else ""
            )
        rows.append(row)
    notes: list[str] = []
    for has_copy in (False, True):
        sizes = sorted(size for is_with, size in kinds if is_with is has_copy)
        if len(sizes) > 1:
            ratio = medians[has_copy, sizes[-1], "ms_a_trial"] / medians[has_copy, sizes[0], "ms_a_trial"]
            what = "with" if has_copy else "without"
            notes.append(
                f"A trial of {sizes[-1]:,} costs {ratio:.2f} times what one of "
                f"{sizes[0]:,} does, {what} the copy."
            )
    return Table(title=title, header=header, rows=rows, notes=notes)


def main() -> None:
    """Start a dispatcher, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 10_000], help="trials of a study")
    parser.add_argument("--pack-size", type=int, default=8, help="largest number of trials in a pack (8)")
    parser.add_argument("--arms", nargs="+", default=["adamp"], help="optimizers (adamp)")
    parser.add_argument("--sampler", default="random", help="how configurations are chosen (random)")
    parser.add_argument(
        "--design",
        choices=["plain", "default"],
        default="default",
        help="with paired search and confirmation, or without (default)",
    )
    parser.add_argument("--cpus", type=int, default=2, help="packs trained at once (2)")
    parser.add_argument(
        "--copies",
        nargs="+",
        choices=["without", "with"],
        default=["without", "with"],
        help="whether studies have the copy",
    )
    parser.add_argument("--repeats", type=int, default=1, help="studies of each size (1)")
    add_outputs(parser)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    measured: dict[str, Any] = {
        "machine": machine(),
        "sampler": given.sampler,
        "design": given.design,
        "pack_size": given.pack_size,
        "studies": [],
    }
    with tempfile.TemporaryDirectory(prefix="tangent-overhead-") as folder, Side() as side:
        home = Path(folder) / "home"
        home.mkdir()
        paths = [Path(__file__).parent, _installed(Path(folder) / "site")]
        with dispatching(home, side, cpus=given.cpus, paths=paths) as dispatch:
            dispatch.ready()
            dispatch.carried_out(_body(given, trials=2 * given.cpus * given.pack_size * len(given.arms)))
            _fix_width(home, given.pack_size)
            for _ in range(given.repeats):
                for size in given.sizes:
                    for has_copy in (name == "with" for name in given.copies):
                        one = _measure(dispatch, given, size, has_copy=has_copy)
                        measured["studies"].append(one)
                        what = f"{size} trials {'with' if has_copy else 'without'} the copy"
                        print(
                            f"{what}: {one['ms_a_pack']:.1f} ms a pack, {one['ms_a_trial']:.2f} ms a trial",
                            file=sys.stderr,
                            flush=True,
                        )
    title = (
        f"Beyond training: {', '.join(given.arms)}, packs of {given.pack_size}, sampler "
        f"{given.sampler}, design {given.design}, {given.cpus} cores, SQLite"
    )
    publish(given, measured, [_table(measured["studies"], title=title)])


if __name__ == "__main__":
    main()
