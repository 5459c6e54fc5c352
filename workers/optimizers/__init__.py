"""The optimizers that studies may name: built-in ones, and entry points in `tangent.optimizers`."""

__all__ = ["OptimizerEntry", "build_optimizer", "load_optimizers", "lookahead_around", "sam_around"]

from itertools import chain

from workers.entry_points import Installed, Loaded, OnBroken, by_name, load_entries, no_report
from workers.optimizers import (
    accumulating,
    adam,
    adaptive,
    belief,
    cautious,
    curvature,
    gradient_descent,
    layerwise,
    lookahead,
    minimal_moments,
    muon,
    norm_constrained,
    preconditioned,
    projected,
    quasi_hyperbolic,
    schedule_free,
    sharpness,
    sign,
)
from workers.optimizers.lookahead import lookahead_around
from workers.optimizers.registry import OptimizerEntry, build_optimizer, with_accepted_arguments
from workers.optimizers.sharpness import sam_around

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
    adaptive,
    cautious,
    minimal_moments,
    preconditioned,
    norm_constrained,
    curvature,
    sharpness,
)


def load_optimizers(*, on_broken: OnBroken = no_report) -> Installed[OptimizerEntry]:
    """Return all optimizers by name, the built-in ones first.

    An entry point that cannot be loaded, or whose name already exists, is skipped with a warning in the log.
    A package that cannot be loaded is passed to `on_broken`.
    """
    builtin = chain.from_iterable(family.ENTRIES for family in _FAMILIES)
    entries = [
        Loaded(with_accepted_arguments(loaded.entry), loaded.package)
        for loaded in load_entries(_GROUP, OptimizerEntry, on_broken=on_broken)
    ]
    return by_name(builtin, entries, group=_GROUP)
