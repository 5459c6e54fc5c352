"""The noise of a single value: the variation over seeds and over the choice of the examples."""

__all__ = ["examples_error", "run_noise"]

import math
from typing import Literal

import numpy as np

from studies.analysis.study_results import StudyResults
from studies.statistics.proportion import standard_error
from studies.trial_values import has_value


def run_noise(results: StudyResults) -> float:
    """Return the standard deviation of one configuration's validation value over seeds, pooled over arms.

    Without confirmation runs it is an accuracy's standard error by the number of examples, else 0.
    """
    confirmed = [best.runs for arm in results.arms for best in arm.bests if best is not None]
    samples = [[run.value for run in runs if has_value(run) and run.value is not None] for runs in confirmed]
    sums = [
        (float(np.var(values, ddof=1)) * (len(values) - 1), len(values) - 1)
        for values in samples
        if len(values) > 1
    ]
    if sums:
        return math.sqrt(sum(total for total, _ in sums) / sum(df for _, df in sums))
    best = [
        arm.best.trial.value
        for arm in results.arms
        if arm.best is not None and arm.best.trial.value is not None
    ]
    return max((examples_error(results, value, "validation") or 0.0 for value in best), default=0.0)


def examples_error(results: StudyResults, value: float, split: Literal["validation", "test"]) -> float | None:
    """Return the standard error of an accuracy by the number of examples that it was measured on.

    None for another metric, and for an accuracy of 0 or 1.
    """
    card = results.card
    examples = card.examples.get(split, 0)
    if card.metric != "accuracy" or card.unit != "fraction" or not 0 < value < 1 or not examples:
        return None
    return standard_error(value, examples)
