"""The finding of a suite, and its limits."""

__all__ = ["suite_finding"]

from collections.abc import Container, Mapping, Sequence

from studies.analysis.multi_study_views import SuiteArm, SuiteStudy, WinChance
from studies.analysis.study_results import StudyResults
from studies.analysis.views import Finding
from studies.analysis.wording import capitalized
from studies.formatting import count, difference_interval, listed, percent, plural

_FEW_WORKLOADS = 3


def suite_finding(
    studies: Sequence[SuiteStudy],
    arms: Sequence[SuiteArm],
    wins: Sequence[WinChance],
    counted: Sequence[StudyResults],
    *,
    ahead: Container[tuple[str, str]],
    budget: int | None,
) -> Finding:
    """Return what the suite found, and the limits of that.

    An arm wins if it beats every other arm in two ways, on at least two workloads together. First, beyond the
    variation over seeds: the interval of its chance to win lies above one half, and that of its interquartile
    mean above the other arm's. Second, by the verdicts of the studies taken together, which allow for the
    variation over searches. Without these, two arms of one optimizer would be told apart on every second pair
    of workloads.

    Args:
        studies: every study of the suite.
        arms: the arms in common, best interquartile mean first.
        wins: every pair of these arms.
        counted: the studies that count.
        ahead: pairs (better, worse) that the verdicts of the studies together tell from chance.
        budget: the tuning budget of `budget_iqm`, in trials; None without one.
    """
    if not studies:
        return Finding(sentence="This suite has no studies yet.", winner=None, limits=())
    if not arms:
        reasons = "; ".join(
            dict.fromkeys(
                study.why_not.removesuffix(".").replace("It", "it", 1)
                for study in studies
                if study.why_not is not None
            )
        )
        none = (
            "its only study does not count"
            if len(studies) == 1
            else (f"none of its {_studies(len(studies))} counts")
        )
        return Finding(
            sentence=f"The suite has no result yet: {none}. Reasons: {reasons}.", winner=None, limits=()
        )
    workloads = len({study.workload for study in studies if study.is_counted})
    labels = {arm.name: arm.label for results in reversed(counted) for arm in results.arms}
    winner = _winner(arms, wins, ahead) if workloads > 1 else None
    first, second = arms[0], arms[1]
    over = f"over {plural(workloads, 'workload')}"
    chance = _chance(wins, first.arm, second.arm)
    beats = f"a run of {labels[first.arm]} beats a run of {labels[second.arm]} with a chance of {chance}"
    reached = f"{_iqm_of(first)} and that of {labels[second.arm]} {_iqm_of(second)}"
    if winner is not None:
        others = f"each of the {count(len(arms) - 1)} other arms" if len(arms) > 2 else labels[second.arm]
        sentence = (
            f"{labels[winner]} is better than {others} {over}: its interquartile mean is {reached}; {beats}"
        )
    elif first.iqm == second.iqm:
        sentence = (
            f"the comparison {over} is undecided: {labels[first.arm]} and {labels[second.arm]} are tied at "
            f"an interquartile mean of {_iqm_of(first)}"
        )
    else:
        sentence = (
            f"the comparison {over} is undecided: {labels[first.arm]} is ahead; its interquartile mean is "
            f"{reached}; {beats}"
        )
    sentences = [f"{capitalized(sentence)}."]
    if budget is not None:
        order = sorted(arms, key=lambda arm: -(arm.budget_iqm or 0.0))[:2]
        reached = " and ".join(
            f"{_iqm(arm.budget_iqm, arm.budget_iqm_low, arm.budget_iqm_high)} with {labels[arm.arm]}"
            for arm in order
        )
        sentences.append(
            f"After {plural(budget, 'trial')} of tuning each, the best interquartile means are {reached}."
        )
    return Finding(
        sentence=" ".join(sentences),
        sentences=tuple(sentences),
        winner=winner,
        limits=tuple(_limits(studies, counted, workloads)),
    )


