"""Coverage and bias of a suite's interquartile mean, and coverage of its win chance, as shown to users.

All runs are simulated: normal values around known means, a standard deviation of 1, the same in every study.
As in a suite, the scale of each study comes from the arms' estimated means. The truth is the interquartile
mean of all possible runs on the scale of the true means.

    .venv/bin/python benchmarks/suites.py --json suites.json --markdown suites.md
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs] # scipy has none
from tables import Table, add_outputs, machine, publish

from studies.statistics.across import interquartile_mean, relative_performance, win_chance

__all__ = ["SuiteCoverage", "main", "simulate"]

_SPREADS: Final[dict[str, tuple[float, ...]]] = {
    "two arms, 1 SD apart": (0, 1),
    "two arms, 3 SD apart": (0, 3),
    "four arms over 1 SD": (0, 1 / 3, 2 / 3, 1),
    "four arms over 3 SD": (0, 1, 2, 3),
    "one worst, three tied best, 1 SD apart": (0, 1, 1, 1),
    "one worst, three tied best, 3 SD apart": (0, 3, 3, 3),
}


@dataclass(frozen=True, kw_only=True)
class SuiteCoverage:
    """The coverage and bias found over the suites of one kind.

    Attributes:
        covered: per arm, how often the interval of the interquartile mean contains the truth.
        bias: per arm, mean of the interquartile mean minus the truth.
        wins_covered: how often the interval of a win chance contains the truth, over all pairs.
    """

    covered: tuple[float, ...]
    bias: tuple[float, ...]
    wins_covered: float


def simulate(means: Sequence[float], *, studies: int, runs: int, suites: int, seed: int = 0) -> SuiteCoverage:
    """Return coverage and bias over simulated suites.

    Args:
        means: true mean of each arm in standard deviations of a run, not all equal; more is better.
        studies: number of studies in a suite.
        runs: runs of each arm in each study.
        suites: number of suites to simulate.
        seed: seed of the simulation.
    """
    rng = np.random.default_rng([seed, studies, runs])
    levels = np.asarray(means, dtype=np.float64)
    # A normal distribution is symmetric: the mean of its middle half is its mean.
    truth = (levels - levels.min()) / np.ptp(levels)
    pairs = list(combinations(range(len(levels)), 2))
    chances = [float(special.ndtr((levels[i] - levels[j]) / np.sqrt(2))) for i, j in pairs]
    covered, shown, wins = np.zeros(len(levels)), np.zeros(len(levels)), np.zeros(len(pairs))
    for _ in range(suites):
        values = rng.normal(levels[:, None], 1.0, (studies, len(levels), runs))
        scaled = [
            relative_performance({str(arm): row for arm, row in enumerate(study)}, direction="maximize")
            for study in values
        ]
        per_arm = [[study[str(arm)] for study in scaled] for arm in range(len(levels))]
        means_shown = [interquartile_mean(strata) for strata in per_arm]
        shown += [each.value for each in means_shown]
        covered += [each.low <= true <= each.high for each, true in zip(means_shown, truth, strict=True)]
        estimates = [win_chance(per_arm[i], per_arm[j]) for i, j in pairs]
        wins += [each.low <= true <= each.high for each, true in zip(estimates, chances, strict=True)]
    return SuiteCoverage(
        covered=tuple((covered / suites).tolist()),
        bias=tuple((shown / suites - truth).tolist()),
        wins_covered=float(wins.mean() / suites),
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", type=int, default=1000, help="simulated suites for each figure (1000)")
    parser.add_argument("--studies", type=int, default=5, help="studies of a suite (5)")
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 5, 10], help="runs of an arm (3 5 10)")
    parser.add_argument("--arms", nargs="+", choices=list(_SPREADS), default=list(_SPREADS), metavar="NAME")
    add_outputs(parser)
    given = parser.parse_args()
    measured: dict[str, object] = {"machine": machine()}
    rows: list[list[str]] = []
    for name in given.arms:
        for runs in given.runs:
            found = simulate(_SPREADS[name], studies=given.studies, runs=runs, suites=given.suites)
            measured[f"{name}, {runs} runs"] = found.__dict__
            rows.append(
                [
                    f"{name}, {runs} runs",
                    " ".join(f"{100 * each:.0f}" for each in found.covered),
                    " ".join(f"{each:+.2f}" for each in found.bias),
                    f"{found.wins_covered:.1%}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    table = Table(
        title=f"Suites of {given.studies} studies, {given.suites} suites each",
        header=["arms", "IQM covered, %", "IQM's bias", "chance to win covered"],
        rows=rows,
    )
    publish(given, measured, [table])


if __name__ == "__main__":
    main()
