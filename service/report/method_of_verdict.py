"""How results were confirmed and compared, as sentences.

Confirmation runs on fresh seeds, tests between arms, budget curves and importances.
"""

__all__ = ["describe_comparison", "describe_confirmation", "describe_curves"]

from typing import Final

from service.report.references import Citations
from studies.analysis.views import StudyAnalysis
from studies.formatting import count, listed, plural
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import StudyView

_TESTS: Final = {
    "seeds and search": (
        "from Student's t test over paired seeds, with the variance widened for the variation over searches, "
        "as estimated from each search's own trials"
    ),
    "replicates": "from Welch's t test over replicates of the whole search",
    "signs": (
        "from the exact sign test over paired runs if some of them diverged, which leaves no meaningful mean"
    ),
}
_COUNTED: Final = frozenset({TrialState.COMPLETED, TrialState.DIVERGED})
_UNCONFIRMED: Final = (
    "All values are those of the search itself, which are optimistic for every arm, and no verdict rests on "
    "them."
)


def describe_confirmation(study: StudyView, analysis: StudyAnalysis) -> tuple[str, ...]:
    """Return how the results of the search were confirmed, one sentence each."""
    confirmation, replicates = study.spec.confirmation, study.spec.budget.replicates
    if confirmation.seeds == 0:
        return ("No configuration was retrained on fresh seeds.", _UNCONFIRMED)
    best = "best configuration by validation" + (" in each replicate" if replicates > 1 else "")
    fresh = plural(confirmation.seeds, "fresh seed")
    # An arm whose best configuration is its defaults has one set of runs for both.
    counted = len(
        {run.trial_id for found in analysis.confirmed for run in found.runs if run.state in _COUNTED}
    )
    is_closed = study.state in CLOSED_STUDY_STATES
    if is_closed and counted == 0:
        return (
            (
                f"Each arm's {best} and its defaults were to be retrained on {fresh}, but the study ended "
                "before any of these runs."
            ),
            _UNCONFIRMED,
        )
    is_single = confirmation.seeds == 1
    sentences = [
        f"After the search, each arm's {best} and its defaults were retrained on {fresh}.",
        f"{'The seed is' if is_single else 'The seeds are'} the same in every arm and new to every search.",
        "Only these runs, scored on the test split, are compared between arms.",
        (
            "Means are over the runs that were trained to their last epoch, with 95 % intervals from "
            "Student's t distribution; diverged runs are counted separately."
        ),
    ]
    has_all = {found.arm for found in analysis.confirmed} == set(analysis.arms) and all(
        found.completed + found.diverged == confirmation.seeds for found in analysis.confirmed
    )
    if is_closed and not has_all:
        sentences.append(f"Not all of these runs were finished: {count(counted)} of them count.")
    if confirmation.solo:
        sentences.append("Each of these runs was trained alone, so that its training time is its own.")
    return tuple(sentences)


def describe_comparison(analysis: StudyAnalysis, cite: Citations) -> tuple[str, ...]:
    """Return how arms were compared, one sentence each; empty if no arms were compared."""
    if not analysis.pairs or all(pair.n == 0 for pair in analysis.pairs):
        return ()
    covered = dict.fromkeys(pair.covers for pair in analysis.pairs if pair.p is not None)
    means = (
        "means over replicates of the search, each of them a mean over seeds"
        if "replicates" in covered
        else "test values on the same seeds"
    )
    sentences = [
        f"Two arms are compared by the mean difference between their {means}, with its 95 % interval."
    ]
    if covered:
        tests = "; ".join(_TESTS[covers] for covers in covered)
        sentences.append(
            f"P-values are two-sided, {tests}, and corrected by Holm's method over all pairs {cite('holm')}."
        )
    sentences.append(
        "An arm is called better or worse if the corrected p-value is below 0.05, and undecided otherwise."
    )
    further = [metric.name for metric in analysis.metrics if metric.is_compared]
    if further:
        sentences.append(
            f"Arms are compared in the same way by {listed(further, most=len(further))}, by which nothing "
            "was searched; these p-values are corrected by Holm's method over all pairs by all of these "
            "metrics together, apart from those by the objective."
        )
    if any(pair.effect_size is not None for pair in analysis.pairs):
        sentences.append(
            "Effect sizes are mean paired differences divided by their standard deviation, corrected for "
            f"small samples {cite('hedges')}; they show how far two configurations differ relative to their "
            "variation between seeds, and do not cover the search."
        )
    return tuple(sentences)


def describe_curves(analysis: StudyAnalysis, cite: Citations) -> tuple[str, ...]:
    """Return how budget curves and importances were computed, one sentence each."""
    sentences: list[str] = []
    methods = {curve.method for curve in analysis.curves if curve.points}
    if "expected best of k" in methods:
        sentences.append(
            "Budget curves show the expected best of k trials, by the unbiased estimator without "
            f"replacement (after {cite('expected-best')[1:]}."
        )
    if "best so far" in methods:
        sentences.append(
            "Budget curves show the best value so far in the order of the trials; a single search of this "
            "kind allows no valid band."
        )
    if "median of replicates" in methods:
        sentences.append("Budget curves show the median over replicates of the best value so far.")
    if any(curve.band is not None for curve in analysis.curves if curve.method == "expected best of k"):
        sentences.append(f"Their bands are simultaneous 95 % confidence bands {cite('bands')}.")
    if any(arm.importances for arm in analysis.sensitivity):
        sentences.append(f"Importances of hyperparameters were computed by PED-ANOVA {cite('importances')}.")
    return tuple(sentences)
