"""Whether a replayed study agrees with the original: in its verdicts, its means and its search."""

__all__ = ["agreement"]

import math
from collections.abc import Mapping, Sequence

from studies.analysis.multi_study_views import Agreement, AgreementWord, MeanAgreement, WordAgreement
from studies.analysis.views import Confirmed, PairByBudget, PairVerdict, StudyAnalysis, Word
from studies.formatting import count, difference, listed, plural
from studies.statistics.paired import t_interval


def agreement(original: StudyAnalysis, replayed: StudyAnalysis) -> Agreement:
    """Return how a replay of a study compares with the original.

    Two means agree if they are no farther apart than the root of the sum of the squared half widths of their
    intervals. If only chance differs, at most about one in twenty is farther apart; fewer on equal seeds.

    Args:
        original: the analysis of the original study.
        replayed: the analysis of the same study, run again.
    """
    foreign = _foreign(original, replayed)
    if foreign is not None:
        return Agreement(
            word="disagrees", agrees=False, verdicts=(), means=(), is_search_equal=False, sentences=(foreign,)
        )
    words = _words(original.pairs, replayed.pairs)
    budget_words = _words(_by_budget(original), _by_budget(replayed))
    pairs = _both(original, replayed)
    means = tuple(_mean(one, other) for one, other in pairs)
    missing = len(original.confirmed) - len(pairs)
    is_search_equal = _search(original) == _search(replayed)
    word = _word((*budget_words, *words), means, missing=missing, is_search_equal=is_search_equal)
    labels = {arm: original.labels.get(arm, arm) for arm in original.arms}
    sentences = (
        _describe_verdicts(budget_words, labels, about="by tuning budget" if budget_words else ""),
        _describe_verdicts(words, labels, about="on configurations" if budget_words else ""),
        _describe_means(means, missing, original.unit),
        _describe_search(original, replayed, is_search_equal=is_search_equal),
    )
    return Agreement(
        word=word,
        agrees=word in {"identical", "agrees"},
        budget_verdicts=budget_words,
        verdicts=words,
        means=means,
        is_search_equal=is_search_equal,
        sentences=(_HEADLINES[word], *(each for each in sentences if each)),
    )


_HEADLINES: dict[AgreementWord, str] = {
    "identical": "The replay gives the same figures as the original.",
    "agrees": (
        "The replay agrees with the original: its verdicts are the same, and its means differ by no more "
        "than chance."
    ),
    "partly": (
        "The replay agrees with the original in part: no verdict is reversed, but a verdict or a mean "
        "differs."
    ),
    "disagrees": "The replay contradicts the original: a verdict is reversed.",
}


def _foreign(original: StudyAnalysis, replayed: StudyAnalysis) -> str | None:
    """Return why the second study is not a replay of the first, or None."""
    if original.workload != replayed.workload:
        return (
            "The second study is not a replay of the first: the first trained "
            f"{original.workload}, the second {replayed.workload}."
        )
    if set(original.arms) != set(replayed.arms):
        arms = " and ".join(", ".join(each.arms) for each in (original, replayed))
        return f"These are not a study and its replay: their arms are {arms}."
    return None


def _words(
    original: Sequence[PairVerdict] | Sequence[PairByBudget],
    replayed: Sequence[PairVerdict] | Sequence[PairByBudget],
) -> tuple[WordAgreement, ...]:
    found: dict[tuple[str, str], Word] = {(pair.first, pair.second): pair.word for pair in replayed}
    return tuple(
        WordAgreement(
            first=pair.first, second=pair.second, original=pair.word, replayed=found[pair.first, pair.second]
        )
        for pair in original
        if (pair.first, pair.second) in found
    )


def _by_budget(analysis: StudyAnalysis) -> tuple[PairByBudget, ...]:
    return () if analysis.by_budget is None else analysis.by_budget.pairs


def _both(original: StudyAnalysis, replayed: StudyAnalysis) -> list[tuple[Confirmed, Confirmed]]:
    found = {(each.arm, each.configuration, each.replicate): each for each in replayed.confirmed}
    known = [(each, found.get((each.arm, each.configuration, each.replicate))) for each in original.confirmed]
    return [(one, other) for one, other in known if other is not None]


