"""The tables of an analysis, row by row as the page writes them.

Places, pairs, tuning, importances, time to target.
"""

__all__ = ["ImportanceRow", "PairCell", "PairRow", "Placing", "Tables", "TuningRow", "tables_of"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from studies.analysis.views import ArmRank, Check, Confirmed, PairVerdict, StudyAnalysis, TimeToTarget, Word
from studies.formatting import ABSENT, change, count, number, percent, scalar
from studies.views import ArmView

_MATRIX: Final = range(3, 13)
_PAIRS_SHOWN: Final = 300
_TURNED: Final[dict[Word, Word]] = {"better": "worse", "worse": "better", "undecided": "undecided"}


@dataclass(frozen=True)
class Placing:
    """An arm among all, at a glance.

    Attributes:
        arm: the arm.
        rank: its place with its bounds; None before every arm has one.
        best: its confirmed best configuration; of several replicates the first; None before a run has
            completed.
        replicates: how many of its best configurations were confirmed, one for each replicate.
        mean: mean test value, over replicates where there are several.
        against: what it is against the arm in the first place, e.g. 'worse than AdamP by 0.36'; empty for
            that arm itself.
    """

    arm: ArmView
    rank: ArmRank | None
    best: Confirmed | None
    replicates: int
    mean: float | None
    against: str

    @property
    def place(self) -> str:
        """The place with its bounds: '2 (1 to 3)'."""
        if self.rank is None:
            return ABSENT
        bounds = (
            "" if self.rank.low == self.rank.high else f" ({count(self.rank.low)} to {count(self.rank.high)})"
        )
        return f"{number(self.rank.rank)}{bounds}"


@dataclass(frozen=True)
class PairCell:
    """What the arm of a row is against that of a column.

    The word, and the difference as it reads in that direction.
    """

    word: Word
    difference: str


@dataclass(frozen=True)
class PairRow:
    """A pair of arms with all its figures."""

    first: ArmView
    second: ArmView
    verdict: PairVerdict


@dataclass(frozen=True)
class TuningRow:
    """What tuning was worth to an arm, and how wide its good learning rates are.

    Attributes:
        arm: the arm.
        cells: what stands under `Tables.tuning_headers`, then under `Tables.chance_budgets`.
    """

    arm: ArmView
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ImportanceRow:
    """How much of an arm's result hangs on each hyperparameter, the largest first.

    (name, share from 0 to 1, the same in words).
    """

    arm: ArmView
    shares: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Tables:
    """What the page tells of an analysis besides sentences and charts.

    Attributes:
        placings: every arm, best place first.
        confirmed: confirmed configurations with their arms.
        matrix: what each arm is against each other, arms best place first; empty for two arms or very many.
        pairs: every pair that has runs to compare, those that are decided first.
        pairs_left_out: how many of the pairs are not shown.
        tuning_headers, tuning: what tuning was worth.
        chance_of, chance_budgets: whose defaults are to be beaten, and by the best of how many random trials:
            the last columns of `tuning`.
        importances: arms that have them.
        targets: time to target, arm by arm.
        warnings: checks that put the comparison in doubt, with their place among all.
        remarks: the other checks, likewise.
    """

    placings: tuple[Placing, ...]
    confirmed: tuple[tuple[ArmView, Confirmed], ...]
    matrix: tuple[tuple[ArmView, tuple[PairCell | None, ...]], ...]
    pairs: tuple[PairRow, ...]
    pairs_left_out: int
    tuning_headers: tuple[str, ...]
    tuning: tuple[TuningRow, ...]
    chance_of: str
    chance_budgets: tuple[int, ...]
    importances: tuple[ImportanceRow, ...]
    targets: tuple[tuple[ArmView, TimeToTarget], ...]
    warnings: tuple[tuple[int, Check], ...]
    remarks: tuple[tuple[int, Check], ...]


def tables_of(analysis: StudyAnalysis, arms: Sequence[ArmView]) -> Tables:
    """Return the tables of a study's analysis."""
    by_name = {arm.name: arm for arm in arms}
    ranks = {rank.arm: rank for rank in analysis.ranks}
    order = sorted(
        arms, key=lambda arm: (ranks[arm.name].rank if arm.name in ranks else len(arms) + 1, arm.position)
    )
    pairs = sorted(
        (PairRow(by_name[pair.first], by_name[pair.second], pair) for pair in analysis.pairs if pair.n),
        key=lambda row: (
            row.verdict.word == "undecided",
            1.0 if row.verdict.p_holm is None else row.verdict.p_holm,
        ),
    )
    budgets = tuple(sorted({k for one in analysis.sensitivity for k in one.tunability.chance_to_beat}))
    baseline = next(
        (by_name[name] for one in analysis.sensitivity if (name := one.tunability.baseline) in by_name), None
    )
    headers, tuning = _tuning(analysis, by_name, budgets)
    checks = tuple(enumerate(analysis.checks))
    return Tables(
        placings=tuple(
            _placing(arm, analysis, ranks.get(arm.name), leader=order[0] if ranks else None) for arm in order
        ),
        confirmed=tuple((by_name[c.arm], c) for c in analysis.confirmed),
        matrix=_matrix(analysis, order) if len(order) in _MATRIX and pairs else (),
        pairs=tuple(pairs[:_PAIRS_SHOWN]),
        pairs_left_out=max(0, len(pairs) - _PAIRS_SHOWN),
        tuning_headers=headers,
        tuning=tuning,
        chance_of="the baseline" if baseline is None else baseline.label,
        chance_budgets=budgets,
        importances=tuple(
            ImportanceRow(
                by_name[one.arm],
                tuple(
                    (name, part, percent(part))
                    for name, part in sorted(one.importances.items(), key=lambda kv: -kv[1])
                ),
            )
            for one in analysis.sensitivity
            if one.importances
        ),
        targets=tuple((by_name[target.arm], target) for target in analysis.time_to_target),
        warnings=tuple((n, check) for n, check in checks if check.is_warning),
        remarks=tuple((n, check) for n, check in checks if not check.is_warning),
    )


def _between(analysis: StudyAnalysis, first: str, second: str) -> tuple[Word, float | None] | None:
    """Return what one arm is against another and the difference.

    The pair may be on record either way round.
    """
    for pair in analysis.pairs:
        if (pair.first, pair.second) == (first, second):
            return pair.word, pair.difference
        if (pair.first, pair.second) == (second, first):
            return _TURNED[pair.word], None if pair.difference is None else -pair.difference
    return None


def _placing(
    arm: ArmView, analysis: StudyAnalysis, rank: ArmRank | None, *, leader: ArmView | None
) -> Placing:
    mine = [c for c in analysis.confirmed if c.arm == arm.name and c.configuration == "best"]
    means = [c.test_mean for c in mine if c.test_mean is not None]
    against = ""
    if leader is not None and leader is not arm:
        found = _between(analysis, arm.name, leader.name)
        if found is not None:
            word, difference = found
            gap = (
                ""
                if difference is None
                else f" ({change(difference, analysis.unit)}{_points(analysis.unit)})"
            )
            against = f"undecided{gap}" if word == "undecided" else f"{word} than {leader.label}{gap}"
    mean = sum(means) / len(means) if means else None
    return Placing(arm, rank, mine[0] if mine else None, len(mine), mean, against)


def _points(unit: str) -> str:
    # Any other unit stands in the head of the column beside it.
    return " points" if unit == "fraction" else ""


def _matrix(
    analysis: StudyAnalysis, order: Sequence[ArmView]
) -> tuple[tuple[ArmView, tuple[PairCell | None, ...]], ...]:
    rows: list[tuple[ArmView, tuple[PairCell | None, ...]]] = []
    for arm in order:
        found = [None if other is arm else _between(analysis, arm.name, other.name) for other in order]
        rows.append(
            (
                arm,
                tuple(
                    None if one is None else PairCell(one[0], change(one[1], analysis.unit)) for one in found
                ),
            )
        )
    return tuple(rows) if any(cell for _, cells in rows for cell in cells) else ()


def _tuning(
    analysis: StudyAnalysis, by_name: dict[str, ArmView], budgets: Sequence[int]
) -> tuple[tuple[str, ...], tuple[TuningRow, ...]]:
    """Return the headers and rows of what tuning was worth.

    Columns in which nobody has anything are left out, those of the budgets are last.
    """
    within = next((one.good_range.within for one in analysis.sensitivity if one.good_range is not None), None)
    headers = (
        "Place of the defaults",
        "Gained by tuning",
        f"lr within {percent(within)} of its best",
        "From lowest to highest",
    )
    rows: list[TuningRow] = []
    for one in analysis.sensitivity:
        arm, tuned, good = by_name[one.arm], one.tunability, one.good_range
        rows.append(
            TuningRow(
                arm,
                (
                    ABSENT
                    if tuned.defaults_rank is None
                    else f"{count(tuned.defaults_rank)} of {count(_tried(arm))}",
                    f"{change(tuned.gain, analysis.unit)}{_points(analysis.unit)}"
                    if tuned.gain is not None
                    else ABSENT,
                    ABSENT if good is None else f"{scalar(good.low)} to {scalar(good.high)}",
                    ABSENT
                    if good is None or good.factor is None
                    else f"a factor of {number(good.factor, 2)}",
                    *(percent(tuned.chance_to_beat.get(k)) for k in budgets),
                ),
            )
        )
    kept = [i for i in range(len(headers)) if any(row.cells[i] != ABSENT for row in rows)]
    shown = [*kept, *range(len(headers), len(headers) + len(budgets))]
    return tuple(headers[i] for i in kept), tuple(
        TuningRow(row.arm, tuple(row.cells[i] for i in shown)) for row in rows
    ) if shown else ()


def _tried(arm: ArmView) -> int:
    """Return how many trials of an arm say something of its optimizer.

    Not those that were cancelled or lost.
    """
    return arm.progress.completed + arm.progress.diverged + arm.progress.pruned
