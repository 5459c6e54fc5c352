"""The settings under which `verdicts.py` simulates the verdict by tuning budget, one factor at a time."""

__all__ = ["budget_verdicts", "look_verdicts", "published_verdicts", "shifted_verdicts", "table_verdicts"]

import functools
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

from look_races import LookOutcomes, look_outcomes
from paired_races import BudgetOutcomes, Race, SurfaceRace, budget_outcomes
from races import Peak
from recorded_races import SearchRace, TableRace, opda_search
from tables import Table

_TOP: Final = 0.93
_SHIFT: Final = 0.1
_BASE: Final = SurfaceRace(peaks=(Peak(), Peak()), trials=32, budget=4)
_SCENARIOS: Final = {
    "equal": (0.0, 0.0),
    "2 points": (0.02, 0.0),
    "2 points, peak nearer": (0.02, _SHIFT),
    "2 points, peak farther": (0.02, -_SHIFT),
    "5 points, peak nearer": (0.05, _SHIFT),
}
"""How much better the last arm is at its peak, and how far its peak is from the others' on the first axis:
nearer to the cliff beyond which training diverges, or farther from it."""

_AnyOutcomes = BudgetOutcomes | LookOutcomes
_Found = tuple[list[dict[str, Any]], Table]


def _settings() -> dict[str, SurfaceRace]:
    return {
        "2 arms, 32 pairs, k = 4, noise 0.5 %": _BASE,
        "noise 0.2 %": replace(_BASE, noise=0.002),
        "noise 1.5 %": replace(_BASE, noise=0.015),
        "noise with heavy tails": replace(_BASE, has_heavy_tails=True),
        "30 % diverging": replace(_BASE, peaks=(Peak(diverging=0.3),) * 2),
        "50 % diverging": replace(_BASE, peaks=(Peak(diverging=0.5),) * 2),
        "10 % against 50 % diverging": replace(_BASE, peaks=(Peak(), Peak(diverging=0.5))),
        "narrower peaks": replace(_BASE, peaks=(Peak(width=0.3),) * 2),
        "the last peak narrower": replace(_BASE, peaks=(Peak(), Peak(width=0.3))),
        "8 pairs, k = 2": replace(_BASE, trials=8, budget=2),
        "16 pairs, k = 2": replace(_BASE, trials=16, budget=2),
        "16 pairs, k = 4": replace(_BASE, trials=16, budget=4),
        "64 pairs, k = 8": replace(_BASE, trials=64, budget=8),
        "128 pairs, k = 16": replace(_BASE, trials=128, budget=16),
        "k = 1": replace(_BASE, budget=1),
        "k = 2": replace(_BASE, budget=2),
        "k = 3": replace(_BASE, budget=3),
        "k = 6": replace(_BASE, budget=6),
        "k = 8": replace(_BASE, budget=8),
        "not paired": replace(_BASE, is_paired=False),
        "4 arms": replace(_BASE, peaks=(Peak(),) * 4),
        "6 arms": replace(_BASE, peaks=(Peak(),) * 6),
        "6 arms, Holm": replace(_BASE, peaks=(Peak(),) * 6),
        "6 arms, 64 pairs, k = 8": replace(_BASE, peaks=(Peak(),) * 6, trials=64, budget=8),
        "8 arms": replace(_BASE, peaks=(Peak(),) * 8),
    }


def budget_verdicts(studies: int, *, processes: int) -> _Found:
    """Simulate every setting with several last arms, and return the figures with a table of them.

    Args:
        studies: simulated studies per figure.
        processes: how many processes simulate.
    """
    rows = {
        name: {
            scenario: functools.partial(
                _outcomes,
                _with_last(setting, gap=gap, shift=shift),
                studies,
                correction="holm" if name.endswith("Holm") else "max-t",
            )
            for scenario, (gap, shift) in _SCENARIOS.items()
        }
        for name, setting in _settings().items()
    }
    return _table(
        f"The verdict by tuning budget, paired trials, {studies} studies each",
        rows,
        header=_header("setting", list(_SCENARIOS)[1:]),
        cells=_cells,
        processes=processes,
    )


