"""How results were confirmed and compared, as sentences.

The budget verdict, confirmation runs on fresh seeds, tests between arms, budget curves and importances.
"""

__all__ = ["describe_budget_verdict", "describe_comparison", "describe_confirmation", "describe_curves"]

from typing import Final

from service.budget_differences import has_budget_verdict
from service.report.references import Citations
from studies.analysis.views import BudgetVerdict, StudyAnalysis
from studies.formatting import count, listed, metric, metric_unit, plural
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import StudyView

_TESTS: Final = {
    "seeds and search": (
        "from Student's t test over paired seeds, with the variance widened for the variation over searches, "
        "as estimated from each search's own trials"
    ),
    "configurations": "from Student's t test over paired seeds",
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
    unconfirmed = () if has_budget_verdict(analysis) else (_UNCONFIRMED,)
    if confirmation.seeds == 0:
        return ("No configuration was retrained on fresh seeds.", *unconfirmed)
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
            *unconfirmed,
        )
    is_single = confirmation.seeds == 1
    sentences = [
        f"After the search, each arm's {best} and its defaults were retrained on {fresh}.",
        f"{'The seed is' if is_single else 'The seeds are'} the same in every arm and new to every search.",
        (
            "Configurations are compared between arms by these runs only, scored on the test split."
            if has_budget_verdict(analysis)
            else "Only these runs, scored on the test split, are compared between arms."
        ),
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


def describe_budget_verdict(study: StudyView, analysis: StudyAnalysis, cite: Citations) -> tuple[str, ...]:
    """Return how optimizers were compared by tuning budget, one sentence each; empty without enough pairs."""
    verdict = analysis.by_budget
    if verdict is None or verdict.primary is None:
        return ()
    card = study.workload_card
    sentences = [
        (
            f"Optimizers are compared by tuning budget: by the expected test {card.metric} of the best of k "
            "of an arm's paired trials by validation, for each k up to a quarter of them."
        ),
        (
            f"It is the mean over all sets of k trials, a U-statistic "
            f"{cite('u-statistic', 'expected-best')}, which is unbiased for trials drawn independently; "
            "trials of equal validation value share their weights, and the defaults take no part."
        ),
    ]
    if verdict.diverged_value is not None:
        value = f"{metric(verdict.diverged_value, card.unit)}{metric_unit(card.unit)}"
        sentences.append(
            f"A diverged trial ranks last by validation and counts with a test value of {value}, the same in "
            "every arm."
        )
    sentences += [
        (
            "The variance of the difference between two arms is the jackknife's over pairs of trials "
            f"{cite('jackknife')}, and its 95 % interval is from Student's t distribution with "
            "min(n / min(k, 2), 1.5 n / k) - 1 degrees of freedom for n pairs, a number calibrated by "
            "simulation."
        ),
        _describe_words(verdict, verdict.primary, cite),
        *(
            [
                (
                    "P-values are corrected by the distribution of the largest absolute difference over its "
                    f"standard error in a multiplier bootstrap {cite('multiplier-bootstrap')}, stepping down "
                    f"{cite('step-down')}."
                )
            ]
            if len(verdict.pairs) > 1
            else []
        ),
        (
            "The 95 % band of the differences over all k and all pairs of arms is a second, separate "
            f"statement, from the largest absolute difference over its standard error in a multiplier "
            f"bootstrap {cite('multiplier-bootstrap')}."
        ),
    ]
    return tuple(sentences)


def _describe_words(verdict: BudgetVerdict, primary: int, cite: Citations) -> str:
    """Return the rule by which an arm is called better, worse or undecided."""
    judged = f"Arms are judged at k = {count(primary)}, which was set when the study was submitted"
    if not verdict.looks:
        return (
            f"{judged}: an arm is called better or worse if the two-sided p-value, corrected over all pairs "
            "of arms, is below 0.05, and undecided otherwise."
        )
    at = listed([count(look) for look in verdict.looks], most=len(verdict.looks))
    return (
        f"{judged}, while pairs of trials are added, with looks at {at} pairs at most. An error-spending "
        f"function of O'Brien and Fleming's type {cite('spending')} allots the 5 % to the looks. An arm is "
        "called better or worse at the first look at which the two-sided p-value, corrected over the pairs "
        "of arms that are still open, is below the level of that look."
    )


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
    is_of_configurations = has_budget_verdict(analysis)
    compared = "The best configurations of two arms" if is_of_configurations else "Two arms"
    sentences = [
        f"{compared} are compared by the mean difference between their {means}, with its 95 % interval."
    ]
    if covered:
        tests = "; ".join(_TESTS[covers] for covers in covered)
        sentences.append(
            f"P-values are two-sided, {tests}, and corrected by Holm's method over all pairs {cite('holm')}."
        )
    sentences.append(
        f"{'A configuration' if is_of_configurations else 'An arm'} is called better or worse if the "
        "corrected p-value is below 0.05, and undecided otherwise."
    )
    if is_of_configurations:
        sentences.append(
            "This compares configurations and not optimizers, because two searches with one optimizer also "
            "end at configurations that differ."
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
