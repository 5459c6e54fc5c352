"""The verdict on a study in a phrase, for lists of studies."""

__all__ = ["verdict_phrase"]

from collections.abc import Sequence

from studies.analysis.views import StudyAnalysis
from studies.formatting import listed
from studies.states import CLOSED_STUDY_STATES

_MOST_NAMES = 2


def verdict_phrase(analysis: StudyAnalysis) -> str:
    """Return the verdict of a study in a phrase, e.g. 'AdamP better than SGD'; empty before there is one.

    With paired trials it is the verdict on the optimizers, otherwise that on the confirmed configurations.
    It only says "better" of pairs of arms that are decided.
    """
    by_budget = analysis.by_budget
    pairs = by_budget.pairs if by_budget is not None and by_budget.pairs else analysis.pairs
    words = [(pair.first, pair.second, pair.word) for pair in pairs]
    if not words:
        return ""
    wins = {(first, second) for first, second, word in words if word == "better"}
    wins |= {(second, first) for first, second, word in words if word == "worse"}
    if not wins:
        return "undecided" if analysis.state in CLOSED_STUDY_STATES else "undecided so far"
    beaten = {loser for _, loser in wins}
    leaders = [arm for arm in analysis.arms if arm not in beaten and any(arm == winner for winner, _ in wins)]
    if not leaders:
        return "no arm leads"
    beaten_by_all = [arm for arm in analysis.arms if all((leader, arm) in wins for leader in leaders)]
    if not beaten_by_all:
        one_each = [(leader, [arm for arm in analysis.arms if (leader, arm) in wins]) for leader in leaders]
        return ", ".join(
            f"{_named([leader], analysis)} better than {_named(losers, analysis)}"
            for leader, losers in one_each[:_MOST_NAMES]
        )
    if len(beaten_by_all) == len(analysis.arms) - 1 > _MOST_NAMES:
        return f"{_named(leaders, analysis)} better than every other arm"
    compared = {arm for first, second, _ in words for arm in (first, second)}
    rest = [arm for arm in analysis.arms if arm in compared.difference(leaders, beaten_by_all)]
    undecided = f", {_named(rest, analysis)} undecided" if rest else ""
    return f"{_named(leaders, analysis)} better than {_named(beaten_by_all, analysis)}{undecided}"


def _named(arms: Sequence[str], analysis: StudyAnalysis) -> str:
    return listed([analysis.labels[arm] for arm in arms], most=_MOST_NAMES)
