"""A comparison of arms of one workload, from one study or several.

The arms are judged on the seeds that their studies share; the differences between the studies are listed.
"""

__all__ = ["compare"]

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.analysis.budget_curves import budget_curves
from studies.analysis.by_budget import budget_verdict
from studies.analysis.confirmed import confirmed, scores
from studies.analysis.differences import differences, quoted_names
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.analysis.paired_trials import PairedTrials, paired_trials
from studies.analysis.study_results import ArmResults, StudyResults, study_results
from studies.analysis.verdicts import best_scores, count_divergence, name_in_verdict, pair_verdict
from studies.analysis.views import BudgetCurve, Confirmed, PairVerdict
from studies.analysis.wording import Divergence, verdict_sentence
from studies.errors import ArmNotFound, SpecInvalid, SpecProblem
from studies.formatting import listed
from studies.states import TrialState
from studies.statistics.verdict import ArmScores, PairJudgement, Question, judge
from studies.views import StudyRecord


@dataclass(frozen=True, kw_only=True)
class _ComparedEntry:
    """An arm of one of the studies.

    Attributes:
        results: its study.
        arm: the arm.
        label: its unique name in `pairs`.
        title: its unique name in sentences.
        best: the confirmation of its best configuration, or None.
    """

    results: StudyResults
    arm: ArmResults
    label: str
    title: str
    best: Confirmed | None


def compare(records: Sequence[StudyRecord], *, chosen: Collection[tuple[str, str]] = ()) -> Comparison:
    """Return arms of one workload side by side, and the verdict on every pair of them.

    A pair rests on the fresh seeds that its two studies have in common.

    Args:
        records: the studies: two or more, or one of which at least two arms are chosen.
        chosen: the arms to compare, each as study and name; of a study without one here, every arm.

    Raises:
        SpecInvalid: if there are too few studies or arms, a study appears twice, an arm does not exist, or
            the workloads differ.
    """
    _check(records, chosen)
    per_study = [study_results(record) for record in records]
    every = [paired_trials(results) for results in per_study]
    entries = _entries(per_study, chosen)
    by_label = {entry.label: entry for entry in entries}
    first = per_study[0]
    judged = [entry for entry in entries if entry.arm.is_confirmed]
    about: Question = (
        "configurations" if all(results.has_enough_pairs for results in per_study) else "optimizers"
    )
    pairs = (
        judge(_scores(judged, about), direction=first.direction, about=about).pairs if len(judged) > 1 else ()
    )
    why_no_budget_verdict = _why_no_budget_verdict(per_study, every)

    def place(entry: _ComparedEntry) -> tuple[bool, float]:
        mean = None if entry.best is None else entry.best.test_mean
        return (mean is None, 0.0 if mean is None else -first.sign * mean)

    return Comparison(
        workload=first.study.workload,
        metric=first.card.metric,
        unit=first.card.unit,
        direction=first.direction,
        arms=tuple(_compared(entry) for entry in sorted(entries, key=place)),
        by_budget=None if why_no_budget_verdict else budget_verdict(_paired(per_study, every, entries)),
        why_no_budget_verdict=why_no_budget_verdict,
        curves=_curves(per_study, every, entries),
        pairs=tuple(_verdict(pair, by_label[pair.first], by_label[pair.second], about) for pair in pairs),
        cautions=(*differences(per_study), *_cautions_of_choice(per_study, entries)),
    )