def _winner(
    arms: Sequence[SuiteArm], wins: Sequence[WinChance], ahead: Container[tuple[str, str]]
) -> str | None:
    first = arms[0]
    for other in arms[1:]:
        is_apart = first.iqm_low is not None and other.iqm_high is not None and first.iqm_low > other.iqm_high
        low = _low(wins, first.arm, other.arm)
        if not is_apart or low is None or low <= 0.5 or (first.arm, other.arm) not in ahead:
            return None
    return first.arm


def _low(wins: Sequence[WinChance], first: str, second: str) -> float | None:
    """Return the lower end of the interval of the first arm's chance to beat the second."""
    win = next(win for win in wins if {win.first, win.second} == {first, second})
    if win.first == first:
        return win.low
    return _turned(win.high)


def _chance(wins: Sequence[WinChance], first: str, second: str) -> str:
    """Return the first arm's chance to beat the second, with its interval, e.g. '84 % (76 % to 96 %)'."""
    win = next(win for win in wins if {win.first, win.second} == {first, second})
    value, low, high = (
        (win.chance, win.low, win.high)
        if win.first == first
        else (1 - win.chance, _turned(win.high), _turned(win.low))
    )
    return (
        percent(value)
        if low is None or high is None
        else f"{percent(value)} ({percent(low)} to {percent(high)})"
    )


def _turned(end: float | None) -> float | None:
    return None if end is None else 1 - end


def _limits(studies: Sequence[SuiteStudy], counted: Sequence[StudyResults], workloads: int) -> list[str]:
    sentences = [
        (
            "On each study’s scale, the worst arm has 0 and the best arm 1, so the values depend on which "
            "arms take part."
        ),
        (
            "The ends of that scale are estimated from the same runs. The interquartile mean therefore puts "
            "arms that differ by less than the noise of a run too close together, and if several arms tie "
            "for the best, its interval is too narrow. The chance to win does not depend on the scale."
        ),
        (
            "The intervals cover the variation over seeds on these workloads, but neither the choice of the "
            "workloads nor the variation over searches. An arm is therefore called better only if the "
            "verdicts of the studies, taken together, agree."
        ),
    ]
    if workloads < _FEW_WORKLOADS:
        say = "says" if workloads == 1 else "say"
        sentences.append(f"{plural(workloads, 'workload')} {say} little about others.")
    left_out = [study for study in studies if not study.is_counted]
    if left_out:
        were = "was" if len(left_out) == 1 else "were"
        sentences.append(f"{count(len(left_out))} of {_studies(len(studies))} {were} left out.")
    if len(counted) > workloads:
        sentences.append(
            f"{_studies(len(counted))} share {plural(workloads, 'workload')}; a workload that is trained "
            "twice counts twice."
        )
    if len({len(results.seeds) * results.study.spec.budget.replicates for results in counted}) > 1:
        sentences.append(
            "The studies have unequal numbers of confirmation runs, and every run has the same weight in the "
            "interquartile mean."
        )
    budgets = {(results.study.spec.budget.trials_per_arm, results.study.spec.sampler) for results in counted}
    if len(budgets) > 1:
        sentences.append("The studies searched differently: their trials per arm or their samplers differ.")
    optimizers: dict[str, set[str]] = {}
    for results in counted:
        for arm in results.arms:
            optimizers.setdefault(arm.name, set()).add(arm.view.optimizer.name)
    ambiguous = [name for name, kinds in optimizers.items() if len(kinds) > 1]
    if ambiguous:
        sentences.append(f"The same name stands for different optimizers: {listed(ambiguous)}.")
    hopeless = _hopeless(counted)
    if hopeless:
        parts = [f"{label} in {_studies(n)}" for label, n in hopeless.items()]
        sentences.append(f"Every trial of {listed(parts)} diverged, which counts as the worst value there.")
    return sentences


def _hopeless(counted: Sequence[StudyResults]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for results in counted:
        for arm in results.arms:
            if arm.is_hopeless:
                found[arm.label] = found.get(arm.label, 0) + 1
    return found


def _iqm_of(arm: SuiteArm) -> str:
    return _iqm(arm.iqm, arm.iqm_low, arm.iqm_high)


def _iqm(value: float | None, low: float | None, high: float | None) -> str:
    return difference_interval(value or 0.0, low, high, "none")


def _studies(n: int) -> str:
    return plural(n, "study", "studies")
