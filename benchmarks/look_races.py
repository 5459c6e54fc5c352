"""Studies that add blocks of paired trials until their arms are decided, with a known truth."""

__all__ = ["LookOutcomes", "look_outcomes"]

from dataclasses import dataclass

import numpy as np
from paired_races import SurfaceRace, is_false
from races import LOWEST

from studies.statistics.until_decided import judge_looks, looks


@dataclass(frozen=True, kw_only=True)
class LookOutcomes:
    """Outcomes of studies that look several times.

    Attributes:
        false: the share of studies in which a word contradicts the sign of the true difference; any word of
            arms that are equal does.
        detected: the share in which the last arm is better than every other.
        decided: the share in which every pair that was asked for is decided.
        pairs: mean number of pairs of trials at the end, as a share of the most.
        trials: mean number of paired trials of all arms, as a share of the most.
    """

    false: float
    detected: float
    decided: float
    pairs: float
    trials: float


def look_outcomes(
    race: SurfaceRace,
    *,
    first: int,
    studies: int,
    seed: int,
    can_drop: bool = False,
    asks_last: bool = False,
) -> LookOutcomes:
    """Simulate studies of a race, whose trials are the most there can be, and return their outcomes.

    Args:
        race: the study.
        first: pairs at the first look.
        studies: how many.
        seed: of the simulation.
        can_drop: whether an arm that lost to all others takes part in no further block.
        asks_last: whether only the pairs of the last arm are to be decided, instead of all.
    """
    rng = np.random.default_rng(seed)
    truth, equal = race.truth([race.budget])[:, 0], race.equal
    planned = looks(first, race.trials)
    last = f"arm {len(truth) - 1}"
    pairs_asked = [(f"arm {arm}", last) for arm in range(len(truth) - 1)] if asks_last else None
    false = detected = decided = pairs = trials = 0.0
    for _ in range(studies):
        found = judge_looks(
            race.arms(rng),
            ended=race.trials,
            planned=planned,
            direction="maximize",
            primary=race.budget,
            pairs=pairs_asked,
            can_drop=can_drop,
            diverged=LOWEST,
        )
        false += any(is_false(pair.at, truth, equal) for pair in found.pairs)
        detected += all(pair.at.word == "worse" for pair in found.pairs if pair.at.second == last)
        decided += found.is_decided
        pairs += planned[found.done - 1]
        trials += sum(found.dropped.get(f"arm {arm}", planned[found.done - 1]) for arm in range(len(truth)))
    most = studies * race.trials
    return LookOutcomes(
        false=false / studies,
        detected=detected / studies,
        decided=decided / studies,
        pairs=pairs / most,
        trials=trials / most / len(truth),
    )
