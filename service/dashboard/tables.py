"""The tables of a study's analysis, with the texts of their cells."""

__all__ = [
    "BudgetPairRow",
    "PairCell",
    "Standing",
    "Tables",
    "budget_pair_rows",
    "needs_reason",
    "tables_of",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from service.dashboard.figures.chart import ChartArm
from studies.analysis.views import (
    ArmAtBudget,
    ArmRank,
    BudgetRange,
    BudgetVerdict,
    Check,
    Confirmed,
    FurtherMetric,
    MetricOfConfiguration,
    PairByBudget,
    PairVerdict,
    StudyAnalysis,
    TimeToTarget,
    Word,
)
from studies.formatting import ABSENT, change, count, listed, number, percent, plural, scalar
from studies.space import Fixed
from studies.views import ArmView

_MATRIX: Final = range(3, 13)
# Fewer arms have so few pairs that a table of them says it all.
_BUDGET_MATRIX: Final = range(5, 13)
_PAIRS_SHOWN: Final = 300
_REVERSED: Final[dict[Word, Word]] = {"better": "worse", "worse": "better", "undecided": "undecided"}


@dataclass(frozen=True)
class Standing:
    """How one arm stands among all.

    Attributes:
        rank: its rank, with the range of ranks that the data allow, e.g. '2 (1 to 3)'.
        mean: mean test value of its best configuration, over replicates if there are several; None before a
            run has completed.
        against: how it compares with the arm that is first, e.g. 'worse than AdamP (−0.36 points)'; empty for
            that arm itself.
    """

    rank: str
    mean: float | None
    against: str


@dataclass(frozen=True)
class PairCell:
    """How the arm of a row compares with the arm of a column: the word, and the difference seen that way."""

    word: Word
    difference: str


@dataclass(frozen=True)
class BudgetPairRow:
    """How two optimizers compare by budget.

    Attributes:
        first: one arm.
        second: the other.
        verdict: the word at the primary budget, with its figures.
        ranges: at which budgets the band shows one of them to be better, in a few words; or why the pair is
            not judged; empty without a band.
    """

    first: ArmView | ChartArm
    second: ArmView | ChartArm
    verdict: PairByBudget
    ranges: str


@dataclass(frozen=True)
class Tables:
    """The tables that the page shows of an analysis; those of arms are pairs of an arm and its row.

    Attributes:
        at_budget: every arm at the primary budget, best first; empty unless judged.
        budget_matrix: every arm against every other at that budget; empty for few arms and for very many.
        by_budget: every pair of arms at that budget, decided pairs first.
        budget_pairs_left_out: how many of them are not shown.
        standings: every arm, best rank first.
        confirmed: every confirmed configuration.
        matrix: every arm against every other, best rank first, None in the diagonal; empty for two arms and
            for very many.
        pairs: (first, second, verdict) of every pair with runs to compare, decided pairs first.
        pairs_left_out: how many pairs are not shown.
        tuning_headers, tuning: what tuning was worth; a header has the anchor of its definition, and the
            last columns are those of `chance_budgets`.
        chance_of: the arm whose defaults are to be beaten.
        chance_budgets: numbers of random trials that are to beat them.
        importances: (hyperparameter, share from 0 to 1, the share as text), the largest first.
        no_importances: the arms without importances, and why they have none.
        targets: time to target.
        metrics: the metrics beside the objective, each with its (first, second, verdict) of pairs.
        metrics_by_budget: those of them that are compared, with their pairs by budget.
        further: every confirmed configuration with its value by each of these metrics.
        warnings: checks that cast doubt on the comparison, with their index among all checks.
        remarks: all other checks, likewise.
    """

    at_budget: tuple[tuple[ArmView, ArmAtBudget], ...]
    budget_matrix: tuple[tuple[ArmView, tuple[PairCell | None, ...]], ...]
    by_budget: tuple[BudgetPairRow, ...]
    budget_pairs_left_out: int
    standings: tuple[tuple[ArmView, Standing], ...]
    confirmed: tuple[tuple[ArmView, Confirmed], ...]
    matrix: tuple[tuple[ArmView, tuple[PairCell | None, ...]], ...]
    pairs: tuple[tuple[ArmView, ArmView, PairVerdict], ...]
    pairs_left_out: int
    tuning_headers: tuple[tuple[str, str], ...]
    tuning: tuple[tuple[ArmView, tuple[str, ...]], ...]
    chance_of: str
    chance_budgets: tuple[int, ...]
    importances: tuple[tuple[ArmView, tuple[tuple[str, float, str], ...]], ...]
    no_importances: tuple[tuple[str, str], ...]
    targets: tuple[tuple[ArmView, TimeToTarget], ...]
    metrics: tuple[tuple[FurtherMetric, tuple[tuple[ArmView, ArmView, PairVerdict], ...]], ...]
    metrics_by_budget: tuple[tuple[FurtherMetric, tuple[BudgetPairRow, ...]], ...]
    further: tuple[tuple[ArmView, tuple[MetricOfConfiguration, ...]], ...]
    warnings: tuple[tuple[int, Check], ...]
    remarks: tuple[tuple[int, Check], ...]


def tables_of(analysis: StudyAnalysis, arms: Sequence[ArmView]) -> Tables:
    """Return the tables of a study's analysis."""
    by_name = {arm.name: arm for arm in arms}
    ranks = {rank.arm: rank for rank in analysis.ranks}
    order = sorted(
        arms, key=lambda arm: (ranks[arm.name].rank if arm.name in ranks else len(arms) + 1, arm.position)
    )
    pairs = _decided_first(analysis.pairs, by_name)
    budgets = tuple(sorted({k for one in analysis.sensitivity for k in one.tunability.chance_to_beat}))
    baseline = next(
        (by_name[name] for one in analysis.sensitivity if (name := one.tunability.baseline) in by_name), None
    )
    headers, tuning = _tuning(analysis, by_name, budgets)
    checks = tuple(enumerate(analysis.checks))
    leader = order[0] if ranks else None
    at_budget = () if analysis.by_budget is None else analysis.by_budget.arms
    by_budget = budget_pair_rows(analysis.by_budget, by_name)
    in_order = [by_name[each.arm] for each in at_budget]
    return Tables(
        at_budget=tuple((by_name[each.arm], each) for each in at_budget),
        budget_matrix=(
            _matrix([pair.verdict for pair in by_budget], in_order, analysis.unit)
            if len(in_order) in _BUDGET_MATRIX
            else ()
        ),
        by_budget=by_budget[:_PAIRS_SHOWN],
        budget_pairs_left_out=len(by_budget[_PAIRS_SHOWN:]),
        standings=tuple((arm, _standing(arm, analysis, ranks.get(arm.name), leader)) for arm in order),
        confirmed=tuple((by_name[c.arm], c) for c in analysis.confirmed),
        matrix=_matrix(analysis.pairs, order, analysis.unit) if len(order) in _MATRIX and pairs else (),
        pairs=pairs[:_PAIRS_SHOWN],
        pairs_left_out=len(pairs[_PAIRS_SHOWN:]),
        tuning_headers=headers,
        tuning=tuning,
        chance_of="the baseline" if baseline is None else baseline.label,
        chance_budgets=budgets,
        importances=tuple(
            (
                by_name[one.arm],
                tuple(
                    (name, part, percent(part))
                    for name, part in sorted(one.importances.items(), key=lambda pair: -pair[1])
                ),
            )
            for one in analysis.sensitivity
            if one.importances
        ),
        no_importances=_without_importances(
            [by_name[one.arm] for one in analysis.sensitivity if not one.importances]
        ),
        targets=tuple((by_name[target.arm], target) for target in analysis.time_to_target),
        metrics=tuple(
            (metric, _decided_first(metric.pairs, by_name)[:_PAIRS_SHOWN]) for metric in analysis.metrics
        ),
        metrics_by_budget=tuple(
            (metric, _pair_rows(metric.by_budget, {}, by_name)[:_PAIRS_SHOWN])
            for metric in analysis.metrics
            if metric.by_budget
        ),
        further=tuple(
            (by_name[each[0].arm], each)
            for each in zip(*(metric.confirmed for metric in analysis.metrics), strict=True)
        ),
        warnings=tuple((n, check) for n, check in checks if check.is_warning),
        remarks=tuple((n, check) for n, check in checks if not check.is_warning),
    )


def _decided_first(
    pairs: Sequence[PairVerdict], by_name: Mapping[str, ArmView]
) -> tuple[tuple[ArmView, ArmView, PairVerdict], ...]:
    """Return (first, second, verdict) of every pair with runs to compare, decided pairs first."""
    rows = ((by_name[pair.first], by_name[pair.second], pair) for pair in pairs if pair.n)
    return tuple(
        sorted(
            rows,
            key=lambda row: (row[2].word == "undecided", 1.0 if row[2].p_holm is None else row[2].p_holm),
        )
    )


def needs_reason(pair: PairVerdict) -> bool:
    """Return whether a verdict's sentence says more than the cells of its row.

    It names what diverged, why there is no test, or what qualifies the verdict.
    """
    more = ("diverged", ". However, ")
    return pair.n < 2 or pair.p is None or any(each in pair.reason for each in more)


def budget_pair_rows(
    verdict: BudgetVerdict | None, by_name: Mapping[str, ArmView] | Mapping[str, ChartArm]
) -> tuple[BudgetPairRow, ...]:
    """Return every pair of arms by budget, decided pairs first.

    Args:
        verdict: the budget verdict, if there is one.
        by_name: the arms by the names that the verdict uses.
    """
    if verdict is None:
        return ()
    ranges = {
        (each.first, each.second): "; ".join(_range_text(r, by_name) for r in each.ranges) or ABSENT
        for each in verdict.differences
    }
    return _pair_rows(verdict.pairs, ranges, by_name)


def _range_text(found: BudgetRange, by_name: Mapping[str, ArmView] | Mapping[str, ChartArm]) -> str:
    """Return which arm is better at which budgets, in a few words."""
    budgets = f"k = {count(found.low)}" + (f" to {count(found.high)}" if found.high > found.low else "")
    return f"{by_name[found.better].label} at {budgets}"


def _pair_rows(
    pairs: Sequence[PairByBudget],
    ranges: Mapping[tuple[str, str], str],
    by_name: Mapping[str, ArmView] | Mapping[str, ChartArm],
) -> tuple[BudgetPairRow, ...]:
    """Return rows of pairs, decided pairs first."""
    rows = (
        BudgetPairRow(
            first=by_name[pair.first],
            second=by_name[pair.second],
            verdict=pair,
            ranges=pair.reason if pair.difference is None else ranges.get((pair.first, pair.second), ""),
        )
        for pair in pairs
    )
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                row.verdict.word == "undecided",
                1.0 if row.verdict.p_corrected is None else row.verdict.p_corrected,
            ),
        )
    )


