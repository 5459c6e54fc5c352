"""The verdict on a study in a phrase, for lists of studies."""

__all__ = ["verdict_phrase"]

from studies.analysis.views import StudyAnalysis
from studies.formatting import listed
from studies.states import CLOSED_STUDY_STATES

_MOST_NAMES = 2


def verdict_phrase(analysis: StudyAnalysis) -> str:
    """Return the verdict of a study in a phrase, e.g. 'AdamP better than SGD'; empty before there is one.

    With paired trials it is the verdict on the optimizers, otherwise that on the confirmed configurations.
    """
    by_budget = analysis.by_budget
    pairs = by_budget.pairs if by_budget is not None and by_budget.pairs else analysis.pairs
    words = [(pair.first, pair.second, pair.word) for pair in pairs]
    if not words:
        return ""
    beaten = {second for _, second, word in words if word == "better"}
    beaten |= {first for first, _, word in words if word == "worse"}
    if not beaten:
        return "undecided" if analysis.state in CLOSED_STUDY_STATES else "undecided so far"
    named = {arm for first, second, _ in words for arm in (first, second)}
    ahead = [analysis.labels[arm] for arm in analysis.arms if arm in named - beaten]
    behind = [analysis.labels[arm] for arm in analysis.arms if arm in beaten]
    if not ahead:
        return "no arm leads"
    if len(ahead) == 1:
        others = "every other arm" if len(behind) > _MOST_NAMES else listed(behind)
        return f"{ahead[0]} better than {others}"
    return f"{listed(ahead, most=_MOST_NAMES)} ahead of {listed(behind, most=_MOST_NAMES)}"
