"""The one rule for which of two metric values is better."""

__all__: list[str] = []

import pytest

from studies.direction import Direction, best_value, better, rank_key, sign, worst_value


@pytest.mark.parametrize(("direction", "best", "worst"), [("maximize", 0.9, 0.1), ("minimize", 0.1, 0.9)])
def test_every_rule_follows_the_direction(direction: Direction, best: float, worst: float) -> None:
    assert better(best, worst, direction)
    assert not better(worst, best, direction)
    assert not better(best, best, direction)
    assert best_value([worst, best], direction) == best
    assert sign(direction) * best > sign(direction) * worst
    assert better(worst, worst_value(direction), direction)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_rank_by_value_then_by_number(direction: Direction) -> None:
    trials = [(0.1, 3), (0.9, 2), (0.9, 1), (0.1, 0)]
    ranked = sorted(trials, key=lambda trial: rank_key(*trial, direction))
    order = [1, 2, 0, 3] if direction == "maximize" else [0, 3, 1, 2]
    assert [number for _, number in ranked] == order
