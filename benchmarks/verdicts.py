"""How often verdicts are right, wrong or undecided, and intervals contain the truth, when it is known.

Everything is simulated; nothing is trained.

    .venv/bin/python benchmarks/verdicts.py --json verdicts.json --markdown verdicts.md
    .venv/bin/python benchmarks/verdicts.py --parts surface --studies 200

Parts:
    coverage    the interval of a mean over seeds: normal and skewed values, and accuracies on 360 examples,
                which come in steps.
    surface     studies of two arms that search a closed-form surface at random: the same optimizer twice, or
                one that is better by a known gap.
    family      studies of four arms with the same optimizer: how often any of the six pairs is called.
    metrics     studies of two arms with the same optimizer that name metrics beside the objective: how often
                any of them calls an arm.
    budget      studies whose arms have paired trials, judged by tuning budget without confirmation: false
                words (the most in any column), how often the better arm is called, and how often the band
                over all budgets and pairs holds all true differences. One factor is varied at a time.
    shifts      the same for two arms whose peaks lie apart.
    looks       studies that add paired trials until their arms are decided.
    budget-tables
                the verdict by tuning budget on HPOBench's tables.
    opda        the verdict by tuning budget on two published random searches, which are not paired; `--opda`
                names the folder with `deberta-base.jsonl` and `deberta-v3-base.jsonl`
                (github.com/nalourie/opda, `data/deberta`).
    tables      the same as `surface` on HPOBench's tables of multilayer perceptrons with `ArmSampler`.
                Each table is searched once and the searches are assigned to studies at random; those of the
                better arm are the same ones, shifted by the gap.

The first five take about ten minutes on one core, `tables` most of it. `budget` with 2,000 studies per figure
takes about half an hour; `shifts`, `looks`, `budget-tables` and `opda` a few minutes each.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from studies.spec import ADAPTIVE_SAMPLERS

# torch reads this once, at its first import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from budget_settings import (
    budget_verdicts,
    look_verdicts,
    published_verdicts,
    shifted_verdicts,
    table_verdicts,
)
from numpy.typing import NDArray
from races import Outcomes, Search, Surface, called_by_metrics, moved, outcomes, searches_of_table, undoubted
from tables import Table, add_outputs, machine, publish

from studies.spec import SamplerName
from studies.statistics.paired import mean_interval

__all__ = ["main"]

_FIRST = ("coverage", "surface", "family", "metrics", "tables")
_BY_BUDGET = ("budget", "shifts", "looks", "budget-tables")
_PARTS = (*_FIRST, *_BY_BUDGET, "opda")
_TOP = 0.93


def _accuracy(noise: float) -> Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]:
    return lambda rng, shape: np.round(360 * np.clip(_TOP + noise * rng.normal(size=shape), 0, 1)) / 360


_VALUES: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]] = {
    "normal": lambda rng, shape: rng.normal(1.0, 0.1, shape),
    "skewed (log-normal, sigma 0.5)": lambda rng, shape: rng.lognormal(0.0, 0.5, shape),
    "accuracy, noise 1.5 %": _accuracy(0.015),
    "accuracy, noise 0.5 %": _accuracy(0.005),
    "accuracy, noise 0.2 %": _accuracy(0.002),
}


def _coverage(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for name, values in _VALUES.items():
        row = [name]
        for seeds in given.seeds:
            rng = np.random.default_rng([1, seeds])
            true = float(values(rng, (1_000_000, 1)).mean())
            intervals = [mean_interval(runs) for runs in values(rng, (given.samples, seeds))]
            known = [interval for interval in intervals if not np.isnan(interval.low)]
            covered = sum(interval.low <= true <= interval.high for interval in known) / len(known)
            found.append(
                {
                    "values": name,
                    "seeds": seeds,
                    "covered": covered,
                    "without": 1 - len(known) / len(intervals),
                }
            )
            row.append(
                f"{covered:.1%}"
                + (f" ({found[-1]['without']:.0%} have none)" if len(known) < 0.995 * len(intervals) else "")
            )
        rows.append(row)
    header = ["values", *(f"{seeds} seeds" for seeds in given.seeds)]
    return found, Table(
        title=f"95 % intervals of a mean that contain it, {given.samples} samples", header=header, rows=rows
    )


def _surface(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for replicates in given.replicates:
        for trials in given.trials:
            for noise in given.noises:
                per_gap: list[Outcomes] = []
                for gap in given.gaps:
                    rng = np.random.default_rng([2, replicates, trials, round(1e4 * noise), round(1e4 * gap)])
                    surfaces = [Surface(top=_TOP, noise=noise), Surface(top=_TOP + gap, noise=noise)]
                    draw = _on_surfaces(
                        surfaces, rng, trials=trials, replicates=replicates, seeds=given.confirmed
                    )
                    per_gap.append(outcomes(given.studies, draw=draw, gap=gap, adaptive=False))
                    found.append(
                        {
                            "replicates": replicates,
                            "trials": trials,
                            "noise": noise,
                            "gap": gap,
                            **asdict(per_gap[-1]),
                        }
                    )
                rows.append(
                    [f"{replicates} × {trials}, noise {noise:.1%}", *_outcome_cells(per_gap, given.gaps)]
                )
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    return found, Table(
        title=f"A surface, random search, {given.confirmed} seeds, {given.studies} studies each",
        header=_header(given.gaps),
        rows=rows,
    )


def _on_surfaces(
    surfaces: Sequence[Surface], rng: np.random.Generator, *, trials: int, replicates: int, seeds: int
) -> Callable[[], Sequence[Sequence[Search]]]:
    return lambda: [
        [surface.search(rng, trials=trials, seeds=seeds) for _ in range(replicates)] for surface in surfaces
    ]


def _family(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    found: list[dict[str, Any]] = []
    for replicates in given.replicates:
        for noise in given.noises:
            rng = np.random.default_rng([3, replicates, round(1e4 * noise)])
            draw = _on_surfaces(
                [Surface(top=_TOP, noise=noise)] * 4,
                rng,
                trials=24,
                replicates=replicates,
                seeds=given.confirmed,
            )
            found.append(
                {"replicates": replicates, "noise": noise, "called": undoubted(given.studies, draw=draw)}
            )
    rows = [[f"{one['replicates']} × 24, noise {one['noise']:.1%}", f"{one['called']:.1%}"] for one in found]
    return found, Table(
        title=f"Four arms of one optimizer, {given.studies} studies each",
        header=["replicates × trials", "any pair called"],
        rows=rows,
    )


def _metrics(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    surface = Surface(top=_TOP, noise=given.metric_noise)
    for trials in given.metric_trials:
        for correlation in given.correlations:
            cells: list[str] = []
            for metrics in (1, 3):
                rng = np.random.default_rng([5, trials, round(100 * correlation), metrics])
                draw = functools.partial(
                    surface.searches_of_metrics,
                    rng,
                    trials=trials,
                    seeds=given.confirmed,
                    correlation=correlation,
                    metrics=metrics,
                )
                called = called_by_metrics(given.studies, draw=draw)
                one = {"trials": trials, "correlation": correlation, "metrics": metrics, "called": called}
                found.append(one)
                cells.append(f"{called:.1%}")
            rows.append([f"1 × {trials}, correlation {correlation:g}", *cells])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    title = f"Further metrics, one optimizer twice, {given.confirmed} seeds, {given.studies} studies each"
    return found, Table(
        title=title,
        header=["replicates × trials", "one metric: called", "three metrics: any called"],
        rows=rows,
    )


def _tables(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    from search_spaces import hpobench_names

    names = given.tables or hpobench_names()
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for sampler in cast("Sequence[SamplerName]", given.samplers):
        for share in given.shares:
            for trials in given.trials:
                pools = [
                    searches_of_table(
                        name,
                        sampler=sampler,
                        trials=trials,
                        searches=given.searches,
                        seeds=given.confirmed,
                        noise=share,
                        seed=n,
                    )
                    for n, name in enumerate(names)
                ]
                for replicates in given.replicates:
                    per_gap: list[Outcomes] = []
                    for gap in given.table_gaps:
                        rng = np.random.default_rng([4, replicates, trials, round(1e4 * gap)])
                        draw = _dealt(pools, rng, replicates, gap)
                        per_gap.append(
                            outcomes(given.studies, draw=draw, gap=gap, adaptive=sampler in ADAPTIVE_SAMPLERS)
                        )
                        one = {
                            "sampler": sampler,
                            "noise": share,
                            "replicates": replicates,
                            "trials": trials,
                            "gap": gap,
                        }
                        found.append({**one, **asdict(per_gap[-1])})
                    rows.append(
                        [
                            f"{sampler}, {replicates} × {trials}, noise × {share:g}",
                            *_outcome_cells(per_gap, given.table_gaps),
                        ]
                    )
                    print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    title = (
        f"HPOBench, {len(names)} tables, {given.searches} searches of each, {given.confirmed} "
        f"seeds, {given.studies} studies each"
    )
    return found, Table(title=title, header=_header(given.table_gaps), rows=rows)


def _budget_tables(given: argparse.Namespace) -> tuple[list[dict[str, Any]], Table]:
    from search_spaces import hpobench_names

    return table_verdicts(given.studies, given.tables or hpobench_names(), processes=given.processes)


def _dealt(
    pools: Sequence[Sequence[Search]], rng: np.random.Generator, replicates: int, gap: float
) -> Callable[[], Sequence[Sequence[Search]]]:
    """Return a function that assigns searches of one table, drawn for each study, to two arms."""

    def draw() -> Sequence[Sequence[Search]]:
        pool = pools[int(rng.integers(len(pools)))]
        drawn = [pool[place] for place in rng.permutation(len(pool))[: 2 * replicates]]
        return [drawn[:replicates], [moved(search, gap) for search in drawn[replicates:]]]

    return draw


def _header(gaps: Sequence[float]) -> list[str]:
    named = [f"gap {100 * gap:g} points: right, wrong" for gap in gaps if gap]
    return [
        "replicates × trials",
        "one optimizer: called",
        "by seeds alone",
        *named,
        "intervals that hold the truth",
    ]


def _outcome_cells(per_gap: Sequence[Outcomes], gaps: Sequence[float]) -> list[str]:
    level = [one for one, gap in zip(per_gap, gaps, strict=True) if not gap]
    apart = [f"{one.right:.1%}, {one.wrong:.1%}" for one, gap in zip(per_gap, gaps, strict=True) if gap]
    covered = np.mean([one.covered for one in per_gap])
    return [
        *(f"{one.wrong:.1%}" for one in level),
        *(f"{one.wrong_by_seeds:.0%}" for one in level),
        *apart,
        f"{covered:.1%}",
    ]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=(*_FIRST, *_BY_BUDGET))
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies per figure (1000)")
    parser.add_argument(
        "--replicates", type=int, nargs="+", default=[1, 3], help="repetitions of each arm's search (1 3)"
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 32], help="trials of a search (12 32)")
    parser.add_argument("--confirmed", type=int, default=5, help="fresh seeds of a confirmation (5)")
    parser.add_argument(
        "--noises",
        type=float,
        nargs="+",
        default=[0.002, 0.005, 0.015],
        help="noise of a run on the surface (0.002 0.005 0.015)",
    )
    parser.add_argument(
        "--gaps",
        type=float,
        nargs="+",
        default=[0.0, 0.01, 0.02, 0.05],
        help="gaps between the arms on the surface; the first is 0",
    )
    parser.add_argument(
        "--metric-trials", type=int, nargs="+", default=[4, 12, 32], help="trials for `metrics` (4 12 32)"
    )
    parser.add_argument(
        "--correlations",
        type=float,
        nargs="+",
        default=[0.0, 0.5, 0.9, 1.0],
        help="correlations of a further metric with the objective (0 0.5 0.9 1)",
    )
    parser.add_argument(
        "--metric-noise", type=float, default=0.005, help="noise of a run for `metrics` (0.005)"
    )
    parser.add_argument("--samples", type=int, default=20_000, help="samples for `coverage` (20000)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[3, 5, 10], help="seeds for `coverage` (3 5 10)"
    )
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="HPOBench's tables (all eight)")
    parser.add_argument(
        "--table-gaps",
        type=float,
        nargs="+",
        default=[0.0, 0.02, 0.05, 0.1],
        help="gaps between the arms on the tables; the first is 0",
    )
    parser.add_argument(
        "--samplers",
        nargs="+",
        choices=["random", "qmc", *sorted(ADAPTIVE_SAMPLERS)],
        default=["random", "tpe"],
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[1.0, 0.1],
        help="noise of a run, as fractions of the tables' noise (1 0.1)",
    )
    parser.add_argument("--processes", type=int, default=2, help="processes for verdicts by budget (2)")
    parser.add_argument("--opda", type=Path, metavar="FOLDER", help="the published searches, for `opda`")
    parser.add_argument("--searches", type=int, default=50, help="searches per table (50)")
    add_outputs(parser)
    given = parser.parse_args()
    if "opda" in given.parts and given.opda is None:
        parser.error("--parts opda needs the folder of the published searches: --opda FOLDER")
    runs = {
        "coverage": _coverage,
        "surface": _surface,
        "family": _family,
        "metrics": _metrics,
        "budget": lambda given: budget_verdicts(given.studies, processes=given.processes),
        "shifts": lambda given: shifted_verdicts(given.studies, processes=given.processes),
        "looks": lambda given: look_verdicts(given.studies, processes=given.processes),
        "budget-tables": _budget_tables,
        "opda": lambda given: published_verdicts(given.studies, given.opda, processes=given.processes),
        "tables": _tables,
    }
    results = {part: runs[part](given) for part in given.parts}
    measured = {"machine": machine(), **{part: found for part, (found, _) in results.items()}}
    publish(given, measured, [table for _, table in results.values()])


if __name__ == "__main__":
    main()
