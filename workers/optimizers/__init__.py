"""The optimizers that studies may name: built-in ones, and entry points in `tangent.optimizers`."""

__all__ = ["OptimizerEntry", "build_optimizer", "load_optimizers"]

from itertools import chain

from workers.entry_points import by_name, load_entries
from workers.optimizers import (
    accumulating,
    adam,
    belief,
    gradient_descent,
    layerwise,
    lookahead,
    muon,
    projected,
    quasi_hyperbolic,
    schedule_free,
    sign,
)
from workers.optimizers.registry import OptimizerEntry, build_optimizer

_GROUP = "tangent.optimizers"
_FAMILIES = (
    projected,
    gradient_descent,
    adam,
    accumulating,
    muon,
    quasi_hyperbolic,
    layerwise,
    sign,
    belief,
    schedule_free,
    lookahead,
)


def load_optimizers() -> dict[str, OptimizerEntry]:
    """Return all optimizers by name, the built-in ones first.

    An entry point that cannot be loaded, or whose name already exists, is skipped with a warning in the log.
    """
    builtin = chain.from_iterable(family.ENTRIES for family in _FAMILIES)
    return by_name([*builtin, *load_entries(_GROUP, OptimizerEntry)], group=_GROUP)
