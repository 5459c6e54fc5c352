"""Which of two metric values is better, and how trials rank: the one rule that every package uses."""

__all__ = [
    "Direction",
    "best_value",
    "better",
    "higher_or_lower",
    "rank_key",
    "sign",
    "worst_value",
]

import math
from collections.abc import Iterable
from typing import Literal

Direction = Literal["maximize", "minimize"]
"""Whether higher or lower values of a metric are better."""


def sign(direction: Direction) -> Literal[-1, 1]:
    """Return 1 where higher is better and -1 where lower is: a value times its sign is always maximized."""
    return 1 if direction == "maximize" else -1


def better(a: float, b: float, direction: Direction) -> bool:
    """Return whether `a` is better than `b`; equal values are not better than each other."""
    return a > b if direction == "maximize" else a < b


def best_value(values: Iterable[float], direction: Direction) -> float:
    """Return the best of at least one value."""
    return max(values) if direction == "maximize" else min(values)


def worst_value(direction: Direction) -> float:
    """Return the infinity that is worse than every finite value; it stands for a trial that diverged."""
    return -math.inf if direction == "maximize" else math.inf


def rank_key(value: float, number: int, direction: Direction) -> tuple[float, int]:
    """Return a sort key that puts the best completed trial first; of equal values, the lowest number."""
    return -sign(direction) * value, number


def higher_or_lower(direction: Direction) -> Literal["higher", "lower"]:
    """Return the word for which values are better, as in "higher is better"."""
    return "higher" if direction == "maximize" else "lower"
