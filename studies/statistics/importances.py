"""Which hyperparameters decide whether a trial is among the best: Optuna's PED-ANOVA."""

__all__ = ["LEAST_RESULTS", "importances"]

import math
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Final

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studies.direction import Direction
from studies.distributions import distributions, searched
from studies.space import Condition, Parameters, Scalar, Space
from studies.statistics.orientation import oriented

LEAST_RESULTS = 20
"""The fewest results that have importances."""

MOST_RESULTS = 2000
"""The most results that are used; of more, a sample is spread evenly over their order.

The time grows with the number of results, and more of them do not add information.
"""

_BEST: Final = 0.1
_FEWEST_BEST: Final = 5
_NAME: Final = "arm"
# The times of trials are never used.
_SOME_TIME: Final = datetime(2000, 1, 1)  # noqa: DTZ001 # Optuna keeps local times without a zone


def importances(
    space: Space,
    parameters: Sequence[Parameters],
    values: ArrayLike,
    *,
    direction: Direction,
    conditions: Mapping[str, Condition],
) -> dict[str, float]:
    """Return the share of each searched hyperparameter, largest first; the shares add up to 1.

    The result is empty with fewer than LEAST_RESULTS results, if all values are equal, or if nothing was
    searched.

    Args:
        space: the arm's space.
        parameters: N configurations.
        values: [N] their values; NaN (no result) is left out, the worst infinity (diverged) counts as worse
            than every value.
        direction: which way is better.
        conditions: hyperparameters that matter only sometimes; an inert one counts as absent.

    Source: Watanabe et al. (2023), "PED-ANOVA", as computed by
    `optuna.importance.PedAnovaImportanceEvaluator`.
    """
    results = _results(space, parameters, oriented(values, direction), conditions)
    ranks = np.unique([-score for _, score in results], return_inverse=True)[1]
    n = len(results)
    # Optuna needs at least five trials among the best.
    quantile = max(_BEST, _FEWEST_BEST / n) if n else 1.0
    if n < LEAST_RESULTS or np.count_nonzero(ranks <= np.sort(ranks)[math.ceil(quantile * n) - 1]) == n:
        return {}
    names = [name for name in distributions(space) if sum(name in chosen for chosen, _ in results) > 1]
    study = optuna.Study(
        _NAME,
        _Finished(space, [(chosen, int(rank)) for (chosen, _), rank in zip(results, ranks, strict=True)]),
    )
    found = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study, params=names)
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def _results(
    space: Space,
    parameters: Sequence[Parameters],
    scores: NDArray[np.float64],
    conditions: Mapping[str, Condition],
) -> list[tuple[dict[str, Scalar], float]]:
    """Return the searched hyperparameters and the score of each trial that has a score.

    Of more than MOST_RESULTS trials, use some that are spread evenly over their order.
    """
    known = [i for i, score in enumerate(scores) if not math.isnan(score)]
    if len(known) > MOST_RESULTS:
        known = [known[i * len(known) // MOST_RESULTS] for i in range(MOST_RESULTS)]
    results = [(searched(space, dict(conditions), parameters[i]), float(scores[i])) for i in known]
    # If only one trial lacks a hyperparameter, such as the defaults outside the space, drop that trial: one
    # trial is not a regime.
    while lonely := _only_one_without(space, [chosen for chosen, _ in results]):
        results = [each for at, each in enumerate(results) if at not in lonely]
    return results


def _only_one_without(space: Space, chosen: Sequence[Mapping[str, Scalar]]) -> set[int]:
    without = [[at for at, each in enumerate(chosen) if name not in each] for name in distributions(space)]
    return {each[0] for each in without if len(each) == 1}


class _Finished(InMemoryStorage):
    """A read-only Optuna storage of one study in which all trials have completed.

    Smaller values are better.
    """

    def __init__(self, space: Space, trials: Sequence[tuple[Mapping[str, Scalar], int]]) -> None:
        super().__init__()
        known = distributions(space)
        self._trials = [
            FrozenTrial(
                trial_id=number,
                number=number,
                state=TrialState.COMPLETE,
                value=float(value),
                datetime_start=_SOME_TIME,
                datetime_complete=_SOME_TIME,
                params=dict(chosen),
                distributions={name: known[name] for name in chosen},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
            )
            for number, (chosen, value) in enumerate(trials)
        ]

    def get_study_id_from_name(self, study_name: str) -> int:  # noqa: ARG002 # Optuna's signature
        """Return the id of the only study, whatever its name."""
        return 0

    # Optuna's signature.
    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        """Return the direction of the only study."""
        return [StudyDirection.MINIMIZE]

    # Optuna's signature.
    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002, FBT001, FBT002
        states: Container[TrialState] | None = None,  # noqa: ARG002
    ) -> list[FrozenTrial]:
        """Return the trials themselves, not copies."""
        return self._trials
