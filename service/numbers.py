"""Numbers as tables and charts show them, each alone in its cell.

Sentences take theirs from `studies.analysis.numbers`. A dash stands for none.
"""

__all__ = ["change", "instant", "interval", "p_value", "score", "share", "span", "spread"]

import math
from datetime import UTC, datetime

from studies.analysis.numbers import ABSENT, difference, metric, number


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return the ends of an interval of a metric, e.g. '98.12 to 98.84 %'; a dash where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ABSENT
    ends = metric(low, unit).removesuffix("\N{NO-BREAK SPACE}%"), metric(high, unit)
    return " to ".join(ends).replace(" ", "\N{NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


def change(value: float | None, unit: str) -> str:
    """Return a difference of two metrics with its sign and without its unit.

    For example '+0.36' (percentage points) or '−0.013'.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    said = f"{100 * value:+.2f}" if unit == "fraction" else f"{value:+.3g}"
    # Nothing has no sign.
    return said[1:] if float(said) == 0 else said.replace("-", "\N{MINUS SIGN}")


def span(low: float | None, high: float | None, unit: str) -> str:
    """Return the ends of an interval of a difference, e.g. '−0.12 to +0.84'; a dash where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ABSENT
    return f"{change(low, unit)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{change(high, unit)}"


def spread(value: float | None, unit: str) -> str:
    """Return a standard deviation: '0.33 points' (percentage points), else the number alone.

    A dash where there is none.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    return difference(value, 0.0, unit) if unit == "fraction" else number(value, 3)


def p_value(p: float | None) -> str:
    """Return a p-value with three digits after the point; below that '< 0.001'."""
    if p is None or not math.isfinite(p):
        return ABSENT
    return "<\N{NO-BREAK SPACE}0.001" if p < 0.0005 else f"{p:.3f}"


def score(value: float | None) -> str:
    """Return a number near 0 to 1 with three digits after the point."""
    return (
        ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
    )


def share(value: float | None) -> str:
    """Return a share as whole percent, e.g. '62 %'."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def instant(at: datetime | None) -> str:
    """Return an instant as '21 Nov 2026, 12:03:11 UTC'."""
    if at is None:
        return ABSENT
    in_utc = at.astimezone(UTC)
    return f"{in_utc.day} {in_utc:%b %Y, %H:%M:%S} UTC"