def _between(
    pairs: Sequence[PairVerdict] | Sequence[PairByBudget], first: str, second: str
) -> tuple[Word, float | None] | None:
    """Return how one arm compares with another, and the difference; None for a pair without a verdict."""
    for pair in pairs:
        if (pair.first, pair.second) == (first, second):
            return pair.word, pair.difference
        if (pair.first, pair.second) == (second, first):
            return _REVERSED[pair.word], None if pair.difference is None else -pair.difference
    return None


def _standing(
    arm: ArmView, analysis: StudyAnalysis, rank: ArmRank | None, leader: ArmView | None
) -> Standing:
    means = [
        c.test_mean
        for c in analysis.confirmed
        if c.arm == arm.name and c.configuration == "best" and c.test_mean is not None
    ]
    against = ""
    if leader is not None and leader is not arm:
        verdict = _between(analysis.pairs, arm.name, leader.name)
        if verdict is not None:
            word, difference = verdict
            gap = (
                ""
                if difference is None
                else f" ({change(difference, analysis.unit)}{_points(analysis.unit)})"
            )
            against = f"undecided{gap}" if word == "undecided" else f"{word} than {leader.label}{gap}"
    return Standing(_rank(rank), sum(means) / len(means) if means else None, against)


def _rank(rank: ArmRank | None) -> str:
    if rank is None:
        return ABSENT
    allowed = "" if rank.low == rank.high else f" ({count(rank.low)} to {count(rank.high)})"
    return f"{number(rank.rank)}{allowed}"


