"""Heat maps of pairs of hyperparameters: the best value in each cell of a grid, one map for each arm.

They are HTML tables, because Plotly's heat maps need inline styles, which the pages forbid, and its larger
bundle. So they also work without JavaScript, in print and with a screen reader.
"""

__all__ = ["HeatCell", "HeatMap", "PairChoice", "heat_maps", "pair_choice"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from studies.catalog import WorkloadCard
from studies.direction import best_value, sign
from studies.formatting import metric, scalar
from studies.space import AnyDimension, Choices, Fixed, Range, Scalar
from studies.states import TrialState
from studies.views import ArmView, TrialView

_BINS: Final = 6
_MOST_CHOICES: Final = 12
_SHADES: Final = 9
# The pairs that are known to interact come first.
_USUAL: Final = (("lr", "weight_decay"), ("delta", "wd_ratio"))


@dataclass(frozen=True)
class HeatCell:
    """One cell.

    Attributes:
        text: the best value in it, or how its trials ended.
        shade: from 0 (worst) to 8 (best of the arm); None without a value.
        trials: how many trials it has.
    """

    text: str
    shade: int | None
    trials: int


@dataclass(frozen=True)
class HeatMap:
    """The map of one arm.

    Attributes:
        arm: the arm.
        across: the texts of the columns.
        rows: (text, cells) of the rows, the highest values first.
        left_out: how many trials are in no cell, because a value lies outside the space.
    """

    arm: ArmView
    across: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    left_out: int


@dataclass(frozen=True)
class PairChoice:
    """Two hyperparameters, and those that can be chosen instead.

    Attributes:
        across: the hyperparameter of the columns.
        down: the hyperparameter of the rows.
        names: every hyperparameter that an arm searches.
    """

    across: str
    down: str
    names: tuple[str, ...]


def pair_choice(arms: Sequence[ArmView], across: str | None, down: str | None) -> PairChoice | None:
    """Return the pair to show: the one asked for if there is such a pair, else the most telling one.

    None if no arm searches two hyperparameters.
    """
    by_arm = [[name for name, d in arm.space.items() if not isinstance(d, Fixed)] for arm in arms]
    names = tuple(dict.fromkeys(name for mine in by_arm for name in mine))
    pairs = [(a, b) for mine in by_arm for i, a in enumerate(mine) for b in mine[i + 1 :]]
    if not pairs:
        return None
    if across in names and down in names and across != down:
        return PairChoice(across, down, names)
    usual = next((pair for pair in _USUAL if pair in pairs), pairs[0])
    return PairChoice(*usual, names)


def heat_maps(
    arms: Sequence[ArmView], trials: Sequence[TrialView], pair: PairChoice, card: WorkloadCard
) -> tuple[HeatMap, ...]:
    """Return the map of each arm that searches both hyperparameters; arms without a result are left out."""
    maps: list[HeatMap] = []
    for arm in arms:
        x, y = arm.space.get(pair.across), arm.space.get(pair.down)
        if x is None or y is None or isinstance(x, Fixed) or isinstance(y, Fixed):
            continue
        ended = {TrialState.COMPLETED, TrialState.DIVERGED}
        mine = [t for t in trials if t.arm == arm.name and t.state in ended]
        if any(t.value is not None for t in mine):
            maps.append(_map(arm, mine, pair, card, _Bins.of(x), _Bins.of(y)))
    return tuple(maps)


@dataclass(frozen=True)
class _Bins:
    """The bins of a dimension: intervals of a range, or its choices."""

    dimension: AnyDimension
    texts: tuple[str, ...]

    @classmethod
    def of(cls, dimension: AnyDimension) -> "_Bins":
        match dimension:
            case Range():
                low, high = _place(dimension, dimension.low), _place(dimension, dimension.high)
                edges = [low + (high - low) * i / _BINS for i in range(_BINS + 1)]
                values = [10**edge if dimension.log else edge for edge in edges]
                texts = [f"{_short(a)} to {_short(b)}" for a, b in pairwise(values)]
                return cls(dimension, tuple(texts))
            case Choices():
                return cls(dimension, tuple(scalar(c) for c in dimension.choices[:_MOST_CHOICES]))
            case Fixed():
                return cls(dimension, (scalar(dimension.value),))

    def index(self, value: Scalar) -> int | None:
        """Return the bin of a value; None if it lies outside."""
        dimension = self.dimension
        if isinstance(dimension, Range):
            if isinstance(value, bool | str) or not dimension.contains(value):
                return None
            low, high = _place(dimension, dimension.low), _place(dimension, dimension.high)
            at = (_place(dimension, value) - low) / (high - low) if high > low else 0.0
            return min(int(at * _BINS), _BINS - 1)
        return self.texts.index(scalar(value)) if scalar(value) in self.texts else None


def _place(dimension: Range, value: float) -> float:
    return math.log10(value) if dimension.log else float(value)


def _short(value: float) -> str:
    return f"{value:.2g}"


def _map(
    arm: ArmView, trials: Sequence[TrialView], pair: PairChoice, card: WorkloadCard, x: _Bins, y: _Bins
) -> HeatMap:
    members: dict[tuple[int, int], list[TrialView]] = {}
    for trial in trials:
        if pair.across in trial.parameters and pair.down in trial.parameters:
            column, row = x.index(trial.parameters[pair.across]), y.index(trial.parameters[pair.down])
            if column is not None and row is not None:
                members.setdefault((row, column), []).append(trial)
    best = {
        at: best_value(values, card.direction)
        for at, some in members.items()
        if (values := [t.value for t in some if t.value is not None])
    }
    # Shades follow the ranks of the cells, so that one bad cell does not leave all others alike.
    order = sorted(set(best.values()), key=lambda value: sign(card.direction) * value)

    def cell(at: tuple[int, int]) -> HeatCell:
        some = members.get(at, [])
        if at not in best:
            return HeatCell("all diverged" if some else "", None, len(some))
        rank = order.index(best[at]) / (len(order) - 1) if len(order) > 1 else 1.0
        return HeatCell(metric(best[at], card.unit), round(rank * (_SHADES - 1)), len(some))

    rows = [
        (text, tuple(cell((row, column)) for column in range(len(x.texts))))
        for row, text in enumerate(y.texts)
    ]
    placed = sum(len(some) for some in members.values())
    return HeatMap(arm, x.texts, tuple(reversed(rows)), left_out=len(trials) - placed)
