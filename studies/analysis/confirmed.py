"""Confirmed configurations: each arm's best and its defaults on fresh seeds.

Also how long they take to the workload's target.
"""

__all__ = ["confirmed", "scores", "time_to_target"]

import math

import numpy as np
from numpy.typing import NDArray

from studies.analysis.study_results import (
    ArmResults,
    ConfirmedConfiguration,
    StudyResults,
    has_ended,
    has_test,
    has_value,
)
from studies.analysis.views import Confirmed, ConfirmedRun, TimeToTarget
from studies.states import TrialState
from studies.statistics import targets
from studies.statistics.paired import mean_interval


def confirmed(reading: StudyResults) -> tuple[Confirmed, ...]:
    """Return every configuration that has confirmation runs, arm by arm.

    Each replicate's best comes before the defaults.
    """
    found: list[Confirmed] = []
    for arm in reading.arms:
        found += [
            _confirmed(reading, arm, each, replicate)
            for replicate, each in enumerate(arm.bests)
            if each is not None and each.runs
        ]
        if arm.defaults is not None and arm.defaults.runs:
            found.append(_confirmed(reading, arm, arm.defaults, None))
    return tuple(found)


def scores(reading: StudyResults, arm: ArmResults) -> NDArray[np.float64]:
    """Return the test values of each replicate's best on the study's fresh seeds, [R, S].

    NaN where not run, the worst infinity where diverged.

    A closed search none of whose trials completed, some having diverged, counts as diverged wherever another
    search of the arm has a best: it would have yielded nothing.
    """
    place = {seed: n for n, seed in enumerate(reading.seeds)}
    table = np.full((len(arm.bests), len(reading.seeds)), math.nan)
    for row, each in enumerate(arm.bests):
        if each is not None:
            table[row, [place[run.seed] for run in each.runs]] = reading.tests(each.runs)
        elif (
            reading.is_closed
            and arm.is_confirmed
            and any(t.replicate == row and t.state is TrialState.DIVERGED for t in arm.spent)
        ):
            table[row, :] = reading.worst
    return table


def time_to_target(reading: StudyResults) -> tuple[TimeToTarget, ...]:
    """Return how soon each arm's best configurations reached the workload's target.

    It covers the arms with confirmation runs that have ended.
    """
    found: list[TimeToTarget] = []
    for arm in reading.arms:
        runs = tuple(run for run in arm.confirming if has_ended(run))
        if not runs:
            continue
        epochs, seconds = zip(*(_times(reading, run.id) for run in runs), strict=True)
        by_epochs, by_seconds = targets.summary(epochs), targets.summary(seconds)
        found.append(
            TimeToTarget(
                arm=arm.name,
                target=reading.card.target,
                runs=by_epochs.runs,
                reached=by_epochs.reached,
                epochs_median=by_epochs.median,
                elapsed_s_median=by_seconds.median,
                is_solo=all(run.pack_size == 1 for run in runs),
            )
        )
    return tuple(found)


def _times(reading: StudyResults, trial_id: str) -> tuple[float, float]:
    """Return epochs and seconds until a run reached the target, inf for a miss."""
    rows = reading.measurements.get(trial_id, ())
    values = [math.nan if row.validation_metric is None else row.validation_metric for row in rows]
    target, direction = reading.card.target, reading.direction
    return (
        targets.time_to_target(values, [row.epoch for row in rows], target=target, direction=direction),
        targets.time_to_target(values, [row.elapsed_s for row in rows], target=target, direction=direction),
    )


def _confirmed(
    reading: StudyResults, arm: ArmResults, configuration: ConfirmedConfiguration, replicate: int | None
) -> Confirmed:
    trial, runs = configuration.trial, configuration.runs
    planned = 0 if reading.is_closed else reading.study.spec.confirmation.seeds
    completed = [run for run in runs if has_test(run)]
    test = mean_interval([run.test_value for run in completed if run.test_value is not None])
    validation = [run.value for run in completed if run.value is not None and math.isfinite(run.value)]
    validation_mean = float(np.mean(validation)) if validation else None
    search_value = trial.value if has_value(trial) else None
    return Confirmed(
        arm=arm.name,
        configuration="defaults" if replicate is None else "best",
        replicate=replicate or 0,
        number=trial.number,
        parameters=trial.parameters,
        seeds=max(planned, len(runs)),
        completed=len(completed),
        diverged=sum(run.state is TrialState.DIVERGED for run in runs),
        test_mean=_known(test.mean),
        test_low=_known(test.low),
        test_high=_known(test.high),
        test_sd=_known(test.sd),
        validation_mean=validation_mean,
        search_value=search_value,
        shrinkage=None
        if search_value is None or validation_mean is None
        else reading.sign * (search_value - validation_mean) + 0.0,
        runs=tuple(
            ConfirmedRun(
                trial_id=run.id,
                seed=run.seed,
                state=run.state,
                validation_value=run.value,
                test_value=run.test_value,
            )
            for run in runs
        ),
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
