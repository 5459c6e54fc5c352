"""The verdict: every pair of arms by its confirmed best configurations, and the ranks that follow."""

__all__ = ["Verdict", "diverged", "judged", "pair_verdict", "verdicts"]

from collections.abc import Sequence
from dataclasses import dataclass

from studies.analysis.confirmed import scores
from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.under_tuned import UnderTunedArm
from studies.analysis.views import ArmRank, PairVerdict
from studies.analysis.wording import Diverged, reason
from studies.formatting import plural
from studies.states import TrialState
from studies.statistics.verdict import ArmScores, Judgement, PairJudgement, judge


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study's confirmed scores say, in words.

    Attributes:
        pairs: every pair of arms, in the study's order.
        ranks: best first; empty until every arm that can be confirmed has been.
        winner: the arm that is better than every other, or None.
    """

    pairs: tuple[PairVerdict, ...]
    ranks: tuple[ArmRank, ...]
    winner: str | None


def judged(reading: StudyResults) -> Judgement:
    """Return the judgement of the arms that have, or may still get, a configuration to confirm.

    An arm all of whose trials diverged has none and will never have one; the others are judged without it.
    """
    arms = [
        ArmScores(
            name=arm.name,
            scores=scores(reading, arm),
            search_values=reading.values(arm.trials),
            adaptive=reading.is_adaptive,
            search_tests=reading.tests(arm.trials),
        )
        for arm in reading.arms
        if not (reading.is_closed and arm.is_hopeless)
    ]
    return judge(arms, direction=reading.direction)


def verdicts(reading: StudyResults, judgement: Judgement, losses: Sequence[UnderTunedArm]) -> Verdict:
    """Return the verdict in words.

    Args:
        reading: the study.
        judgement: what `judged` returned.
        losses: arms that are behind one they contain.
    """
    found = {(pair.first, pair.second): pair for pair in judgement.pairs}
    pairs: list[PairVerdict] = []
    for n, first in enumerate(reading.arms):
        for second in reading.arms[n + 1 :]:
            pair = found.get((first.name, second.name))
            pairs.append(
                _without_scores(first, second)
                if pair is None
                else _in_words(reading, pair, first, second, losses)
            )
    ranks = tuple(
        ArmRank(arm=each.arm, rank=each.rank, low=each.low, high=each.high) for each in judgement.ranks
    )
    return Verdict(pairs=tuple(pairs), ranks=ranks, winner=judgement.winner)


def _in_words(
    reading: StudyResults,
    pair: PairJudgement,
    first: ArmResults,
    second: ArmResults,
    losses: Sequence[UnderTunedArm],
) -> PairVerdict:
    said = reason(
        pair,
        first=first.label,
        second=second.label,
        sign=reading.sign,
        unit=reading.card.unit,
        diverged=diverged(reading, first, second),
        is_closed=reading.is_closed,
    )
    notes = [
        loss.clause
        for loss in losses
        if loss.is_certain and {loss.arm.name, loss.other.name} == {pair.first, pair.second}
    ]
    return pair_verdict(pair, " ".join([said, *(f"But {note}." for note in notes)]))


def diverged(reading: StudyResults, first: ArmResults, second: ArmResults) -> Diverged:
    """Return what diverged of two arms' best configurations.

    Also what diverged of their searches, once nothing more comes.
    """
    runs = [sum(run.state is TrialState.DIVERGED for run in arm.confirming) for arm in (first, second)]
    searches = [arm.lost_searches if reading.is_closed else 0 for arm in (first, second)]
    return Diverged(*runs, *searches)


def pair_verdict(pair: PairJudgement, said: str) -> PairVerdict:
    """Return a judged pair with its word in a sentence."""
    return PairVerdict(
        first=pair.first,
        second=pair.second,
        word=pair.word,
        n=pair.n,
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        seeds_low=pair.seeds_low,
        seeds_high=pair.seeds_high,
        p=pair.p,
        p_holm=pair.p_holm,
        effect_size=pair.effect_size,
        method=pair.method,
        covers=pair.covers,
        reason=said,
    )


def _without_scores(first: ArmResults, second: ArmResults) -> PairVerdict:
    """Return the verdict of a pair of which an arm never trained to its end."""
    said = " and ".join(
        f"all of {arm.label}’s {plural(len(arm.spent), 'trial')} diverged or were pruned"
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
        reason=f"{first.label} and {second.label} cannot be compared: {said}.",
    )
