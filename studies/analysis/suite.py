"""The analysis of a suite: studies of several workloads, taken together for the arms in common."""

__all__ = ["analyse_suite"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from studies.analysis.by_budget import budget_verdict
from studies.analysis.confirmed import scores, time_to_target
from studies.analysis.multi_study_views import (
    ProfilePoint,
    StudyScore,
    SuiteAnalysis,
    SuiteArm,
    SuiteStudy,
    WinChance,
)
from studies.analysis.paired_trials import PairedTrials, paired_trials
from studies.analysis.study_results import ArmResults, StudyResults, study_results
from studies.analysis.suite_finding import suite_finding
from studies.analysis.verdicts import judge_arms
from studies.formatting import listed
from studies.statistics.across import (
    Estimate,
    algoperf_ratios,
    algoperf_scores,
    combined_evidence,
    interquartile_mean,
    performance_profile,
    relative_performance,
    win_chance,
)
from studies.statistics.holm import holm
from studies.statistics.verdict import LEVEL, PairJudgement
from studies.views import StudyRecord

_THRESHOLDS: Final = tuple(n / 20 for n in range(21))
_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """A study that counts in the suite.

    Attributes:
        results: the study.
        relative: the runs of each common arm on the scale from the study's worst arm, 0, to its best, 1.
        means: the confirmed mean test value of each; None if every run diverged.
        epochs: the median epochs to the target of each; inf for a miss.
        paired: its paired trials, if they judge the optimizers; else None.
    """

    results: StudyResults
    relative: Mapping[str, _Floats]
    means: Mapping[str, float | None]
    epochs: Mapping[str, float]
    paired: PairedTrials | None


def analyse_suite(name: str, records: Sequence[StudyRecord]) -> SuiteAnalysis:
    """Return the analysis of a suite.

    Each counted study has the same weight, except in the interquartile mean, where each run has.

    Args:
        name: name of the suite.
        records: the records of its studies, oldest first; may be empty.
    """
    per_study = [study_results(record) for record in records]
    common = _common(per_study)
    why_not = [_why_not(results, common) for results in per_study]
    counted = [
        _counted(results, common) for results, why in zip(per_study, why_not, strict=True) if why is None
    ]
    primary = [None if each.paired is None else each.paired.primary for each in counted]
    known = [each for each in primary if each is not None]
    budget = min(known) if known and len(known) == len(counted) else None
    arms = _arms(common, counted, budget) if counted else ()
    wins = tuple(_win(counted, first, second) for first, second in combinations(common, 2)) if counted else ()
    studies = tuple(_study(results, why) for results, why in zip(per_study, why_not, strict=True))
    return SuiteAnalysis(
        name=name,
        studies=studies,
        finding=suite_finding(
            studies,
            arms,
            wins,
            [each.results for each in counted],
            ahead=_ahead(common, counted),
            budget=budget,
        ),
        budget=budget,
        arms=arms,
        wins=wins,
    )


def _has_outcome(arm: ArmResults) -> bool:
    """Return whether an arm has an outcome: confirmed runs, or divergence in every trial."""
    return arm.is_confirmed or arm.is_hopeless


def _common(per_study: Sequence[StudyResults]) -> tuple[str, ...]:
    """Return the arms that all closed studies with confirmed runs share, in the order of the first study."""
    ready = [
        results
        for results in per_study
        if results.is_closed and any(arm.is_confirmed for arm in results.arms)
    ]
    if not ready:
        return ()
    names = [{arm.name for arm in results.arms} for results in ready]
    return tuple(arm.name for arm in ready[0].arms if all(arm.name in each for each in names))


def _why_not(results: StudyResults, common: Sequence[str]) -> str | None:
    """Return why a study does not count, or None."""
    if not results.is_closed:
        return "It has not finished."
    if not any(arm.is_confirmed for arm in results.arms):
        return "It has no confirmed configuration."
    if len(common) < 2:
        return "It shares fewer than two arms with the others."
    waiting = [arm.label for arm in results.arms if arm.name in common and not _has_outcome(arm)]
    return f"It has no confirmed configuration of {listed(waiting)}." if waiting else None


def _counted(results: StudyResults, common: Sequence[str]) -> _Counted:
    runs = {name: _runs(results, results.arm(name)) for name in common}
    times = {each.arm: each.epochs_median for each in time_to_target(results)}
    finite = {name: values[np.isfinite(values)] for name, values in runs.items()}
    paired = paired_trials(results) if results.has_enough_pairs else None
    return _Counted(
        results=results,
        paired=paired,
        relative=relative_performance(runs, direction=results.direction),
        means={name: float(values.mean()) if values.size else None for name, values in finite.items()},
        epochs={name: math.inf if (epochs := times.get(name)) is None else epochs for name in common},
    )


def _runs(results: StudyResults, arm: ArmResults) -> _Floats:
    """Return an arm's confirmed test values [S]; the worst infinity stands for a run that diverged."""
    if arm.is_hopeless:
        return np.full(max(1, len(results.seeds)), results.worst)
    values = scores(results, arm).ravel()
    return values[~np.isnan(values)]


def _ahead(common: Sequence[str], counted: Sequence[_Counted]) -> frozenset[tuple[str, str]]:
    """Return the pairs (better, worse) that the verdicts of the studies, taken together, tell from chance.

    Verdicts allow for the variation over searches.
    """
    evidence = [_evidence(each) for each in counted]
    pairs = list(combinations(common, 2))
    found: list[tuple[float, int]] = []
    for first, second in pairs:
        each = [of_study.get((first, second), (1.0, 0)) for of_study in evidence]
        found.append(combined_evidence([p for p, _ in each], [lean for _, lean in each]))
    adjusted = holm([p for p, _ in found]) if found else ()
    return frozenset(
        (first, second) if lean > 0 else (second, first)
        for (first, second), (_, lean), p in zip(pairs, found, adjusted, strict=True)
        if lean and p < LEVEL
    )


def _evidence(study: _Counted) -> dict[tuple[str, str], tuple[float, int]]:
    """Return a study's p-value of each pair of arms that has one, and 1, -1 or 0 for the arm that leads.

    Each pair is there in both orders.

    They allow for the variation over searches: those of the paired trials, or else of the verdict on
    optimizers by confirmation runs. An undecided sign test leans neither way. In a study that added pairs,
    the p-value of a pair that was decided is 5 %, and that of the others 1.
    """
    sign = study.results.sign
    if study.paired is None:
        judged = [(pair, pair.p, _lean(pair, sign)) for pair in judge_arms(study.results).pairs]
    else:
        pairs = budget_verdict(study.paired).pairs
        leans = [int(sign * np.sign(pair.difference or 0.0)) for pair in pairs]
        # The p-value of the look that decided would be too small: that look was chosen by its p-value.
        p_values = [
            pair.p if study.paired.looks is None else 1.0 if pair.word == "undecided" else LEVEL
            for pair in pairs
        ]
        judged = list(zip(pairs, p_values, leans, strict=True))
    known = [(pair.first, pair.second, p, lean) for pair, p, lean in judged if p is not None]
    return {(first, second): (p, lean) for first, second, p, lean in known} | {
        (second, first): (p, -lean) for first, second, p, lean in known
    }


def _lean(pair: PairJudgement, sign: int) -> int:
    if pair.word != "undecided":
        return 1 if pair.word == "better" else -1
    return 0 if pair.covers == "signs" or not pair.difference else sign if pair.difference > 0 else -sign


def _arms(common: Sequence[str], counted: Sequence[_Counted], budget: int | None) -> tuple[SuiteArm, ...]:
    times = np.array([[study.epochs[name] for study in counted] for name in common])
    ratios, points = algoperf_ratios(times), algoperf_scores(times)
    reached = [] if budget is None else [_reached(study, common, budget) for study in counted]
    found = [
        _arm(name, counted, ratios[n], float(points[n]), reached=[study[name] for study in reached])
        for n, name in enumerate(common)
    ]
    return tuple(sorted(found, key=lambda arm: -math.inf if arm.iqm is None else arm.iqm, reverse=True))


def _reached(study: _Counted, common: Sequence[str], budget: int) -> dict[str, _Floats]:
    """Return what searches of `budget` paired trials reach, on the scale from the worst arm to the best."""
    assert study.paired is not None, "there is a budget only if every study has paired trials"
    choices = {arm.name: study.paired.choices(arm, budget) for arm in study.paired.arms if arm.name in common}
    return relative_performance(choices, direction=study.results.direction)


def _arm(
    name: str,
    counted: Sequence[_Counted],
    ratios: _Floats,
    points: float,
    *,
    reached: Sequence[_Floats],
) -> SuiteArm:
    runs = [study.relative[name] for study in counted]
    iqm = interquartile_mean(runs)
    by_budget = interquartile_mean(reached) if reached else None
    profile = performance_profile(runs, _THRESHOLDS)
    return SuiteArm(
        arm=name,
        optimizer=counted[0].results.arm(name).view.optimizer.name,
        scores=tuple(
            StudyScore(
                study_id=study.results.study.id,
                test_mean=study.means[name],
                relative=float(np.mean(study.relative[name])),
                to_target=_known(ratio),
            )
            for study, ratio in zip(counted, ratios, strict=True)
        ),
        iqm=_known(iqm.value),
        iqm_low=_known(iqm.low),
        iqm_high=_known(iqm.high),
        budget_iqm=None if by_budget is None else _known(by_budget.value),
        budget_iqm_low=None if by_budget is None else _known(by_budget.low),
        budget_iqm_high=None if by_budget is None else _known(by_budget.high),
        profile=tuple(
            _point(threshold, share) for threshold, share in zip(_THRESHOLDS, profile, strict=True)
        ),
        algoperf=points,
    )


def _point(threshold: float, share: Estimate) -> ProfilePoint:
    return ProfilePoint(
        threshold=threshold, share=share.value, low=_known(share.low), high=_known(share.high)
    )


def _win(counted: Sequence[_Counted], first: str, second: str) -> WinChance:
    chance = win_chance(
        [study.relative[first] for study in counted], [study.relative[second] for study in counted]
    )
    return WinChance(
        first=first, second=second, chance=chance.value, low=_known(chance.low), high=_known(chance.high)
    )


def _study(results: StudyResults, why_not: str | None) -> SuiteStudy:
    study, card = results.study, results.card
    return SuiteStudy(
        study_id=study.id,
        name=study.name,
        state=study.state,
        workload=study.workload,
        metric=card.metric,
        unit=card.unit,
        direction=card.direction,
        is_counted=why_not is None,
        why_not=why_not,
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
