"""What a study that adds pairs until its arms are decided has decided by now, from its stored trials."""

__all__ = ["pairs_of_replicate", "study_looks"]

from collections.abc import Iterable, Mapping

from studies.catalog import WorkloadCard
from studies.spec import StudySpec
from studies.statistics.budget_contrasts import ArmTrials
from studies.statistics.until_decided import Looks, judge_looks, looks
from studies.trial_values import is_over, paired_tests, paired_validation
from studies.views import TrialView


def study_looks(spec: StudySpec, card: WorkloadCard, trials: Iterable[TrialView]) -> Looks:
    """Return what a study's looks at its pairs have decided.

    Pairs are ordered by their index, then by their replicate, so that the first n are those of a look at n.

    Args:
        spec: the study, which adds pairs until its arms are decided.
        card: the workload, by the study's objective.
        trials: the study's trials.
    """
    search = spec.search
    assert search.until is not None, "the study adds pairs"
    assert search.verdict_at is not None, "it has enough pairs for a verdict"
    planned = looks(search.pairs, search.until.max_pairs * search.replicates)
    of_arms: dict[str, dict[int, TrialView]] = {arm.name: {} for arm in spec.arms}
    for trial in trials:
        if trial.phase == "search" and trial.pair_index is not None and trial.replicate < search.replicates:
            of_arms[trial.arm][trial.pair_index * search.replicates + trial.replicate] = trial
    arms: list[ArmTrials] = []
    for name, by_place in of_arms.items():
        pairs = [by_place.get(place) for place in range(planned[-1])]
        validation, test = paired_validation(pairs, card.direction), paired_tests(pairs)
        arms.append(ArmTrials(name=name, validation=validation, test=test))
    dropped: dict[str, int] = {}
    while True:
        found = judge_looks(
            arms,
            ended=_ended(of_arms, dropped, most=planned[-1]),
            planned=planned,
            direction=card.direction,
            primary=search.verdict_at,
            pairs=search.until.pairs,
            can_drop=search.until.drop_losers,
            diverged=card.chance,
        )
        # An arm that a look has dropped does not delay the next one.
        if found.dropped == dropped:
            return found
        dropped = found.dropped


def pairs_of_replicate(pairs: int, replicate: int, *, replicates: int) -> int:
    """Return how many of the first pairs of a study belong to one of its replicates."""
    return max(0, -(-(pairs - replicate) // replicates))


def _ended(of_arms: Mapping[str, Mapping[int, TrialView]], dropped: Mapping[str, int], *, most: int) -> int:
    """Return how many leading pairs have ended in every arm that takes part in them."""
    for place in range(most):
        for name, found in of_arms.items():
            trial = found.get(place)
            takes_part = place < dropped.get(name, most)
            if takes_part and not is_over(trial):
                return place
    return most
