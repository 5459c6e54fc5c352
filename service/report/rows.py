"""The results of each arm, one row per arm, best first, for the tables of every report."""

__all__ = ["ArmRow", "arm_rows"]

import math
from dataclasses import dataclass

from service.report.study_report import StudyReport
from studies.analysis.views import Confirmed, StudyAnalysis
from studies.statistics.paired import mean_interval
from studies.views import ArmView


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """The results of one arm.

    Attributes:
        mark: the arm's number in the table, from 1, by which other rows refer to it.
        arm: the arm.
        label: the arm's display name.
        mean, low, high: mean confirmed test value of the best configuration with its 95 % interval; with
            replicates, the mean of their means.
        n: number of values in the mean: runs, or replicates if the search was repeated.
        runs: completed confirmation runs of the best configurations.
        diverged: diverged confirmation runs of the best configurations.
        defaults_mean: mean confirmed test value of the defaults.
        search_value: best validation value of the search.
        shrinkage: how much the search overestimated the arm, as a mean over replicates.
        rank, rank_low, rank_high: the arm's rank and the range of ranks the data allow; None until every arm
            has a rank.
        better_than, undecided_with: marks of the arms that this arm is better than, and of those for which
            the comparison is undecided.
    """

    mark: int
    arm: ArmView
    label: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    runs: int
    diverged: int
    defaults_mean: float | None
    search_value: float | None
    shrinkage: float | None
    rank: float | None
    rank_low: int | None
    rank_high: int | None
    better_than: tuple[int, ...]
    undecided_with: tuple[int, ...]

    @property
    def possible_ranks(self) -> tuple[int, int] | None:
        """The lowest and the highest rank that the data allow, or None if there is only one."""
        if self.rank_low is None or self.rank_high is None or self.rank_low == self.rank_high:
            return None
        return self.rank_low, self.rank_high

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, which is symmetric because it is not clipped."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def arm_rows(report: StudyReport) -> tuple[ArmRow, ...]:
    """Return one row per arm: ranked arms by rank, then the others in the study's order."""
    analysis = report.analysis
    places = {rank.arm: place for place, rank in enumerate(analysis.ranks)}
    ordered = sorted(report.arms, key=lambda arm: (places.get(arm.name, len(places)), arm.position))
    marks = {arm.name: mark for mark, arm in enumerate(ordered, start=1)}
    return tuple(_row(arm, analysis, marks) for arm in ordered)


def _row(arm: ArmView, analysis: StudyAnalysis, marks: dict[str, int]) -> ArmRow:
    own = [found for found in analysis.confirmed if found.arm == arm.name]
    best = [found for found in own if found.configuration == "best"]
    defaults = next((found for found in own if found.configuration == "defaults"), None)
    rank = next((rank for rank in analysis.ranks if rank.arm == arm.name), None)
    mean, low, high, n = _mean(best)
    shrinkages = [found.shrinkage for found in best if found.shrinkage is not None]
    return ArmRow(
        mark=marks[arm.name],
        arm=arm,
        label=arm.label,
        mean=mean,
        low=low,
        high=high,
        n=n,
        runs=sum(found.completed for found in best),
        diverged=sum(found.diverged for found in best),
        defaults_mean=None if defaults is None else defaults.test_mean,
        search_value=None if arm.best is None else arm.best.value,
        shrinkage=sum(shrinkages) / len(shrinkages) if shrinkages else None,
        rank=None if rank is None else rank.rank,
        rank_low=None if rank is None else rank.low,
        rank_high=None if rank is None else rank.high,
        better_than=_marks_of(arm.name, analysis, marks, undecided=False),
        undecided_with=_marks_of(arm.name, analysis, marks, undecided=True),
    )


def _mean(best: list[Confirmed]) -> tuple[float | None, float | None, float | None, int]:
    """Return mean, interval and n over the runs of one configuration, or over the replicates' means."""
    if len(best) == 1:
        return best[0].test_mean, best[0].test_low, best[0].test_high, best[0].completed
    found = mean_interval([one.test_mean for one in best if one.test_mean is not None])
    mean, low, high = (None if math.isnan(value) else value for value in (found.mean, found.low, found.high))
    return mean, low, high, found.n


def _marks_of(
    arm: str, analysis: StudyAnalysis, marks: dict[str, int], *, undecided: bool
) -> tuple[int, ...]:
    """Return the marks of the arms that `arm` is better than, or undecided against."""
    found: list[int] = []
    for pair in analysis.pairs:
        # Without confirmation runs nothing was compared.
        if pair.n == 0 or arm not in {pair.first, pair.second}:
            continue
        other = pair.second if pair.first == arm else pair.first
        is_better = pair.word == ("better" if pair.first == arm else "worse")
        if (pair.word == "undecided") if undecided else is_better:
            found.append(marks[other])
    return tuple(sorted(found))
