"""Numbers as people read them: three or four digits, fractions in percent, seconds in words; what is missing or not finite is a dash."""

__all__ = ["ABSENT", "count", "difference", "duration", "instant", "metric", "metric_unit", "number", "plural", "scalar"]

import math
from datetime import UTC, datetime
from typing import Final

from studies.space import Scalar

ABSENT: Final = "–"
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, trailing zeros dropped; very large and small ones as 1.2×10⁻⁵."""
    if value is None or not math.isfinite(value):
        return ABSENT
    mantissa, _, exponent = f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0).partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


def metric(value: float | None, unit: str) -> str:
    """Return a metric's value: percent where the card's unit is 'fraction', its space one that does not break; else four digits, zeros kept."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if unit == "fraction" else f"{value:#.4g}".rstrip(".")


def metric_unit(unit: str) -> str:
    """Return the unit that stands behind a value in a sentence, with its space; none where `metric` writes percent or there is none."""
    return "" if unit in {"fraction", "none", ""} else f" {unit}"


def difference(a: float, b: float, unit: str) -> str:
    """Return how far apart two metrics are, e.g. '0.36 points' (percentage points) or '0.0132 nats per character'."""
    apart = abs(a - b)
    return f"{100 * apart:.2f} points" if unit == "fraction" else f"{number(apart, 3)}{metric_unit(unit)}"


def scalar(value: Scalar | None) -> str:
    """Return a hyperparameter's value as Python would write it, of a float four digits."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Return seconds as '0.42 s', '12.3 s', '4 min 12 s', '2 h 05 min' or '3 d 4 h', with spaces that do not break."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 59.95:
        said = f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    elif seconds < 3599.5:
        said = "{} min {:02d} s".format(*divmod(round(seconds), 60))
    elif seconds < 86370:
        said = "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))
    else:
        said = "{} d {} h".format(*divmod(round(seconds / 3600), 24))
    return said.replace(" ", "\N{NO-BREAK SPACE}")


def instant(at: datetime | None) -> str:
    """Return an instant as '21 Nov 2026, 12:03:11 UTC'."""
    if at is None:
        return ABSENT
    in_utc = at.astimezone(UTC)
    return f"{in_utc.day} {in_utc:%b %Y, %H:%M:%S} UTC"


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def plural(value: int, singular: str, many: str | None = None) -> str:
    """Return '1 trial' or '12 trials'."""
    return f"{count(value)} {singular if value == 1 else many or singular + 's'}"
