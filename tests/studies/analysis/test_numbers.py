import math

import pytest

from studies.analysis.numbers import (
    difference,
    effect,
    gap,
    metric_interval,
    number,
    plural,
    probability,
    scalar,
    share,
)

__all__: list[str] = []

_PERCENT = "\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "said"),
    [
        (0.012, 0.004, 0.020, "fraction", "1.2 points (0.4 to 2.0)"),
        (
            -0.003,
            -0.0041,
            -0.0019,
            "fraction",
            "\N{MINUS SIGN}0.30 points (\N{MINUS SIGN}0.41 to \N{MINUS SIGN}0.19)",
        ),
        (0.0132, 0.0101, 0.0163, "nats per character", "0.0132 nats per character (0.0101 to 0.0163)"),
        (12.0, -30.0, 54.0, "none", "12 (\N{MINUS SIGN}30 to 54)"),
        (-0.00001, -0.004, 0.004, "fraction", "\N{MINUS SIGN}0.001 points (\N{MINUS SIGN}0.400 to 0.400)"),
        (-0.0000001, -0.004, 0.004, "fraction", "0.00 points (\N{MINUS SIGN}0.40 to 0.40)"),
        (2e-9, 1e-9, 3e-9, "none", "2×10⁻⁹ (1×10⁻⁹ to 3×10⁻⁹)"),
        (0.5, 0.5, 0.5, "none", "0.50 (0.50 to 0.50)"),
        (0.0123, None, None, "fraction", "1.23 points"),
        (-0.0123, None, None, "fraction", "\N{MINUS SIGN}1.23 points"),
        (3e8, 1e8, 5e8, "none", "3×10⁸ (1×10⁸ to 5×10⁸)"),
    ],
)
def test_a_difference_is_told_as_exactly_as_its_interval_is_narrow(
    value: float, low: float | None, high: float | None, unit: str, said: str
) -> None:
    assert gap(value, low, high, unit) == said


def test_a_metric_is_told_with_its_interval_in_percent_where_it_is_a_fraction() -> None:
    assert metric_interval(0.972, 0.968, 0.976, "fraction") == f"97.20{_PERCENT} (96.80 to 97.60)"
    assert metric_interval(1.52, 1.4, 1.64, "nats") == "1.52 nats (1.40 to 1.64)"
    assert metric_interval(0.97, None, None, "fraction") == f"97.00{_PERCENT}"
    assert metric_interval(1.5, math.nan, 2, "nats") == "1.500 nats"


def test_shares_and_probabilities_are_short() -> None:
    assert [share(value) for value in (0, 0.0041, 0.0968, 0.21, 1)] == [
        f"{said}{_PERCENT}" for said in ("0", "0.41", "9.7", "21", "100")
    ]
    assert [probability(p) for p in (0.0002, 0.0123, 1.0)] == ["p < 0.001", "p = 0.012", "p = 1"]
    assert [probability(p) for p in (0.04996, 0.0504, 0.05)] == ["p = 0.04996", "p = 0.05", "p = 0.05"]
    assert [effect(size) for size in (-0.4234, 9.94, 104.7, 12345.0)] == ["0.42", "9.9", "105", "12,345"]


def test_numbers_differences_scalars_and_counts_read_as_people_write_them() -> None:
    assert number(-1.2e-5) == "\N{MINUS SIGN}1.2×10⁻⁵"
    assert difference(0.95, 0.9464, "fraction") == "0.36 points"
    assert [scalar(value) for value in (True, 0.001, 3, "plain", None)] == [
        "true",
        "0.001",
        "3",
        "plain",
        "–",
    ]
    assert [plural(n, "study", "studies") for n in (1, 1200)] == ["1 study", "1,200 studies"]