def _points(unit: str) -> str:
    # The column's header has every other unit.
    return " points" if unit == "fraction" else ""


def _matrix(
    pairs: Sequence[PairVerdict] | Sequence[PairByBudget], order: Sequence[ArmView], unit: str
) -> tuple[tuple[ArmView, tuple[PairCell | None, ...]], ...]:
    rows: list[tuple[ArmView, tuple[PairCell | None, ...]]] = []
    for arm in order:
        verdicts = [None if other is arm else _between(pairs, arm.name, other.name) for other in order]
        cells = [
            None if verdict is None else PairCell(verdict[0], change(verdict[1], unit))
            for verdict in verdicts
        ]
        rows.append((arm, tuple(cells)))
    return tuple(rows) if any(cell for _, cells in rows for cell in cells) else ()


def _tuning(
    analysis: StudyAnalysis, by_name: dict[str, ArmView], budgets: Sequence[int]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[ArmView, tuple[str, ...]], ...]]:
    """Return the headers and rows of what tuning was worth, without columns that are empty for every arm.

    The headers leave out the columns of `budgets`, which come last in the rows.
    """
    within = next((one.good_range.within for one in analysis.sensitivity if one.good_range is not None), None)
    headers = (
        ("Rank of the defaults", "sensitivity.rank-and-gain-of-the-defaults"),
        ("Gain from tuning", "sensitivity.rank-and-gain-of-the-defaults"),
        (f"lr within {percent(within)} of the best", "sensitivity.good-range"),
        ("Width of that range", "sensitivity.good-range"),
    )
    rows: list[tuple[ArmView, tuple[str, ...]]] = []
    for one in analysis.sensitivity:
        arm, tuned, good = by_name[one.arm], one.tunability, one.good_range
        rows.append(
            (
                arm,
                (
                    ABSENT
                    if tuned.defaults_rank is None
                    else f"{count(tuned.defaults_rank)} of {count(_evaluated(arm))}",
                    ABSENT
                    if tuned.gain is None
                    else f"{change(tuned.gain, analysis.unit)}{_points(analysis.unit)}",
                    ABSENT if good is None else f"{scalar(good.low)} to {scalar(good.high)}",
                    ABSENT if good is None or good.factor is None else f"{number(good.factor, 2)}×",
                    *(percent(tuned.chance_to_beat.get(k)) for k in budgets),
                ),
            )
        )
    kept = [i for i in range(len(headers)) if any(cells[i] != ABSENT for _, cells in rows)]
    shown = [*kept, *range(len(headers), len(headers) + len(budgets))]
    if not shown:
        return (), ()
    return tuple(headers[i] for i in kept), tuple(
        (arm, tuple(cells[i] for i in shown)) for arm, cells in rows
    )


def _without_importances(arms: Sequence[ArmView]) -> tuple[tuple[str, str], ...]:
    """Return (arms, reason), one for all arms with the same reason."""
    by_reason: dict[str, list[str]] = {}
    for arm in arms:
        by_reason.setdefault(_why_no_importances(arm), []).append(arm.label)
    return tuple((listed(names), why) for why, names in by_reason.items())


def _why_no_importances(arm: ArmView) -> str:
    # Imported here, because it imports Optuna, which the process that serves pages does not need.
    from studies.statistics.importances import LEAST_RESULTS

    if all(isinstance(dimension, Fixed) for dimension in arm.space.values()):
        return "nothing was searched"
    results = _evaluated(arm)
    if results < LEAST_RESULTS:
        return f"{plural(results, 'result')} so far, and importances need {LEAST_RESULTS}"
    return "the best results are equal, so nothing separates them from the rest"


def _evaluated(arm: ArmView) -> int:
    """Return how many trials of an arm are results of its optimizer: not those cancelled or failed."""
    return arm.progress.completed + arm.progress.diverged + arm.progress.pruned