def _check(records: Sequence[StudyRecord], chosen: Collection[tuple[str, str]]) -> None:
    ids = [record.study.id for record in records]
    if len(ids) < 2 and not chosen:
        raise SpecInvalid(
            [SpecProblem("/study", f"expected at least two studies to compare, got {len(ids)}")]
        )
    if len(ids) < 2 and len(set(chosen)) == 1:
        raise SpecInvalid([SpecProblem("/arm", "expected at least two arms to compare, got 1")])
    twice = [study_id for study_id, times in Counter(ids).items() if times > 1]
    if twice:
        raise SpecInvalid(
            [
                SpecProblem(
                    "/study",
                    f"expected each study once, but {', '.join(twice)} appears more than once",
                )
            ]
        )
    arms = {record.study.id: [arm.name for arm in record.arms] for record in records}
    unknown = [(study_id, name) for study_id, name in chosen if name not in arms.get(study_id, ())]
    if unknown:
        raise SpecInvalid(
            [
                SpecProblem("/arm", str(ArmNotFound(study_id, name, arms.get(study_id, []))))
                for study_id, name in unknown
            ]
        )
    workloads = list(dict.fromkeys(record.study.workload for record in records))
    if len(workloads) > 1:
        message = (
            f"expected studies of one workload, got {', '.join(workloads)}; to analyse several workloads "
            "together, submit their studies with the same `suite`"
        )
        raise SpecInvalid([SpecProblem("/study", message)])
    # A workload of the same name may have changed between two studies.
    kinds = list(
        dict.fromkeys(
            (record.study.workload_card.metric, record.study.workload_card.direction) for record in records
        )
    )
    if len(kinds) > 1:
        metrics = " and ".join(f"{metric} ({direction})" for metric, direction in kinds)
        message = f"expected one metric, but the studies measure {workloads[0]} by {metrics}"
        raise SpecInvalid([SpecProblem("/study", message)])


def _entries(per_study: Sequence[StudyResults], chosen: Collection[tuple[str, str]]) -> list[_ComparedEntry]:
    whole = {results.study.id for results in per_study} - {study_id for study_id, _ in chosen}
    taken = [
        (results, arm)
        for results in per_study
        for arm in results.arms
        if results.study.id in whole or (results.study.id, arm.name) in chosen
    ]
    names = Counter(arm.name for _, arm in taken)
    titles = Counter(arm.label for _, arm in taken)
    found: list[_ComparedEntry] = []
    for results in per_study:
        best = {
            (each.arm, each.number): each
            for each in reversed(confirmed(results))
            if each.configuration == "best" and each.completed + each.diverged
        }
        for arm in (arm for of, arm in taken if of is results):
            study_id = results.study.id
            found.append(
                _ComparedEntry(
                    results=results,
                    arm=arm,
                    label=arm.name if names[arm.name] == 1 else f"{arm.name} ({study_id})",
                    title=arm.label if titles[arm.label] == 1 else f"{arm.label} ({study_id})",
                    best=None if arm.best is None else best.get((arm.name, arm.best.trial.number)),
                )
            )
    return found


def _why_no_budget_verdict(
    per_study: Sequence[StudyResults], every: Sequence[PairedTrials | None]
) -> str | None:
    """Return why trials of different studies are not pairs, in a sentence; None if they are."""
    names = quoted_names([results.study for results in per_study])
    lacking = [name for name, each in zip(names, every, strict=True) if each is None or each.primary is None]
    if lacking:
        have = "has" if len(lacking) == 1 else "have"
        return (
            f"There is no budget verdict, because it needs paired trials, of which {listed(lacking)} {have} "
            "none or too few."
        )
    looked = [
        name for name, each in zip(names, every, strict=True) if each is not None and each.looks is not None
    ]
    if looked:
        # How many pairs a study has must not depend on its results.
        return (
            "There is no budget verdict here, because pairs were added until the arms were decided in "
            f"{listed(looked)}; the page of that study has its verdict."
        )
    specs = [results.study.spec for results in per_study]
    seeds = dict.fromkeys(str(spec.seed) for spec in specs)
    if len(seeds) > 1:
        return (
            "There is no budget verdict between the studies, because their trials are pairs only with the "
            f"same seed; theirs are {listed(list(seeds))}."
        )
    designs = {spec.search.model_copy(update={"stopped_at": ()}).model_dump_json() for spec in specs}
    if len(designs) > 1:
        return (
            "There is no budget verdict between the studies, because they differ in their paired trials or "
            "in the budget at which optimizers are judged."
        )
    return None


def _paired(
    per_study: Sequence[StudyResults],
    every: Sequence[PairedTrials | None],
    entries: Sequence[_ComparedEntry],
) -> PairedTrials:
    """Return the paired trials of all entries, whose studies have one design."""
    known = {
        results.study.id: each for results, each in zip(per_study, every, strict=True) if each is not None
    }
    arms = {(study_id, arm.name): arm for study_id, each in known.items() for arm in each.arms}
    first = known[per_study[0].study.id]
    return PairedTrials(
        arms=tuple(
            replace(arms[entry.results.study.id, entry.arm.name], name=entry.label, label=entry.title)
            for entry in entries
        ),
        primary=first.primary,
        card=first.card,
        is_closed=all(each.is_closed for each in known.values()),
    )


