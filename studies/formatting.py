"""Numbers, durations and times as readers see them in sentences, tables, charts, reports and the terminal.

A fraction is shown in percent. A value that is missing or not finite is shown as a dash.
"""

__all__ = [
    "ABSENT",
    "NO_REASON",
    "ago",
    "byte_size",
    "change",
    "change_interval",
    "clip_change",
    "clip_interval",
    "count",
    "difference",
    "difference_interval",
    "difference_range",
    "duration",
    "effect_size",
    "instant",
    "interval",
    "listed",
    "metric",
    "metric_interval",
    "metric_unit",
    "number",
    "p_value",
    "percent",
    "plural",
    "probability",
    "scalar",
    "score",
    "significant",
    "spread",
    "without_numbers",
]

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeGuard

if TYPE_CHECKING:
    from studies.space import Scalar

ABSENT: Final = "–"
NO_REASON: Final = "no reason was recorded"
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\b\d[\d.,]*(?:e[+-]?\d+)?\b", re.IGNORECASE)
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS: Final = "\N{MINUS SIGN}"
_NBSP: Final = "\N{NO-BREAK SPACE}"
_PERCENT: Final = f"{_NBSP}%"
# Beyond these, the ends of an interval need an exponent.
_MOST_DECIMALS: Final = 6
_LARGEST_PLAIN: Final = 1e7
_ALPHA: Final = 0.05
_MOST_NAMES: Final = 4


def _is_shown(value: float | None) -> TypeGuard[float]:
    """Return whether there is a finite value to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with up to `digits` significant digits, e.g. '0.012'.

    Trailing zeros are dropped. Very large and very small numbers are written as 1.2×10⁻⁵.
    """
    if not _is_shown(value):
        return ABSENT
    mantissa, _, exponent = f"{value:.{digits}g}".replace("-", _MINUS, 1 if value < 0 else 0).partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


