"""What a trial's values count for; a value counts if it is finite."""

__all__ = [
    "has_result",
    "has_test",
    "has_value",
    "is_over",
    "paired_tests",
    "paired_validation",
    "value_on_test",
]

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction, worst_value
from studies.states import FINISHED_TRIAL_STATES, TrialState
from studies.views import TrialView

_ENDED: Final = FINISHED_TRIAL_STATES - {TrialState.CANCELLED}
_WITH_RESULT: Final = frozenset({TrialState.COMPLETED, TrialState.DIVERGED})


def has_value(trial: TrialView) -> bool:
    """Return whether a trial completed with a finite validation value."""
    return trial.state is TrialState.COMPLETED and trial.value is not None and math.isfinite(trial.value)


def has_test(trial: TrialView) -> bool:
    """Return whether a trial completed with a finite test value."""
    return value_on_test(trial) is not None


def value_on_test(trial: TrialView, metric: str | None = None) -> float | None:
    """Return a completed trial's test value of a metric, by default the objective; None if it has none."""
    value = trial.test_value if metric is None else trial.test_metrics.get(metric)
    is_known = trial.state is TrialState.COMPLETED and value is not None and math.isfinite(value)
    return value if is_known else None


def is_over(trial: TrialView | None) -> bool:
    """Return whether there is a trial of a pair that has ended; one that was cancelled is made again."""
    return trial is not None and trial.state in _ENDED


def has_result(trial: TrialView | None) -> bool:
    """Return whether there is a trial of a pair that completed or diverged."""
    return trial is not None and trial.state in _WITH_RESULT


def paired_validation(trials: Sequence[TrialView | None], direction: Direction) -> NDArray[np.float64]:
    """Return the validation values of an arm's paired trials, [N].

    The worst infinity stands for a trial that diverged or completed without a value, NaN for one without a
    result.
    """
    worst = worst_value(direction)
    return np.array(
        [
            math.nan if trial is None or not has_result(trial) else trial.value if has_value(trial) else worst
            for trial in trials
        ],
        dtype=np.float64,
    )


def paired_tests(trials: Sequence[TrialView | None], metric: str | None = None) -> NDArray[np.float64]:
    """Return the test values of an arm's paired trials, by default of the objective, [N]; NaN without one."""
    found = [None if trial is None else value_on_test(trial, metric) for trial in trials]
    return np.array([math.nan if value is None else value for value in found], dtype=np.float64)
