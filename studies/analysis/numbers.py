"""Numbers as people read them: three or four digits, fractions in percent, seconds in words.

What is missing or not finite is a dash.
"""

__all__ = [
    "ABSENT",
    "count",
    "difference",
    "duration",
    "effect",
    "gap",
    "metric",
    "metric_interval",
    "metric_unit",
    "number",
    "plural",
    "probability",
    "scalar",
    "share",
]

import math
from typing import Final

from studies.space import Scalar

ABSENT: Final = "–"
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS: Final = "\N{MINUS SIGN}"
_PERCENT: Final = "\N{NO-BREAK SPACE}%"
# Beyond these an interval's ends need an exponent.
_MOST_DECIMALS: Final = 6
_LARGEST_PLAIN: Final = 1e7
_DECIDES: Final = 0.05


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, trailing zeros dropped.

    Very large and small ones as 1.2×10⁻⁵.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    mantissa, _, exponent = f"{value:.{digits}g}".replace("-", _MINUS, 1 if value < 0 else 0).partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


def metric(value: float | None, unit: str) -> str:
    """Return a metric's value.

    Percent where the card's unit is 'fraction', its space one that does not break; else four digits, zeros
    kept.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{100 * value:.2f}{_PERCENT}" if unit == "fraction" else f"{value:#.4g}".rstrip(".")


def metric_unit(unit: str) -> str:
    """Return the unit that stands behind a value in a sentence, with its space.

    None where `metric` writes percent or there is none.
    """
    return "" if unit in {"fraction", "none", ""} else f" {unit}"


def metric_interval(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """Return a metric with its interval, e.g. '97.2 % (96.8 to 97.6)', as exact as the interval is narrow.

    Without one the value alone.
    """
    if low is None or high is None or value is None or not all(map(math.isfinite, (value, low, high))):
        return f"{metric(value, unit)}{metric_unit(unit)}"
    of = 100 if unit == "fraction" else 1
    behind = _PERCENT if unit == "fraction" else metric_unit(unit)
    first, *ends = _alike(of * value, of * low, of * high)
    return f"{first}{behind} ({' to '.join(ends)})"


def difference(a: float, b: float, unit: str) -> str:
    """Return how far apart two metrics are.

    For example '0.36 points' (percentage points) or '0.0132 nats per character'.
    """
    apart = abs(a - b)
    return f"{100 * apart:.2f} points" if unit == "fraction" else f"{number(apart, 3)}{metric_unit(unit)}"


def gap(value: float, low: float | None, high: float | None, unit: str) -> str:
    """Return a difference with its interval, e.g. '1.2 points (0.4 to 2.0)', signs kept.

    Without an interval the difference alone.
    """
    of, behind = (100, " points") if unit == "fraction" else (1, metric_unit(unit))
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        sign = _MINUS if value < 0 else ""
        return f"{sign}{difference(value, 0, unit)}"
    first, *ends = _alike(of * value, of * low, of * high)
    return f"{first}{behind} ({' to '.join(ends)})"


def share(value: float) -> str:
    """Return a share of something in percent, whole where that says enough: '21 %', '0.4 %'."""
    percent = 100 * value
    return f"{percent:.0f}{_PERCENT}" if percent >= 9.95 or percent == 0 else f"{percent:.2g}{_PERCENT}"


def probability(p: float) -> str:
    """Return a p-value as 'p = 0.012', or 'p < 0.001'.

    With more digits where fewer would put it at 0.05, which decides.
    """
    if p < 0.001:
        return "p < 0.001"
    digits = next((n for n in range(2, 6) if (float(f"{p:.{n}g}") < _DECIDES) == (p < _DECIDES)), 6)
    return f"p = {p:.{digits}g}"


def effect(size: float) -> str:
    """Return the amount of an effect size with two significant digits, whole from 10 on."""
    return f"{abs(size):,.0f}" if abs(size) >= 9.95 else number(abs(size), 2)


def scalar(value: Scalar | None) -> str:
    """Return a hyperparameter's value as Python would write it, of a float four digits."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Return seconds as '0.42 s', '12.3 s', '4 min 12 s', '2 h 05 min' or '3 d 4 h'.

    The spaces do not break.
    """
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


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def plural(value: int, singular: str, many: str | None = None) -> str:
    """Return '1 trial' or '12 trials'."""
    return f"{count(value)} {singular if value == 1 else many or singular + 's'}"


def _alike(value: float, low: float, high: float) -> list[str]:
    """Return a value and its interval's ends with the same decimals: two digits of the interval's width."""
    width = high - low
    decimals = 2 if width <= 0 else 1 - math.floor(math.log10(width))
    if decimals > _MOST_DECIMALS or max(abs(value), abs(low), abs(high)) >= _LARGEST_PLAIN:
        return [number(each, 3) for each in (value, low, high)]
    decimals = max(0, decimals)
    # A value that is small beside its interval shall not read as none at all.
    decimals += next((more for more in range(3) if value == 0 or round(value, decimals + more) != 0), 0)
    # Adding 0 turns -0.0 into 0.0.
    return [f"{round(each, decimals) + 0.0:.{decimals}f}".replace("-", _MINUS) for each in (value, low, high)]