def shifted_verdicts(studies: int, *, processes: int) -> _Found:
    """Simulate two arms whose peaks lie apart on the first axis, towards the cliff or away from it.

    Args:
        studies: simulated studies per figure.
        processes: how many processes simulate.
    """
    base = replace(_BASE, peaks=(Peak(at=0.5), Peak(at=0.5)))
    gaps = {"0.5 points": 0.005, "1 point": 0.01, "2 points": 0.02, "5 points": 0.05}
    rows = {
        f"{shift:+.1f}": {
            name: functools.partial(_outcomes, _with_last(base, gap=gap, shift=shift), studies)
            for name, gap in {"no gap": 0.0, **gaps}.items()
        }
        for shift in (-0.2, -0.1, 0.0, 0.1, 0.2)
    }
    return _table(
        f"Peaks apart: two arms, 32 pairs, k = 4, noise 0.5 %, {studies} studies each",
        rows,
        header=_header("shift of the better peak", gaps),
        cells=_cells,
        processes=processes,
    )


def look_verdicts(studies: int, *, processes: int) -> _Found:
    """Simulate studies of at most 64 pairs that look until everything is decided.

    Args:
        studies: simulated studies per figure.
        processes: how many processes simulate.
    """
    base = replace(_BASE, trials=64)
    two, four = base, replace(base, peaks=(Peak(),) * 4)
    scenarios = {**_SCENARIOS, "1 point": (0.01, 0.0)}
    worse = {"5 points worse": (-0.05, 0.0)}
    settings: list[tuple[str, SurfaceRace, Mapping[str, tuple[float, float]], dict[str, bool]]] = [
        ("2 arms", two, scenarios, {}),
        ("2 arms, noise 1.5 %", replace(two, noise=0.015), scenarios, {}),
        ("4 arms", four, scenarios | worse, {}),
        ("4 arms, losers dropped", four, worse, {"can_drop": True}),
        ("4 arms, only pairs of the last", four, scenarios, {"asks_last": True}),
    ]
    rows = {
        f"{name}; {scenario}": {
            scenario: functools.partial(
                look_outcomes,
                _with_last(setting, gap=gap, shift=shift),
                first=16,
                studies=studies,
                seed=1,
                **options,
            )
        }
        for name, setting, tried, options in settings
        for scenario, (gap, shift) in tried.items()
    }

    def cells(outcomes: Sequence[LookOutcomes]) -> list[str]:
        (one,) = outcomes
        return [f"{one.false:.1%}", f"{one.detected:.0%}", f"{one.pairs:.0%}", f"{one.trials:.0%}"]

    return _table(
        f"Until decided: k = 4, looks from 16 to at most 64 pairs, {studies} studies each",
        rows,
        header=["setting; last arm", "false words", "called", "pairs used", "paired trials used"],
        cells=cells,
        processes=processes,
    )


def table_verdicts(studies: int, names: Sequence[str], *, processes: int) -> _Found:
    """Simulate studies of two arms on each of HPOBench's tables.

    Args:
        studies: simulated studies per figure, spread over the tables.
        names: of the tables.
        processes: how many processes simulate.
    """
    scenarios = {
        "equal": (0.0, 0),
        "2 points": (0.02, 0),
        "2 points, lr shifted": (0.02, 1),
        "5 points, lr shifted": (0.05, 1),
    }

    def race(name: str, trials: int, budget: int, gap: float, levels: int) -> TableRace:
        return TableRace(table=name, trials=trials, budget=budget, gap=gap, levels=levels)

    rows = {
        f"{trials} pairs, k = {budget}": {
            scenario: functools.partial(
                _mean_outcomes, [race(name, trials, budget, gap, levels) for name in names], studies
            )
            for scenario, (gap, levels) in scenarios.items()
        }
        for trials, budget in ((16, 2), (32, 4), (64, 8))
    }
    return _table(
        f"HPOBench, {len(names)} tables, two arms with paired trials, {studies} studies each",
        rows,
        header=_header("setting", list(scenarios)[1:]),
        cells=_cells,
        processes=processes,
    )


