"""The verdict: every pair of arms by its confirmed best configurations, and the ranks that follow."""

__all__ = [
    "arm_scores",
    "best_scores",
    "count_divergence",
    "judge_arms",
    "name_in_verdict",
    "pair_verdict",
    "pair_verdicts",
    "question",
]

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from studies.analysis.confirmed import scores
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.views import PairVerdict
from studies.analysis.wording import Divergence, verdict_sentence
from studies.formatting import plural
from studies.states import TrialState
from studies.statistics.verdict import ArmScores, Judgement, PairJudgement, Question, judge


def arm_scores(results: StudyResults, *, metric: str | None = None) -> list[ArmScores]:
    """Return the scores of the arms that have, or may still get, a confirmed configuration.

    In a closed study, an arm without any completed trial, some of which diverged, will never have one. The
    others are judged without it. Of a study whose optimizers are judged by their paired trials, each arm has
    only the scores of its best configuration.

    Args:
        results: the study.
        metric: another metric than the objective, by which nothing was searched.
    """
    return [
        ArmScores(
            name=arm.name,
            scores=best_scores(results, arm, metric=metric)
            if results.has_enough_pairs
            else scores(results, arm, metric=metric),
            search_values=results.values(arm.trials),
            adaptive=results.is_adaptive,
            search_tests=results.tests(arm.trials, metric=metric),
            search_direction=None if metric is None else results.direction,
        )
        for arm in results.arms
        if not (results.is_closed and arm.is_hopeless)
    ]


def question(results: StudyResults) -> Question:
    """Return what the verdict on confirmed configurations is about.

    With enough paired trials these answer which optimizer is better, and confirmation which configuration.
    """
    return "configurations" if results.has_enough_pairs else "optimizers"


def judge_arms(results: StudyResults) -> Judgement:
    """Return the judgement of the arms by their confirmed best configurations."""
    return judge(arm_scores(results), direction=results.direction, about=question(results))


def best_scores(results: StudyResults, arm: ArmResults, *, metric: str | None = None) -> NDArray[np.float64]:
    """Return the test values of an arm's best configuration on the study's fresh seeds, [1, S]."""
    best = next((row for row, each in enumerate(arm.bests) if each is not None and each is arm.best), None)
    rows = scores(results, arm, metric=metric)
    return np.full((1, len(results.seeds)), np.nan) if best is None else rows[best : best + 1]


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
                _verdict_without_scores(results, first, second)
                if pair is None
                else _verdict(results, pair, first, second, under_tuned)
            )
    return tuple(verdicts)


def count_divergence(results: StudyResults, first: ArmResults, second: ArmResults) -> Divergence:
    """Return how many confirmation runs of two arms diverged, and of a closed study how many searches."""
    if results.has_enough_pairs:
        runs = [() if arm.best is None else arm.best.runs for arm in (first, second)]
        return Divergence(*(sum(run.state is TrialState.DIVERGED for run in of_arm) for of_arm in runs))
    runs = [sum(run.state is TrialState.DIVERGED for run in arm.confirming) for arm in (first, second)]
    searches = [arm.lost_searches if results.is_closed else 0 for arm in (first, second)]
    return Divergence(*runs, *searches)


def name_in_verdict(label: str, about: Question) -> str:
    """Return what a verdict by confirmation runs names: the arm of this label, or its best configuration."""
    return f"{label}’s best configuration" if about == "configurations" else label


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
        first=name_in_verdict(first.label, question(results)),
        second=name_in_verdict(second.label, question(results)),
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


def _verdict_without_scores(results: StudyResults, first: ArmResults, second: ArmResults) -> PairVerdict:
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
        covers="configurations" if results.has_enough_pairs else "seeds and search",
        reason=f"{first.label} and {second.label} cannot be compared: {causes}.",
    )
