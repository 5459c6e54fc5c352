"""The analysis of one study, computed from its stored record.

It has no side effects and is fast enough to run while a page loads.
"""

__all__ = ["analyse"]

from studies.analysis.budget_curves import budget_curves, flips
from studies.analysis.by_budget import budget_verdict
from studies.analysis.checks import checks
from studies.analysis.confirmed import confirmed, time_to_target
from studies.analysis.failures import failure_groups
from studies.analysis.findings import finding
from studies.analysis.further_metrics import further_metrics
from studies.analysis.narrowing import narrowing
from studies.analysis.paired_trials import paired_trials
from studies.analysis.sensitivities import arm_importances, sensitivities
from studies.analysis.study_results import study_results
from studies.analysis.under_tuned import under_tuned_arms
from studies.analysis.verdicts import judge_arms, pair_verdicts
from studies.analysis.views import StudyAnalysis
from studies.views import StudyRecord


def analyse(record: StudyRecord) -> StudyAnalysis:
    """Return the analysis of a study in any state; the same record always gives the same analysis.

    Args:
        record: everything that is stored of the study, read at one moment.
    """
    results = study_results(record)
    study, card = results.study, results.card
    paired = paired_trials(results)
    by_budget = None if paired is None else budget_verdict(paired)
    judgement = judge_arms(results)
    under_tuned = under_tuned_arms(results, judgement.pairs)
    pairs = pair_verdicts(results, judgement, under_tuned)
    configurations = confirmed(results)
    lead_changes = flips(results)
    importances = arm_importances(results)
    return StudyAnalysis(
        study_id=study.id,
        name=study.name,
        state=study.state,
        workload=study.workload,
        metric=card.metric,
        unit=card.unit,
        direction=card.direction,
        arms=tuple(arm.name for arm in results.arms),
        labels={arm.name: arm.label for arm in results.arms},
        finding=finding(results, judgement, pairs, under_tuned, configurations, lead_changes, by_budget),
        confirmed=configurations,
        by_budget=by_budget,
        narrowing=() if results.is_closed else narrowing(paired),
        ranks=judgement.ranks,
        pairs=pairs,
        metrics=further_metrics(results, paired),
        curves=budget_curves(results, paired),
        flips=lead_changes,
        checks=checks(
            results, importances=importances, under_tuned=under_tuned, confirmed=configurations, pairs=pairs
        ),
        sensitivity=sensitivities(results, importances),
        time_to_target=time_to_target(results),
        failures=failure_groups((*record.trials, *record.confirmations)),
    )