def published_verdicts(studies: int, folder: Path, *, processes: int) -> _Found:
    """Simulate studies of two models whose trials are drawn from the searches that opda publishes.

    Args:
        studies: simulated studies per figure.
        folder: with `deberta-base.jsonl` and `deberta-v3-base.jsonl`.
        processes: how many processes simulate.
    """
    base, newer = (opda_search(folder / f"deberta-{name}.jsonl") for name in ("base", "v3-base"))
    rows = {
        f"{trials} trials, k = {budget}": {
            name: functools.partial(
                _outcomes, SearchRace(searches=searches, trials=trials, budget=budget), studies
            )
            for name, searches in {"one model": (base, base), "two models": (base, newer)}.items()
        }
        for trials, budget in ((16, 2), (16, 4), (32, 4), (32, 8), (64, 8))
    }
    return _table(
        f"DeBERTa and DeBERTaV3 on MNLI, two arms that are not paired, {studies} studies each",
        rows,
        header=["setting", "false words", "DeBERTaV3: called", "band covers"],
        cells=_cells,
        processes=processes,
    )


def _with_last(setting: SurfaceRace, *, gap: float, shift: float) -> SurfaceRace:
    """Return the setting with a last arm that is better by a gap and has its peak elsewhere."""
    last = setting.peaks[-1]
    last = replace(last, top=last.top + gap, at=round(last.at + shift, 6))
    return replace(setting, peaks=(*setting.peaks[:-1], last))


def _outcomes(race: Race, studies: int, correction: Literal["holm", "max-t"] = "max-t") -> BudgetOutcomes:
    return budget_outcomes(race, studies=studies, seed=1, correction=correction)


def _mean_outcomes(races: Sequence[Race], studies: int) -> BudgetOutcomes:
    """Return the mean outcomes of several races, among which the studies are divided."""
    each = [asdict(_outcomes(race, -(-studies // len(races)))) for race in races]
    return BudgetOutcomes(**{name: statistics.fmean(one[name] for one in each) for name in each[0]})


def _table(
    title: str,
    rows: Mapping[str, Mapping[str, Callable[[], _AnyOutcomes]]],
    *,
    header: Sequence[str],
    cells: Callable[[Sequence[Any]], list[str]],
    processes: int,
) -> _Found:
    """Simulate every cell, print each row as it is complete, and return all figures with the table."""
    found: list[dict[str, Any]] = []
    printed: list[list[str]] = []
    with ProcessPoolExecutor(processes) as pool:
        pending: dict[str, list[Future[_AnyOutcomes]]] = {
            name: [pool.submit(simulate) for simulate in row.values()] for name, row in rows.items()
        }
        for name, futures in pending.items():
            outcomes = [future.result() for future in futures]
            found += [
                {"setting": name, "last arm": scenario, **asdict(each)}
                for scenario, each in zip(rows[name], outcomes, strict=True)
            ]
            printed.append([name, *cells(outcomes)])
            print(" | ".join(printed[-1]), file=sys.stderr, flush=True)
    return found, Table(title=title, header=header, rows=printed)


def _header(first: str, called: Iterable[str]) -> list[str]:
    """Return the header of a table whose rows are `_cells`."""
    return [first, "false words", *(f"{name}: called" for name in called), "band covers"]


def _cells(outcomes: Sequence[BudgetOutcomes]) -> list[str]:
    covered = [each.covered for each in outcomes]
    return [
        f"{max(each.false for each in outcomes):.1%}",
        *(f"{each.detected:.0%}" for each in outcomes[1:]),
        f"{min(covered):.1%} to {max(covered):.1%}",
    ]
