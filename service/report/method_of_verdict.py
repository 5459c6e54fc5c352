"""How findings were checked and compared, in words.

Confirmation on fresh seeds, paired tests, budget curves, importances.
"""

__all__ = ["confirmation_said", "curves_said", "verdict_said"]

from typing import Final

from service.report.references import Citations
from studies.analysis.views import StudyAnalysis
from studies.formatting import count, plural
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import StudyView

_TESTS: Final = {
    "seeds and search": (
        "by Student's t over paired seeds, the variance widened for the luck of the "
        "search as its own trials tell it"
    ),
    "replicates": "by Welch's t over replicates of the whole search",
    "signs": "by the exact sign test over paired runs where some had diverged and a mean says nothing",
}
_COUNTED: Final = frozenset({TrialState.COMPLETED, TrialState.DIVERGED})


def confirmation_said(study: StudyView, analysis: StudyAnalysis) -> tuple[str, ...]:
    """Return how the search's findings were checked, a sentence each."""
    confirmation, replicates = study.spec.confirmation, study.spec.budget.replicates
    if confirmation.seeds == 0:
        unconfirmed = (
            "No configuration was trained again on fresh seeds: the values are those of the "
            "search itself, which flatter every arm"
        )
        return (f"{unconfirmed}, and no verdict rests on them.",)
    best = "best configuration by validation" + (" in each replicate" if replicates > 1 else "")
    fresh = plural(confirmation.seeds, "fresh seed")
    # An arm whose best is its defaults has one set of runs for both.
    counted = len(
        {run.trial_id for found in analysis.confirmed for run in found.runs if run.state in _COUNTED}
    )
    is_closed = study.state in CLOSED_STUDY_STATES
    if is_closed and counted == 0:
        unconfirmed = (
            f"Each arm's {best} and its defaults were to be trained anew on {fresh}, and "
            "none was: the study ended before"
        )
        return (
            (
                f"{unconfirmed}. The values are those of the search itself, which flatter every "
                "arm, and no verdict rests on them."
            ),
        )
    anew = f"each arm's {best} and its defaults were trained anew on {fresh}"
    said = [
        f"After the search {anew}, the same in every arm and none of them seen by a search.",
        "Only these runs, scored on the test split, are compared between arms.",
        (
            "Means are over the runs that were trained to their last epoch, with 95 % intervals by "
            "Student's t; diverged runs are counted beside them."
        ),
    ]
    has_all = {found.arm for found in analysis.confirmed} == set(analysis.arms) and all(
        found.completed + found.diverged == confirmation.seeds for found in analysis.confirmed
    )
    if is_closed and not has_all:
        said.append(f"Not all of these runs were trained to an end: {count(counted)} of them count.")
    if confirmation.solo:
        said.append("Each of these runs was trained by itself, so that its seconds are its own.")
    return tuple(said)


def verdict_said(analysis: StudyAnalysis, cite: Citations) -> tuple[str, ...]:
    """Return how arms were compared, a sentence each; nothing where none were."""
    if not analysis.pairs or all(pair.n == 0 for pair in analysis.pairs):
        return ()
    covered = dict.fromkeys(pair.covers for pair in analysis.pairs if pair.p is not None)
    means = (
        "means over replicates of the search, each over its seeds"
        if "replicates" in covered
        else "test values on equal seeds"
    )
    said = [f"Two arms are compared by the mean difference between their {means}, with its 95 % interval."]
    if covered:
        tests = "; ".join(_TESTS[covers] for covers in covered)
        said.append(
            f"P-values are two-sided, {tests}, and corrected by Holm's method over all pairs {cite('holm')}."
        )
    said.append(
        "An arm is called better or worse where the corrected p-value is below 0.05, and undecided otherwise."
    )
    if any(pair.effect_size is not None for pair in analysis.pairs):
        said.append(
            "Effect sizes are mean paired differences over their standard deviation, corrected for small "
            f"samples {cite('hedges')}; they tell how far the two configurations differ beyond their "
            "seeds, and nothing of the search."
        )
    return tuple(said)


def curves_said(analysis: StudyAnalysis, cite: Citations) -> tuple[str, ...]:
    """Return how budget curves and importances were computed, a sentence each."""
    said: list[str] = []
    shown = {curve.method for curve in analysis.curves if curve.points}
    if "expected best of k" in shown:
        said.append(
            "Budget curves show the expected best of k trials, by the unbiased estimator without "
            f"replacement (after {cite('expected-best')[1:]}."
        )
    if "best so far" in shown:
        said.append(
            "Budget curves show the best value so far in the order of the trials; for one search of "
            "this kind there is no valid band."
        )
    if "median of replicates" in shown:
        said.append("Budget curves show the median over replicates of the best value so far.")
    if any(curve.band is not None for curve in analysis.curves if curve.method == "expected best of k"):
        said.append(f"Their bands are simultaneous 95 % confidence bands {cite('bands')}.")
    if any(arm.importances for arm in analysis.sensitivity):
        said.append(f"Importances of hyperparameters were computed by PED-ANOVA {cite('importances')}.")
    return tuple(said)
