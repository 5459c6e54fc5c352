"""The verdict: every pair of arms by its confirmed best configurations, and the ranks that follow."""

__all__ = ["count_divergence", "judge_arms", "pair_verdict", "pair_verdicts"]

from collections.abc import Sequence

from studies.analysis.confirmed import scores
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.views import PairVerdict
from studies.analysis.wording import Divergence, verdict_sentence
from studies.formatting import plural
from studies.states import TrialState
from studies.statistics.verdict import ArmScores, Judgement, PairJudgement, judge


def judge_arms(results: StudyResults) -> Judgement:
    """Return the judgement of the arms that have, or may still get, a confirmed configuration.

    In a closed study, an arm without any completed trial, some of which diverged, will never have one. The
    others are judged without it.
    """
    arms = [
        ArmScores(
            name=arm.name,
            scores=scores(results, arm),
            search_values=results.values(arm.trials),
            adaptive=results.is_adaptive,
            search_tests=results.tests(arm.trials),
        )
        for arm in results.arms
        if not (results.is_closed and arm.is_hopeless)
    ]
    return judge(arms, direction=results.direction)


def pair_verdicts(
    results: StudyResults, judgement: Judgement, under_tuned: Sequence[UnderTunedArm]
) -> tuple[PairVerdict, ...]:
    """Return the verdict on every pair of arms, in the study's order, each with its sentence.

    Args:
        results: the study.
        judgement: the result of `judge_arms`.
        under_tuned: the arms that are behind an arm they contain.
    """
    judged = {(pair.first, pair.second): pair for pair in judgement.pairs}
    verdicts: list[PairVerdict] = []
    for n, first in enumerate(results.arms):
        for second in results.arms[n + 1 :]:
            pair = judged.get((first.name, second.name))
            verdicts.append(
                _verdict_without_scores(first, second)
                if pair is None
                else _verdict(results, pair, first, second, under_tuned)
            )
    return tuple(verdicts)


def count_divergence(results: StudyResults, first: ArmResults, second: ArmResults) -> Divergence:
    """Return how many confirmation runs of two arms diverged, and of a closed study how many searches."""
    runs = [sum(run.state is TrialState.DIVERGED for run in arm.confirming) for arm in (first, second)]
    searches = [arm.lost_searches if results.is_closed else 0 for arm in (first, second)]
    return Divergence(*runs, *searches)


def pair_verdict(pair: PairJudgement, reason: str) -> PairVerdict:
    """Return a pair's judgement together with its sentence."""
    return PairVerdict(**pair.model_dump(), reason=reason)


def _verdict(
    results: StudyResults,
    pair: PairJudgement,
    first: ArmResults,
    second: ArmResults,
    under_tuned: Sequence[UnderTunedArm],
) -> PairVerdict:
    sentence = verdict_sentence(
        pair,
        first=first.label,
        second=second.label,
        sign=results.sign,
        unit=results.card.unit,
        divergence=count_divergence(results, first, second),
        is_closed=results.is_closed,
    )
    qualifications = [
        f"However, {each.clause}."
        for each in under_tuned
        if each.is_certain and {each.arm.name, each.other.name} == {pair.first, pair.second}
    ]
    return pair_verdict(pair, " ".join([sentence, *qualifications]))


def _verdict_without_scores(first: ArmResults, second: ArmResults) -> PairVerdict:
    """Return the verdict on a pair in which an arm has no completed trial."""
    causes = " and ".join(
        f"all {plural(len(arm.spent), 'trial')} of {arm.label} diverged or were pruned"
        if len(arm.spent) > 1
        else f"the only trial of {arm.label} diverged or was pruned"
        for arm in (first, second)
        if arm.is_hopeless
    )
    return PairVerdict(
        first=first.name,
        second=second.name,
        word="undecided",
        n=0,
        difference=None,
        low=None,
        high=None,
        seeds_low=None,
        seeds_high=None,
        p=None,
        p_holm=None,
        effect_size=None,
        method="none",
        covers="seeds and search",
        reason=f"{first.label} and {second.label} cannot be compared: {causes}.",
    )
