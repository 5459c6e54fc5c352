"""Whether training had converged, and whether validation and test agree on the leader."""

__all__ = ["splits_disagree", "still_improving"]

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from studies.analysis.study_results import ArmResults, StudyResults, has_ended
from studies.analysis.views import Check, Confirmed, PairVerdict
from studies.formatting import count, difference, metric, percent, plural
from studies.statistics.paired import mean_interval

_LAST: Final = 0.2
"""Fraction of the epochs that counts as the end of training."""
_GAIN: Final = 0.05
"""Fraction of all improvement from which on training had not converged."""
_FEWEST_EPOCHS: Final = 5


def still_improving(results: StudyResults) -> Iterator[Check]:
    """Yield a check for each arm whose best configuration still improved at the end of training.

    The check measures the confirmation runs that were trained to their last epoch, or else the best trial:
    how much of the improvement since the first epoch came in the last fifth of the epochs. It reports 5 % or
    more, and for several runs only what exceeds chance. Both fractions are rules of this project.

    Source: Godbole et al. (2023), Deep Learning Tuning Playbook, "Examining the training curves": trials that
    still improve at the end of training may gain from more steps, or from another schedule of the learning
    rate.
    """
    for arm in results.arms:
        curves = _curves(results, arm)
        epochs = min((len(curve) for curve in curves), default=0)
        if epochs < _FEWEST_EPOCHS:
            continue
        last = max(1, round(_LAST * epochs))
        gains = [results.sign * (curve[epochs - 1] - curve[epochs - 1 - last]) for curve in curves]
        whole = float(np.mean([results.sign * (curve[epochs - 1] - curve[0]) for curve in curves]))
        gain = float(np.mean(gains))
        interval = mean_interval(gains)
        is_chance = len(gains) > 1 and interval.low <= 0
        if whole <= 0 or gain < _GAIN * whole or is_chance:
            continue
        kind = "confirmation run" if arm.is_confirmed else "best trial"
        runs = f"its {kind}" if len(curves) == 1 else f"its {plural(len(curves), kind)}"
        more = "improve its result" if len(results.arms) == 1 else "change the order of the arms"
        epochs_at_end = "epoch" if last == 1 else f"{count(last)} epochs"
        yield Check(
            kind="still-improving",
            arm=arm.name,
            is_warning=True,
            sentence=(
                f"{arm.label} was still improving: {runs} gained {difference(gain, 0, results.card.unit)} "
                f"in the last {epochs_at_end} of {count(epochs)}, {percent(gain / whole)} of the gain since "
                f"the first. More epochs might {more}."
            ),
            figures={
                "gain": gain,
                "share": gain / whole,
                "last_epochs": float(last),
                "runs": float(len(curves)),
            },
        )


def splits_disagree(
    results: StudyResults, confirmed: Sequence[Confirmed], pairs: Sequence[PairVerdict]
) -> Iterator[Check]:
    """Yield a check if one arm leads by test value and another by validation, on the same confirmation runs.

    Args:
        results: the study.
        confirmed: the confirmed configurations.
        pairs: the verdict on every pair of arms.
    """
    tests, validations = _means(confirmed, "test"), _means(confirmed, "validation")
    known = [name for name in tests if name in validations]
    if len(known) < 2:
        return
    by_test = max(known, key=lambda name: results.sign * tests[name])
    by_validation = max(known, key=lambda name: results.sign * validations[name])
    if tests[by_test] == tests[by_validation] or validations[by_test] == validations[by_validation]:
        return
    one, other, unit = results.arm(by_validation).label, results.arm(by_test).label, results.card.unit
    pair = next((pair for pair in pairs if {pair.first, pair.second} == {by_test, by_validation}), None)
    is_decided = pair is not None and pair.word != "undecided"
    yield Check(
        kind="splits-disagree",
        arm=None,
        is_warning=is_decided,
        sentence=(
            f"Validation and test disagree: on the same runs, {one} leads by validation "
            f"({metric(validations[by_validation], unit)}, "
            f"{difference(validations[by_validation], validations[by_test], unit)} ahead of {other}), "
            f"but {other} leads by test ({metric(tests[by_test], unit)}, "
            f"{difference(tests[by_test], tests[by_validation], unit)} ahead)"
            f"{'.' if is_decided else '; the verdict on the test difference is undecided.'}"
        ),
        figures={
            "validation_gap": abs(validations[by_validation] - validations[by_test]),
            "test_gap": abs(tests[by_test] - tests[by_validation]),
        },
    )


def _curves(results: StudyResults, arm: ArmResults) -> list[list[float]]:
    """Return the validation values by epoch of an arm's complete confirmation runs, or of its best trial."""
    ids = [run.id for run in arm.confirming if has_ended(run)] or (
        [] if arm.best is None else [arm.best.trial.id]
    )
    found: list[list[float]] = []
    for trial_id in ids:
        rows = results.measurements.get(trial_id, ())
        values = [
            row.validation_metric
            for row in rows
            if row.validation_metric is not None and math.isfinite(row.validation_metric)
        ]
        if len(values) == len(rows) == results.study.epochs:
            found.append(values)
    return found


def _means(confirmed: Sequence[Confirmed], split: str) -> dict[str, float]:
    """Return each arm's confirmed mean on a split, over the best configurations of all its replicates."""
    by_arm: dict[str, list[float]] = {}
    for each in confirmed:
        value = each.test_mean if split == "test" else each.validation_mean
        if each.configuration == "best" and value is not None:
            by_arm.setdefault(each.arm, []).append(value)
    return {name: float(np.mean(values)) for name, values in by_arm.items()}