def byte_size(size: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one, e.g. '1.2 GB'."""
    shown, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    # 999.5 is shown as 1000, which is one of the next unit.
    while shown >= 999.5 and len(units) > 1:
        shown /= 1000
        del units[0]
    return f"{shown:.3g}{_NBSP}{units[0]}"


def significant(value: float | None) -> str:
    """Return a number with exactly four significant digits, e.g. '0.0120'; zeros line up in a column."""
    return ABSENT if not _is_shown(value) else f"{value:#.4g}".rstrip(".").replace("-", _MINUS)


def metric(value: float | None, unit: str) -> str:
    """Return a metric's value: in percent if its unit is 'fraction', else with four significant digits."""
    if not _is_shown(value):
        return ABSENT
    return f"{100 * value:.2f}{_PERCENT}".replace("-", _MINUS) if unit == "fraction" else significant(value)


def metric_unit(unit: str) -> str:
    """Return the unit to write after a value, with the space before it.

    Empty for a fraction, which `metric` writes in percent, and for a metric without a unit.
    """
    return "" if unit in {"fraction", "none", ""} else f" {unit}"


def clip_interval(low: float | None, high: float | None, unit: str) -> tuple[float | None, float | None]:
    """Return the part of a metric's interval that is shown: of a fraction, the part between 0 and 1.

    Student's t and its relatives do not know that an accuracy ends at 100 %. Clipping takes away only values
    that cannot be true, so the interval covers the truth as often as before.
    """
    return _clip(low, high, 0.0, 1.0) if unit == "fraction" else (low, high)


def clip_change(low: float | None, high: float | None, unit: str) -> tuple[float | None, float | None]:
    """Return the part of a difference's interval that is shown: of fractions, the part between -1 and 1."""
    return _clip(low, high, -1.0, 1.0) if unit == "fraction" else (low, high)


def _clip(
    low: float | None, high: float | None, lowest: float, highest: float
) -> tuple[float | None, float | None]:
    return None if low is None else max(low, lowest), None if high is None else min(high, highest)


def metric_interval(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """Return a metric's value with its interval, e.g. '97.2 % (96.8 to 97.6)'.

    The number of decimals follows from the width of the interval. Without an interval, the value alone.
    """
    low, high = clip_interval(low, high, unit)
    if not (_is_shown(value) and _is_shown(low) and _is_shown(high)):
        return f"{metric(value, unit)}{metric_unit(unit)}"
    scale, suffix = (100, _PERCENT) if unit == "fraction" else (1, metric_unit(unit))
    first, *ends = _with_equal_decimals(scale * value, scale * low, scale * high)
    return f"{first}{suffix} ({' to '.join(ends)})"


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return the ends of a metric's interval, e.g. '98.12 to 98.84 %'."""
    low, high = clip_interval(low, high, unit)
    if not (_is_shown(low) and _is_shown(high)):
        return ABSENT
    return f"{metric(low, unit).removesuffix(_PERCENT)} to {metric(high, unit)}".replace(" ", _NBSP)


def difference(a: float, b: float, unit: str) -> str:
    """Return the distance between two values of a metric.

    For example '0.36 points' (percentage points) or '0.0132 nats per character'.
    """
    distance = abs(a - b)
    return (
        f"{100 * distance:.2f} points" if unit == "fraction" else f"{number(distance, 3)}{metric_unit(unit)}"
    )


def difference_range(least: float, most: float, unit: str) -> str:
    """Return the range of several distances of a metric, e.g. '1.20 to 4.75 points'."""
    whole = difference(most, 0, unit)
    low = f"{100 * least:.2f}" if unit == "fraction" else number(least, 3)
    return whole if difference(least, 0, unit) == whole else f"{low} to {whole}"


def difference_interval(value: float, low: float | None, high: float | None, unit: str) -> str:
    """Return a signed difference with its interval, e.g. '1.2 points (0.4 to 2.0)'.

    Without an interval, the difference alone.
    """
    low, high = clip_change(low, high, unit)
    if not (_is_shown(low) and _is_shown(high)):
        sign = _MINUS if value < 0 else ""
        return f"{sign}{difference(value, 0, unit)}"
    scale = 100 if unit == "fraction" else 1
    first, *ends = _with_equal_decimals(scale * value, scale * low, scale * high)
    points = " point" if first in {"1", f"{_MINUS}1"} else " points"
    suffix = points if unit == "fraction" else metric_unit(unit)
    return f"{first}{suffix} ({' to '.join(ends)})"


def change(value: float | None, unit: str) -> str:
    """Return a difference with its sign and without its unit: '+0.36' (percentage points) or '−0.013'."""
    if not _is_shown(value):
        return ABSENT
    text = f"{100 * value:+.2f}" if unit == "fraction" else f"{value:+.3g}"
    # Zero has no sign.
    return text[1:] if float(text) == 0 else text.replace("-", _MINUS)


def change_interval(low: float | None, high: float | None, unit: str) -> str:
    """Return the ends of a difference's interval, e.g. '−0.12 to +0.84'."""
    low, high = clip_change(low, high, unit)
    if not (_is_shown(low) and _is_shown(high)):
        return ABSENT
    return f"{change(low, unit)}{_NBSP}to{_NBSP}{change(high, unit)}"


def spread(value: float | None, unit: str) -> str:
    """Return a standard deviation: '0.33 points' (percentage points), else the number alone."""
    if not _is_shown(value):
        return ABSENT
    return difference(value, 0.0, unit) if unit == "fraction" else number(value, 3)


def percent(fraction: float | None) -> str:
    """Return a fraction in percent: whole from 10 % on, below that with two digits, e.g. '21 %', '0.4 %'."""
    if not _is_shown(fraction):
        return ABSENT
    value = 100 * fraction
    return f"{value:.0f}{_PERCENT}" if value >= 9.95 or value == 0 else f"{value:.2g}{_PERCENT}"


def score(value: float | None) -> str:
    """Return a number near 0 to 1 with three decimals."""
    return ABSENT if not _is_shown(value) else f"{value:z.3f}".replace("-", _MINUS)


def p_value(p: float | None) -> str:
    """Return a p-value for a table: three decimals, or '< 0.001'."""
    if not _is_shown(p):
        return ABSENT
    return f"<{_NBSP}0.001" if p < 0.0005 else f"{p:.3f}"


def probability(p: float) -> str:
    """Return a p-value for a sentence: 'p = 0.012' or 'p < 0.001'.

    It has as many digits as it takes to see on which side of 0.05 it lies.
    """
    if p < 0.001:
        return "p < 0.001"
    digits = next((n for n in range(2, 6) if (float(f"{p:.{n}g}") < _ALPHA) == (p < _ALPHA)), 6)
    return f"p = {p:.{digits}g}"


def effect_size(size: float) -> str:
    """Return the size of an effect without its sign, with two significant digits, whole from 10 on."""
    return f"{abs(size):,.0f}" if abs(size) >= 9.95 else number(abs(size), 2)


def scalar(value: "Scalar | None") -> str:
    """Return a hyperparameter's value as YAML would write it; of a float, four significant digits."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def count(value: int) -> str:
    """Return a whole number with its thousands separated, e.g. '12,345'."""
    return f"{value:,}"


def plural(value: int, singular: str, many: str | None = None) -> str:
    """Return a number with its noun: '1 trial', '12 trials', '1,200 studies'."""
    return f"{count(value)} {singular if value == 1 else many or singular + 's'}"


def listed(names: Sequence[str], *, most: int = _MOST_NAMES) -> str:
    """Return 'A', 'A and B' or 'A, B and C'; of more than `most` names, the first and how many others."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {plural(len(names) - most, 'other')}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def without_numbers(reason: str) -> str:
    """Return why a trial ended with "…" for addresses and numbers, which differ from trial to trial."""
    return _NUMBER.sub("…", reason.strip())


def duration(seconds: float | None) -> str:
    """Return seconds as '0.42 s', '12.3 s', '4 min 12 s', '2 h 05 min' or '3 d 4 h', in one unbroken word.

    A negative number, from a clock that was set back in between, counts as 0.
    """
    if not _is_shown(seconds):
        return ABSENT
    seconds = max(0.0, seconds)
    if seconds < 59.95:
        text = f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    elif seconds < 3599.5:
        text = "{} min {:02d} s".format(*divmod(round(seconds), 60))
    elif seconds < 86370:
        text = "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))
    else:
        text = "{} d {} h".format(*divmod(round(seconds / 3600), 24))
    return text.replace(" ", _NBSP)


def instant(at: datetime | None) -> str:
    """Return a moment as '21 Nov 2026, 12:03:11 UTC'."""
    if at is None:
        return ABSENT
    in_utc = at.astimezone(UTC)
    return f"{in_utc.day} {in_utc:%b %Y, %H:%M:%S} UTC"


def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was, in its largest unit: '45 s ago', '3 h ago'."""
    if moment is None:
        return ABSENT
    in_utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = max(0.0, (datetime.now(UTC) - in_utc).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _with_equal_decimals(value: float, low: float, high: float) -> list[str]:
    """Return a value and the ends of its interval with as many decimals as give the width two digits."""
    width = high - low
    decimals = 2 if width <= 0 else 1 - math.floor(math.log10(width))
    if decimals > _MOST_DECIMALS or max(abs(value), abs(low), abs(high)) >= _LARGEST_PLAIN:
        return [number(each, 3) for each in (value, low, high)]
    decimals = max(0, decimals)
    # A value that is small beside its interval must not read as zero.
    decimals += next((more for more in range(3) if value == 0 or round(value, decimals + more) != 0), 0)
    # Adding 0 turns -0.0 into 0.0.
    return [f"{round(each, decimals) + 0.0:.{decimals}f}".replace("-", _MINUS) for each in (value, low, high)]
