"""How precisely a share is known, such as the share of correct examples or of diverged trials."""

__all__ = ["standard_error", "wilson_interval"]

import math
from statistics import NormalDist


def standard_error(share: float, examples: int) -> float:
    """Return the standard error of a share measured on `examples` independent examples, as a share.

    It is sqrt(p (1 - p) / n). At shares of 0 and 1 it is 0, because the normal approximation says nothing
    there.
    """
    return math.sqrt(share * (1 - share) / examples)


def wilson_interval(count: float, of: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the lower and upper end of Wilson's score interval for the share `count` / `of`.

    It is (0, 1) if `of` is 0.

    It stays inside 0..1 and keeps about its nominal coverage at shares of 0 and 1 and for small counts, where
    the normal interval collapses.

    Args:
        count: number of cases seen, from 0 to `of`; a fraction if they are weighted.
        of: number of all cases.
        confidence: share of such intervals that hold the truth.

    Raises:
        ValueError: count is negative or larger than `of`.

    Source: Wilson (1927); Brown, Cai and DasGupta (2001) recommend it for small n.
    """
    if not 0 <= count <= of:
        raise ValueError(f"expected a count from 0 to {of:g}, got {count:g}")
    if of == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # At shares of 0 and 1 the ends are exactly 0 and 1; rounding would put them slightly inside.
    return (0.0 if count == 0 else middle - half), (1.0 if count == of else middle + half)