def _curves(
    per_study: Sequence[StudyResults],
    every: Sequence[PairedTrials | None],
    entries: Sequence[_ComparedEntry],
) -> tuple[BudgetCurve, ...]:
    """Return the budget curve of each entry, all of test values or all of validation values."""
    is_by_test = all(each is not None and each.primary is not None for each in every)
    found = {
        (results.study.id, curve.arm): curve
        for results, each in zip(per_study, every, strict=True)
        for curve in budget_curves(results, each if is_by_test else None)
    }
    return tuple(
        found[entry.results.study.id, entry.arm.name].model_copy(update={"arm": entry.label})
        for entry in entries
    )


def _cautions_of_choice(
    per_study: Sequence[StudyResults], entries: Sequence[_ComparedEntry]
) -> tuple[str, ...]:
    """Return the caution about arms that were left out, if any were."""
    shown = Counter(entry.results.study.id for entry in entries)
    names = quoted_names([results.study for results in per_study])
    partial = [
        name
        for name, results in zip(names, per_study, strict=True)
        if shown[results.study.id] < len(results.arms)
    ]
    if not partial:
        return ()
    caution = (
        f"Only some arms of {listed(partial)} are compared here. P-values are corrected for the pairs that "
        "are shown, so arms that were chosen for their results look too certain."
    )
    return (caution,)


def _scores(entries: Sequence[_ComparedEntry], about: Question) -> list[ArmScores]:
    """Return the scores of all entries on the union of the studies' seeds; NaN where a study has no run."""
    seeds = list(dict.fromkeys(seed for entry in entries for seed in entry.results.seeds))

    def table(entry: _ComparedEntry) -> NDArray[np.float64]:
        of = best_scores if about == "configurations" else scores
        known = of(entry.results, entry.arm)
        padded = np.full((len(known), len(seeds)), np.nan)
        padded[:, [seeds.index(seed) for seed in entry.results.seeds]] = known
        return padded

    return [
        ArmScores(
            name=entry.label,
            scores=table(entry),
            search_values=entry.results.values(entry.arm.trials),
            adaptive=entry.results.is_adaptive,
            search_tests=entry.results.tests(entry.arm.trials),
        )
        for entry in entries
    ]


def _compared(entry: _ComparedEntry) -> ComparedArm:
    best, trial = entry.best, None if entry.arm.best is None else entry.arm.best.trial
    return ComparedArm(
        study_id=entry.results.study.id,
        study_name=entry.results.study.name,
        arm=entry.arm.name,
        label=entry.label,
        optimizer=entry.arm.view.optimizer.name,
        trials=len(entry.arm.spent),
        epochs=entry.results.study.epochs,
        best_value=None if trial is None else trial.value,
        parameters=None if trial is None else trial.parameters,
        defaults=entry.arm.view.defaults,
        test_mean=None if best is None else best.test_mean,
        test_low=None if best is None else best.test_low,
        test_high=None if best is None else best.test_high,
        runs=0 if best is None else best.completed,
        trials_drawn=_drawn(entry.arm),
    )


def _drawn(arm: ArmResults) -> tuple[str, ...]:
    """Return the ids of the completed confirmation runs of the best configuration, or that of its trial."""
    if arm.best is None:
        return ()
    completed = [run.id for run in arm.best.runs if run.state is TrialState.COMPLETED]
    return tuple(completed) or (arm.best.trial.id,)


def _verdict(
    pair: PairJudgement, first: _ComparedEntry, second: _ComparedEntry, about: Question
) -> PairVerdict:
    one = count_divergence(first.results, first.arm, first.arm)
    other = count_divergence(second.results, second.arm, second.arm)
    results = first.results
    reason = verdict_sentence(
        pair,
        first=name_in_verdict(first.title, about),
        second=name_in_verdict(second.title, about),
        sign=results.sign,
        unit=results.card.unit,
        divergence=Divergence(one.first, other.second, one.first_searches, other.second_searches),
        is_closed=results.is_closed and second.results.is_closed,
    )
    return pair_verdict(pair, reason)
