"""Confirmed configurations: each arm's best and its defaults, on fresh seeds.

The module also has the time in which they reach the workload's target.
"""

__all__ = ["confirmed", "scores", "time_to_target"]

import math

import numpy as np
from numpy.typing import NDArray

from studies.analysis.study_results import ArmResults, ConfirmedConfiguration, StudyResults, has_ended
from studies.analysis.views import Confirmed, ConfirmedRun, TimeToTarget
from studies.states import TrialState
from studies.statistics import targets
from studies.statistics.paired import mean_interval
from studies.trial_values import has_test, has_value


def confirmed(results: StudyResults) -> tuple[Confirmed, ...]:
    """Return every configuration that has confirmation runs, arm by arm, each best before the defaults."""
    found: list[Confirmed] = []
    for arm in results.arms:
        found += [
            _confirmed(results, arm, each, replicate)
            for replicate, each in enumerate(arm.bests)
            if each is not None and each.runs
        ]
        if arm.defaults is not None and arm.defaults.runs:
            found.append(_confirmed(results, arm, arm.defaults, None))
    return tuple(found)


def scores(results: StudyResults, arm: ArmResults, *, metric: str | None = None) -> NDArray[np.float64]:
    """Return the test values of each replicate's best configuration on the study's fresh seeds, [R, S].

    They are those of the objective, or of another metric.

    NaN stands for no run, the worst infinity for a run that diverged.

    A closed search without any completed trial, some of which diverged, counts as diverged on every seed if
    another search of the arm has a best configuration: it would have found nothing to use.
    """
    place = {seed: n for n, seed in enumerate(results.seeds)}
    table = np.full((len(arm.bests), len(results.seeds)), math.nan)
    for row, each in enumerate(arm.bests):
        if each is not None:
            table[row, [place[run.seed] for run in each.runs]] = results.tests(each.runs, metric=metric)
        elif (
            results.is_closed
            and arm.is_confirmed
            and any(t.replicate == row and t.state is TrialState.DIVERGED for t in arm.spent)
        ):
            table[row, :] = results.worst_of(metric)
    return table


def time_to_target(results: StudyResults) -> tuple[TimeToTarget, ...]:
    """Return the time in which each arm's best configurations reached the target of the study's objective.

    Arms without a finished confirmation run are left out, and all if the objective has no target.
    """
    target = results.card.target
    if target is None:
        return ()
    found: list[TimeToTarget] = []
    for arm in results.arms:
        runs = tuple(run for run in arm.confirming if has_ended(run))
        if not runs:
            continue
        epochs, seconds = zip(*(_times(results, run.id, target) for run in runs), strict=True)
        by_epochs, by_seconds = targets.summary(epochs), targets.summary(seconds)
        found.append(
            TimeToTarget(
                arm=arm.name,
                target=target,
                runs=by_epochs.runs,
                reached=by_epochs.reached,
                epochs_median=by_epochs.median,
                elapsed_s_median=by_seconds.median,
                is_solo=all(run.pack_size == 1 for run in runs),
            )
        )
    return tuple(found)


def _times(results: StudyResults, trial_id: str, target: float) -> tuple[float, float]:
    """Return epochs and seconds until a run reached the target, inf for a miss."""
    rows = results.measurements.get(trial_id, ())
    values = [math.nan if row.validation_metric is None else row.validation_metric for row in rows]
    direction = results.direction
    return (
        targets.time_to_target(values, [row.epoch for row in rows], target=target, direction=direction),
        targets.time_to_target(values, [row.elapsed_s for row in rows], target=target, direction=direction),
    )


def _confirmed(
    results: StudyResults, arm: ArmResults, configuration: ConfirmedConfiguration, replicate: int | None
) -> Confirmed:
    trial, runs = configuration.trial, configuration.runs
    planned = 0 if results.is_closed else results.study.spec.confirmation.seeds
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
        else results.sign * (search_value - validation_mean) + 0.0,
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
