"""What a suite found, in one sentence, and its limits."""

__all__ = ["suite_finding"]

from collections.abc import Container, Mapping, Sequence

from studies.analysis.multi_study_views import SuiteArm, SuiteStudy, WinChance
from studies.analysis.study_results import StudyResults
from studies.analysis.views import Finding
from studies.analysis.wording import capitalized, listed
from studies.formatting import count, difference_interval, percent, plural

_FEW_WORKLOADS = 3


def suite_finding(
    studies: Sequence[SuiteStudy],
    arms: Sequence[SuiteArm],
    wins: Sequence[WinChance],
    counted: Sequence[StudyResults],
    *,
    ahead: Container[tuple[str, str]],
) -> Finding:
    """Return what the suite found and its limits.

    An arm wins where it is ahead of every other beyond its seeds' luck on at least two workloads together
    (the interval of its chance to win lies above one half, and that of its interquartile mean above the other
    one's), and the studies' own verdicts together tell the two apart: these allow for the luck of each
    search, without which two arms of one optimizer would be told apart on every second pair of workloads.

    Args:
        studies: every study of the suite.
        arms: the arms in common, best interquartile mean first.
        wins: every pair of them.
        counted: the studies that count.
        ahead: pairs (better, worse) that the verdicts of the studies together tell from chance.
    """
    if not studies:
        return Finding(sentence="No study belongs to this suite.", winner=None, limits=())
    if not arms:
        reasons = "; ".join(
            dict.fromkeys(study.why_not.rstrip(".") for study in studies if study.why_not is not None)
        )
        return Finding(
            sentence=f"Nothing can be said yet: of {_studies(len(studies))} none counts. {reasons}.",
            winner=None,
            limits=(),
        )
    workloads = len({study.workload for study in studies if study.is_counted})
    labels = {arm.name: arm.label for reading in reversed(counted) for arm in reading.arms}
    winner = _winner(arms, wins, ahead) if workloads > 1 else None
    first, second = arms[0], arms[1]
    over = f"over {plural(workloads, 'workload')}"
    chance = _chance(wins, first.arm, second.arm)
    beats = f"a run of it beats one of {labels[second.arm]} with a chance of {chance}"
    reached = f"{_iqm(first)} against {_iqm(second)} of {labels[second.arm]}"
    if winner is not None:
        others = f"every one of the {count(len(arms) - 1)} others" if len(arms) > 2 else labels[second.arm]
        said = (
            f"{labels[winner]} is better than {others} {over}: its interquartile mean is {reached}; {beats}"
        )
    elif first.iqm == second.iqm:
        said = (
            f"undecided {over}: {labels[first.arm]} and {labels[second.arm]} are level, with an "
            f"interquartile mean of {_iqm(first)}"
        )
    else:
        said = (
            f"undecided {over}: {labels[first.arm]} is ahead with an interquartile mean of {reached}; {beats}"
        )
    return Finding(
        sentence=f"{capitalized(said)}.", winner=winner, limits=tuple(_limits(studies, counted, workloads))
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
    """Return the lower end of the interval of the first one's chance to beat the second."""
    win = next(win for win in wins if {win.first, win.second} == {first, second})
    if win.first == first:
        return win.low
    return _turned(win.high)


def _chance(wins: Sequence[WinChance], first: str, second: str) -> str:
    """Return the first one's chance to beat the second, with its interval, e.g. '84 % (76 % to 96 %)'."""
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
    said = [
        (
            "Values are on a scale on which each study’s worst arm has 0 and its best 1, so "
            "they depend on which arms take part."
        ),
        (
            "The intervals cover the luck of the seeds on these workloads, neither the choice of the "
            "workloads nor the luck of each search; so an arm is called better only where the verdicts of "
            "the studies, taken together, say so too."
        ),
    ]
    if workloads < _FEW_WORKLOADS:
        said.append(
            f"{plural(workloads, 'workload')} {'says' if workloads == 1 else 'say'} little of others."
        )
    left_out = [study for study in studies if not study.is_counted]
    if left_out:
        said.append(f"Left out: {plural(len(left_out), 'study', 'studies')} of {count(len(studies))}.")
    if len(counted) > workloads:
        said.append(
            f"{_studies(len(counted)).capitalize()} share {plural(workloads, 'workload')}: "
            "what is trained twice counts twice."
        )
    if len({len(reading.seeds) * reading.study.spec.budget.replicates for reading in counted}) > 1:
        said.append(
            "The studies have unequal numbers of confirmation runs, and in the "
            "interquartile mean every run weighs alike."
        )
    budgets = {(reading.study.spec.budget.trials_per_arm, reading.study.spec.sampler) for reading in counted}
    if len(budgets) > 1:
        said.append("The studies did not search alike: trials per arm or samplers differ.")
    optimizers: dict[str, set[str]] = {}
    for reading in counted:
        for arm in reading.arms:
            optimizers.setdefault(arm.name, set()).add(arm.view.optimizer.name)
    strange = [name for name, kinds in optimizers.items() if len(kinds) > 1]
    if strange:
        said.append(f"Not the same optimizer in every study, in spite of its name: {listed(strange)}.")
    hopeless = _hopeless(counted)
    if hopeless:
        parts = [f"{label} in {plural(n, 'study', 'studies')}" for label, n in hopeless.items()]
        said.append(f"Every trial diverged of {listed(parts)}; that counts as the worst value there.")
    return said


def _hopeless(counted: Sequence[StudyResults]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for reading in counted:
        for arm in reading.arms:
            if arm.is_hopeless:
                found[arm.label] = found.get(arm.label, 0) + 1
    return found


def _iqm(arm: SuiteArm) -> str:
    return difference_interval(arm.iqm or 0.0, arm.iqm_low, arm.iqm_high, "none")


def _studies(n: int) -> str:
    return plural(n, "study", "studies")
