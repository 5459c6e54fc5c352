import math
from datetime import UTC, datetime

import pytest

from studies.formatting import (
    ABSENT,
    byte_size,
    change,
    change_interval,
    clip_change,
    clip_interval,
    count,
    difference,
    difference_interval,
    duration,
    effect_size,
    instant,
    interval,
    metric,
    metric_interval,
    number,
    p_value,
    percent,
    plural,
    probability,
    scalar,
    score,
    spread,
)

__all__: list[str] = []

_NBSP = "\N{NO-BREAK SPACE}"
_PERCENT = f"{_NBSP}%"


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "text"),
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
def test_a_difference_has_the_digits_that_its_interval_justifies(
    value: float, low: float | None, high: float | None, unit: str, text: str
) -> None:
    assert difference_interval(value, low, high, unit) == text


def test_a_fraction_is_shown_in_percent_with_its_interval() -> None:
    assert metric_interval(0.972, 0.968, 0.976, "fraction") == f"97.20{_PERCENT} (96.80 to 97.60)"
    assert metric_interval(1.52, 1.4, 1.64, "nats") == "1.52 nats (1.40 to 1.64)"
    assert metric_interval(0.97, None, None, "fraction") == f"97.00{_PERCENT}"
    assert metric_interval(1.5, math.nan, 2, "nats") == "1.500 nats"


def test_shares_and_probabilities_are_short() -> None:
    assert [percent(value) for value in (0, 0.0041, 0.0968, 0.21, 1)] == [
        f"{text}{_PERCENT}" for text in ("0", "0.41", "9.7", "21", "100")
    ]
    assert [probability(p) for p in (0.0002, 0.0123, 1.0)] == ["p < 0.001", "p = 0.012", "p = 1"]
    assert [probability(p) for p in (0.04996, 0.0504, 0.05)] == ["p = 0.04996", "p = 0.05", "p = 0.05"]
    assert [effect_size(size) for size in (-0.4234, 9.94, 104.7, 12345.0)] == ["0.42", "9.9", "105", "12,345"]


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


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(0.000123456), "0.0001235"),
        (number(1234567.0), "1.235×10⁶"),
        (number(-1.2e-5), "−1.2×10⁻⁵"),
        (number(-2.5), "−2.5"),
        (number(float("nan")), ABSENT),
        (number(float("inf")), ABSENT),
        (metric(0.98123, "fraction"), f"98.12{_NBSP}%"),
        (metric(1.82345, "nats per character"), "1.823"),
        (metric(1.8, "nats per character"), "1.800"),
        (metric(1234.0, "points"), "1234"),
        (metric(None, "fraction"), ABSENT),
        (byte_size(0), f"0{_NBSP}B"),
        (byte_size(999), f"999{_NBSP}B"),
        (byte_size(999_600), f"1{_NBSP}MB"),
        (byte_size(1_234_567), f"1.23{_NBSP}MB"),
        (byte_size(10**14), f"100{_NBSP}TB"),
        (difference(0.981, 0.977, "fraction"), "0.40 points"),
        (difference(1.8, 1.9, "nats per character"), "0.1 nats per character"),
        (change(0.0036, "fraction"), "+0.36"),
        (change(-0.0132, "nats per character"), "−0.0132"),
        (change(-1e-9, "fraction"), "0.00"),
        (change(None, "fraction"), ABSENT),
        (interval(0.9812, 0.9884, "fraction").replace(_NBSP, " "), "98.12 to 98.84 %"),
        (interval(1.5, 1.6, "nats per character").replace(_NBSP, " "), "1.500 to 1.600"),
        (interval(0.5, None, "fraction"), ABSENT),
        (change_interval(-0.001, 0.0084, "fraction").replace(_NBSP, " "), "−0.10 to +0.84"),
        (change_interval(None, None, "fraction"), ABSENT),
        (spread(0.0033, "fraction"), "0.33 points"),
        (spread(0.01171, "nats per character"), "0.0117"),
        (spread(None, "fraction"), ABSENT),
        (p_value(0.0317), "0.032"),
        (p_value(1e-9).replace(_NBSP, " "), "< 0.001"),
        (p_value(None), ABSENT),
        (percent(0.424).replace(_NBSP, " "), "42 %"),
        (score(-0.0074), "−0.007"),
        (scalar(True), "true"),
        (scalar(1), "1"),
        (scalar("plain"), "plain"),
        (scalar(0.1 + 0.2), "0.3"),
        (scalar(1.2e-5), "1.2e-05"),
        (scalar(None), ABSENT),
        (count(12345), "12,345"),
        (plural(1, "trial"), "1 trial"),
        (plural(1200, "trial"), "1,200 trials"),
        (instant(datetime(2026, 11, 1, 9, 5, tzinfo=UTC)), "1 Nov 2026, 09:05:00 UTC"),
        (instant(None), ABSENT),
    ],
)
def test_numbers_are_short_and_never_nan(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00 s"),
        (-3600.0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86369.0, "23 h 59 min"),
        (86371.0, "1 d 0 h"),
        (None, ABSENT),
        (float("inf"), ABSENT),
    ],
)
def test_seconds_are_humanised_and_never_read_sixty(seconds: float | None, expected: str) -> None:
    assert duration(seconds).replace(_NBSP, " ") == expected


def test_no_interval_of_a_fraction_is_shown_beyond_its_bounds() -> None:
    assert interval(-0.02, 1.02, "fraction").replace(_NBSP, " ") == "0.00 to 100.00 %"
    assert metric_interval(0.97, 0.92, 1.02, "fraction").replace(_NBSP, " ") == "97.0 % (92.0 to 100.0)"
    assert change_interval(-1.2, 0.5, "fraction").replace(_NBSP, " ") == "−100.00 to +50.00"
    assert difference_interval(0.5, -0.2, 1.2, "fraction") == "50 points (−20 to 100)"
    assert interval(-0.5, 7.0, "nats") == f"−0.5000{_NBSP}to{_NBSP}7.000"
    assert clip_interval(None, None, "fraction") == (None, None)
    assert clip_change(-1.2, None, "fraction") == (-1.0, None)
