"""Studies of one workload side by side.

Their arms, judged on the seeds that they share, and in what the studies differ.
"""

__all__ = ["compare"]

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.analysis.confirmed import confirmed, scores
from studies.analysis.differences import differences
from studies.analysis.multi_study_views import ComparedArm, Comparison
from studies.analysis.study_results import ArmResults, StudyResults, read
from studies.analysis.verdicts import diverged, pair_verdict
from studies.analysis.views import Confirmed, PairVerdict
from studies.analysis.wording import Diverged, reason
from studies.errors import SpecInvalid, SpecProblem
from studies.statistics.verdict import ArmScores, PairJudgement, judge
from studies.views import StudyRecord


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An arm of one of the studies.

    Attributes:
        reading: its study.
        arm: the arm.
        label: by which `pairs` name it, unlike any other.
        title: what sentences call it, likewise.
        best: its best configuration's confirmation; None without one.
    """

    reading: StudyResults
    arm: ArmResults
    label: str
    title: str
    best: Confirmed | None


def compare(records: Sequence[StudyRecord]) -> Comparison:
    """Return arms of several studies of one workload, side by side.

    Pairs rest on the fresh seeds that two studies have in common.

    Args:
        records: two studies or more.

    Raises:
        SpecInvalid: fewer than two studies, one of them twice, or of different workloads.
    """
    _check(records)
    readings = [read(record) for record in records]
    entries = _entries(readings)
    by_label = {entry.label: entry for entry in entries}
    first = readings[0]
    judged = [entry for entry in entries if entry.arm.is_confirmed]
    pairs = judge(_scores(judged), direction=first.direction).pairs if len(judged) > 1 else ()

    def place(entry: _Entry) -> tuple[bool, float]:
        mean = None if entry.best is None else entry.best.test_mean
        return (mean is None, 0.0 if mean is None else -first.sign * mean)

    return Comparison(
        workload=first.study.workload,
        metric=first.card.metric,
        unit=first.card.unit,
        direction=first.direction,
        arms=tuple(_compared(entry) for entry in sorted(entries, key=place)),
        pairs=tuple(_in_words(pair, by_label[pair.first], by_label[pair.second]) for pair in pairs),
        cautions=differences(readings),
    )


def _check(records: Sequence[StudyRecord]) -> None:
    ids = [record.study.id for record in records]
    if len(ids) < 2:
        raise SpecInvalid([SpecProblem("/study", f"a comparison takes at least two studies, got {len(ids)}")])
    twice = [study_id for study_id, times in Counter(ids).items() if times > 1]
    if twice:
        raise SpecInvalid(
            [
                SpecProblem(
                    "/study",
                    f"a comparison takes each study once, but {', '.join(twice)} stands there more often",
                )
            ]
        )
    workloads = list(dict.fromkeys(record.study.workload for record in records))
    if len(workloads) > 1:
        said = (
            f"a comparison takes studies of one workload, got {', '.join(workloads)}; give studies "
            "of several workloads one `suite`"
        )
        raise SpecInvalid([SpecProblem("/study", said)])
    # A workload of the same name may have changed between two studies.
    kinds = list(
        dict.fromkeys(
            (record.study.workload_card.metric, record.study.workload_card.direction) for record in records
        )
    )
    if len(kinds) > 1:
        said = (
            f"the studies measure {workloads[0]} differently, by "
            f"{' and '.join(f'{metric} ({direction})' for metric, direction in kinds)}"
        )
        raise SpecInvalid([SpecProblem("/study", f"{said}; they cannot be compared")])


def _entries(readings: Sequence[StudyResults]) -> list[_Entry]:
    names = Counter(arm.name for reading in readings for arm in reading.arms)
    titles = Counter(arm.label for reading in readings for arm in reading.arms)
    found: list[_Entry] = []
    for reading in readings:
        best = {
            (each.arm, each.number): each
            for each in reversed(confirmed(reading))
            if each.configuration == "best" and each.completed + each.diverged
        }
        for arm in reading.arms:
            study_id = reading.study.id
            found.append(
                _Entry(
                    reading=reading,
                    arm=arm,
                    label=arm.name if names[arm.name] == 1 else f"{arm.name} ({study_id})",
                    title=arm.label if titles[arm.label] == 1 else f"{arm.label} ({study_id})",
                    best=None if arm.best is None else best.get((arm.name, arm.best.trial.number)),
                )
            )
    return found


def _scores(entries: Sequence[_Entry]) -> list[ArmScores]:
    """Return the entries' scores on one set of seeds, NaN where a study has none."""
    seeds = list(dict.fromkeys(seed for entry in entries for seed in entry.reading.seeds))

    def table(entry: _Entry) -> NDArray[np.float64]:
        mine = scores(entry.reading, entry.arm)
        whole = np.full((len(mine), len(seeds)), np.nan)
        whole[:, [seeds.index(seed) for seed in entry.reading.seeds]] = mine
        return whole

    return [
        ArmScores(
            name=entry.label,
            scores=table(entry),
            search_values=entry.reading.values(entry.arm.trials),
            adaptive=entry.reading.is_adaptive,
            search_tests=entry.reading.tests(entry.arm.trials),
        )
        for entry in entries
    ]


def _compared(entry: _Entry) -> ComparedArm:
    best, trial = entry.best, None if entry.arm.best is None else entry.arm.best.trial
    return ComparedArm(
        study_id=entry.reading.study.id,
        study_name=entry.reading.study.name,
        arm=entry.arm.name,
        label=entry.label,
        optimizer=entry.arm.view.optimizer.name,
        trials=len(entry.arm.spent),
        epochs=entry.reading.study.epochs,
        best_value=None if trial is None else trial.value,
        parameters=None if trial is None else trial.parameters,
        test_mean=None if best is None else best.test_mean,
        test_low=None if best is None else best.test_low,
        test_high=None if best is None else best.test_high,
        runs=0 if best is None else best.completed,
    )


def _in_words(pair: PairJudgement, first: _Entry, second: _Entry) -> PairVerdict:
    one, other = (
        diverged(first.reading, first.arm, first.arm),
        diverged(second.reading, second.arm, second.arm),
    )
    lost = Diverged(one.first, other.second, one.first_searches, other.second_searches)
    reading = first.reading
    is_closed = reading.is_closed and second.reading.is_closed
    said = reason(
        pair,
        first=first.title,
        second=second.title,
        sign=reading.sign,
        unit=reading.card.unit,
        diverged=lost,
        is_closed=is_closed,
    )
    return pair_verdict(pair, said)