def _mean(one: Confirmed, other: Confirmed) -> MeanAgreement:
    allowed = _allowed(one, other)
    is_within = None
    if one.test_mean is not None and other.test_mean is not None:
        apart = abs(one.test_mean - other.test_mean)
        is_within = True if apart == 0 else None if allowed is None else apart <= allowed
    return MeanAgreement(
        arm=one.arm,
        configuration=one.configuration,
        replicate=one.replicate,
        original=one.test_mean,
        replayed=other.test_mean,
        allowed=allowed,
        is_within=is_within,
    )


def _allowed(one: Confirmed, other: Confirmed) -> float | None:
    halves = [
        _half_width(each.test_sd, each.completed)
        for each in (one, other)
        if each.test_sd is not None and each.test_low is not None
    ]
    return math.hypot(*halves) if len(halves) == 2 else None


def _half_width(sd: float, n: int) -> float:
    """Return half the width of a mean's 95 % interval; the interval as shown may be clipped."""
    return t_interval(0.0, error=sd / math.sqrt(n), df=n - 1)[1]


def _search(analysis: StudyAnalysis) -> list[object]:
    """Return the steps of a search; two are equal only if every trial that counted is."""
    chosen = [
        (each.arm, each.replicate, each.number, each.parameters, each.search_value)
        for each in analysis.confirmed
    ]
    curves = [(curve.arm, point.trials, point.value) for curve in analysis.curves for point in curve.points]
    return [*chosen, *curves]


def _word(
    words: Sequence[WordAgreement], means: Sequence[MeanAgreement], *, missing: int, is_search_equal: bool
) -> AgreementWord:
    if any({each.original, each.replayed} == {"better", "worse"} for each in words):
        return "disagrees"
    if (
        missing
        or any(each.original != each.replayed for each in words)
        or any(not each.is_within and each.original is not None for each in means)
    ):
        return "partly"
    return (
        "identical" if is_search_equal and all(each.original == each.replayed for each in means) else "agrees"
    )


def _describe_verdicts(words: Sequence[WordAgreement], labels: Mapping[str, str], *, about: str) -> str:
    if not words:
        return ""
    verdict, verdicts = (f"{noun} {about}".rstrip() for noun in ("verdict", "verdicts"))
    changed = [each for each in words if each.original != each.replayed]
    if not changed:
        return (
            f"The {verdict} is the same."
            if len(words) == 1
            else f"All {count(len(words))} {verdicts} are the same."
        )
    parts = [
        f"{labels[each.first]} compared with {labels[each.second]} was {each.original} and is now "
        f"{each.replayed}"
        for each in changed
    ]
    if len(words) == 1:
        return f"The {verdict} differs: {parts[0]}."
    differ = "differs" if len(changed) == 1 else "differ"
    return f"{count(len(changed))} of {plural(len(words), verdict, verdicts)} {differ}: {listed(parts)}."


def _describe_means(means: Sequence[MeanAgreement], missing: int, unit: str) -> str:
    known = [each for each in means if each.original is not None and each.replayed is not None]
    parts: list[str] = []
    if known:
        near = sum(bool(each.is_within) for each in known)
        apart = max(_apart(each) for each in known)
        agree = "agrees" if near == 1 else "agree"
        parts.append(f"{count(near)} of {plural(len(known), 'confirmed mean')} {agree} within chance")
        parts.append(f"the largest difference is {difference(apart, 0, unit)}")
    lost = missing + len(means) - len(known)
    if lost:
        parts.append(f"{plural(lost, 'confirmed mean')} cannot be compared")
    return f"{'; '.join(parts)}." if parts else ""


def _apart(each: MeanAgreement) -> float:
    """Return how far apart two known means are."""
    assert each.original is not None, "asked of known means"
    assert each.replayed is not None, "asked of known means"
    return abs(each.original - each.replayed)


def _describe_search(original: StudyAnalysis, replayed: StudyAnalysis, *, is_search_equal: bool) -> str:
    if is_search_equal:
        return "The search was identical, value for value."
    first = next(
        (arm for arm in original.arms if _search_of(original, arm) != _search_of(replayed, arm)), None
    )
    where = "" if first is None else f", starting with {original.labels.get(first, first)}"
    return (
        f"The search took a different course{where}. That happens if packs end in another order or results "
        "round differently, because an adaptive sampler learns from them."
    )


def _search_of(analysis: StudyAnalysis, arm: str) -> list[object]:
    return [each for each in _search(analysis) if isinstance(each, tuple) and each[0] == arm]
