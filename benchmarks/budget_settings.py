"""The settings under which `verdicts.py` simulates the verdict by tuning budget, one factor at a time."""

__all__ = ["budget_verdicts"]

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from typing import Any, Final

from paired_races import BudgetOutcomes, Race, budget_outcomes
from races import Peak
from tables import Table

_TOP: Final = 0.93
_SHIFT: Final = 0.1
_BASE: Final = Race(peaks=(Peak(), Peak()), trials=32, budget=4)
_SCENARIOS: Final = {
    "equal": Peak(),
    "2 points": Peak(top=_TOP + 0.02),
    "2 points, peak shifted": Peak(top=_TOP + 0.02, at=0.6 + _SHIFT),
    "5 points, peak shifted": Peak(top=_TOP + 0.05, at=0.6 + _SHIFT),
}
"""The last arm; the others have the peak of the setting."""


def _settings() -> dict[str, Race]:
    return {
        "2 arms, 32 pairs, k = 4, noise 0.5 %": _BASE,
        "noise 0.2 %": replace(_BASE, noise=0.002),
        "noise 1.5 %": replace(_BASE, noise=0.015),
        "noise with heavy tails": replace(_BASE, has_heavy_tails=True),
        "30 % diverging": replace(_BASE, peaks=(Peak(diverging=0.3),) * 2),
        "50 % diverging": replace(_BASE, peaks=(Peak(diverging=0.5),) * 2),
        "narrower peaks": replace(_BASE, peaks=(Peak(width=0.3),) * 2),
        "8 pairs, k = 2": replace(_BASE, trials=8, budget=2),
        "16 pairs, k = 2": replace(_BASE, trials=16, budget=2),
        "16 pairs, k = 4": replace(_BASE, trials=16, budget=4),
        "64 pairs, k = 8": replace(_BASE, trials=64, budget=8),
        "128 pairs, k = 16": replace(_BASE, trials=128, budget=16),
        "k = 1": replace(_BASE, budget=1),
        "k = 2": replace(_BASE, budget=2),
        "k = 8": replace(_BASE, budget=8),
        "not paired": replace(_BASE, is_paired=False),
        "4 arms": replace(_BASE, peaks=(Peak(),) * 4),
        "6 arms": replace(_BASE, peaks=(Peak(),) * 6),
        "6 arms, Holm": replace(_BASE, peaks=(Peak(),) * 6, correction="holm"),
        "8 arms": replace(_BASE, peaks=(Peak(),) * 8),
    }


def budget_verdicts(studies: int, *, processes: int) -> tuple[list[dict[str, Any]], Table]:
    """Simulate every setting, and return the figures with a table of them.

    Args:
        studies: simulated studies per figure.
        processes: how many processes simulate.
    """
    found: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    with ProcessPoolExecutor(processes) as pool:
        pending = {
            name: [pool.submit(budget_outcomes, race, studies=studies, seed=1) for race in _races(setting)]
            for name, setting in _settings().items()
        }
        for name, futures in pending.items():
            outcomes = [future.result() for future in futures]
            found += [
                {"setting": name, "last arm": scenario, **asdict(each)}
                for scenario, each in zip(_SCENARIOS, outcomes, strict=True)
            ]
            rows.append([name, *_cells(outcomes)])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["setting", "false words", *(f"{each}: called" for each in list(_SCENARIOS)[1:]), "band covers"]
    return found, Table(
        title=f"The verdict by tuning budget, paired trials, {studies} studies each", header=header, rows=rows
    )


def _races(setting: Race) -> list[Race]:
    """Return the setting with each last arm, which keeps the width and the divergence of the others."""
    own = setting.peaks[0]
    return [
        replace(
            setting,
            peaks=(*setting.peaks[:-1], replace(last, width=own.width, diverging=own.diverging)),
        )
        for last in _SCENARIOS.values()
    ]


def _cells(outcomes: list[BudgetOutcomes]) -> list[str]:
    covered = [each.covered for each in outcomes]
    return [
        f"{max(each.false for each in outcomes):.1%}",
        *(f"{each.detected:.0%}" for each in outcomes[1:]),
        f"{min(covered):.1%} to {max(covered):.1%}",
    ]
