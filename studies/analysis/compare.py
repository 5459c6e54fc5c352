"""A comparison of several studies of one workload.

Its arms are judged on the seeds that their studies share; the differences between the studies are listed.
"""

__all__ = ["compare"]

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.analysis.by_budget import budget_verdict
from studies.analysis.confirmed import confirmed, scores
from studies.analysis.differences import differences
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.analysis.paired_trials import PairedTrials, paired_trials
from studies.analysis.study_results import ArmResults, StudyResults, study_results
from studies.analysis.verdicts import best_scores, count_divergence, name_in_verdict, pair_verdict
from studies.analysis.views import Confirmed, PairVerdict
from studies.analysis.wording import Divergence, verdict_sentence
from studies.errors import SpecInvalid, SpecProblem
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


def compare(records: Sequence[StudyRecord]) -> Comparison:
    """Return the arms of several studies of one workload, and the verdict on every pair of them.

    A pair rests on the fresh seeds that its two studies have in common.

    Args:
        records: at least two studies.

    Raises:
        SpecInvalid: if there are fewer than two studies, one appears twice, or their workloads differ.
    """
    _check(records)
    per_study = [study_results(record) for record in records]
    entries = _entries(per_study)
    by_label = {entry.label: entry for entry in entries}
    first = per_study[0]
    judged = [entry for entry in entries if entry.arm.is_confirmed]
    about: Question = (
        "configurations" if all(results.has_enough_pairs for results in per_study) else "optimizers"
    )
    pairs = (
        judge(_scores(judged, about), direction=first.direction, about=about).pairs if len(judged) > 1 else ()
    )
    paired = _paired(per_study, entries)

    def place(entry: _ComparedEntry) -> tuple[bool, float]:
        mean = None if entry.best is None else entry.best.test_mean
        return (mean is None, 0.0 if mean is None else -first.sign * mean)

    return Comparison(
        workload=first.study.workload,
        metric=first.card.metric,
        unit=first.card.unit,
        direction=first.direction,
        arms=tuple(_compared(entry) for entry in sorted(entries, key=place)),
        by_budget=None if paired is None else budget_verdict(paired),
        pairs=tuple(_verdict(pair, by_label[pair.first], by_label[pair.second], about) for pair in pairs),
        cautions=differences(per_study),
    )


def _check(records: Sequence[StudyRecord]) -> None:
    ids = [record.study.id for record in records]
    if len(ids) < 2:
        raise SpecInvalid(
            [SpecProblem("/study", f"expected at least two studies to compare, got {len(ids)}")]
        )
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


def _entries(per_study: Sequence[StudyResults]) -> list[_ComparedEntry]:
    names = Counter(arm.name for results in per_study for arm in results.arms)
    titles = Counter(arm.label for results in per_study for arm in results.arms)
    found: list[_ComparedEntry] = []
    for results in per_study:
        best = {
            (each.arm, each.number): each
            for each in reversed(confirmed(results))
            if each.configuration == "best" and each.completed + each.diverged
        }
        for arm in results.arms:
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


def _paired(per_study: Sequence[StudyResults], entries: Sequence[_ComparedEntry]) -> PairedTrials | None:
    """Return the paired trials of all studies; None if trials of different studies are not pairs."""
    found = [paired_trials(results) for results in per_study]
    known = [each for each in found if each is not None and each.primary is not None]
    specs = [results.study.spec for results in per_study]
    designs = {(spec.seed, spec.search.model_copy(update={"stopped_at": ()})) for spec in specs}
    # How many pairs a study has must not depend on its results.
    if len(known) < len(per_study) or len(designs) > 1 or any(each.looks is not None for each in known):
        return None
    arms = [arm for each in known for arm in each.arms]
    return PairedTrials(
        arms=tuple(
            replace(arm, name=entry.label, label=entry.title)
            for entry, arm in zip(entries, arms, strict=True)
        ),
        primary=known[0].primary,
        card=known[0].card,
        is_closed=all(each.is_closed for each in known),
    )


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
        test_mean=None if best is None else best.test_mean,
        test_low=None if best is None else best.test_low,
        test_high=None if best is None else best.test_high,
        runs=0 if best is None else best.completed,
    )


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
