"""From a study's record to everything it says of its arms.

Pure, and quick enough to be done while a page waits.
"""

__all__ = ["analyse"]

from studies.analysis.budget_curves import budget_curves, flips
from studies.analysis.checks import checks
from studies.analysis.confirmed import confirmed, time_to_target
from studies.analysis.findings import finding
from studies.analysis.sensitivities import sensitivities, shares
from studies.analysis.study_results import read
from studies.analysis.under_tuned import losses
from studies.analysis.verdicts import judged, verdicts
from studies.analysis.views import StudyAnalysis
from studies.views import StudyRecord


def analyse(record: StudyRecord) -> StudyAnalysis:
    """Return what a study's record says, whatever state the study is in.

    The same record always gives the same analysis.

    Args:
        record: everything on record, as it stood at one moment.
    """
    reading = read(record)
    study, card = reading.study, reading.card
    judgement = judged(reading)
    behind = losses(reading, judgement.pairs)
    verdict = verdicts(reading, judgement, behind)
    found = confirmed(reading)
    changes = flips(reading)
    importances = shares(reading)
    return StudyAnalysis(
        study_id=study.id,
        name=study.name,
        state=study.state,
        workload=study.workload,
        metric=card.metric,
        unit=card.unit,
        direction=card.direction,
        arms=tuple(arm.name for arm in reading.arms),
        labels={arm.name: arm.label for arm in reading.arms},
        finding=finding(reading, verdict, behind, found, changes),
        confirmed=found,
        ranks=verdict.ranks,
        pairs=verdict.pairs,
        curves=budget_curves(reading),
        flips=changes,
        checks=checks(reading, importances=importances, losses=behind, confirmed=found, pairs=verdict.pairs),
        sensitivity=sensitivities(reading, importances),
        time_to_target=time_to_target(reading),
    )
