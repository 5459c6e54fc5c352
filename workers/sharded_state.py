"""An optimizer whose state the processes of a trial divide among them."""

__all__ = ["sharded_state"]

import warnings
from dataclasses import replace
from typing import Any, cast

from torch.optim import Optimizer

from studies.space import Parameters
from workers.optimizers import OptimizerEntry
from workers.workload_errors import CannotTrain


def sharded_state(entry: OptimizerEntry) -> OptimizerEntry:
    """Return an entry whose optimizer keeps in each process the state of a part of the parameters only.

    It is torch's ZeroRedundancyOptimizer: each process steps whole parameters of its own, and then sends them
    to the others.
    """
    with warnings.catch_warnings():
        # Importing it compiles optimizers that are not used here, in a deprecated way.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.distributed.optim import ZeroRedundancyOptimizer

    def build(groups: list[dict[str, Any]], parameters: Parameters) -> Optimizer:
        def own_part(own_groups: list[dict[str, Any]], **_: Any) -> Optimizer:
            optimizer = entry.build(own_groups, parameters)
            if callable(getattr(optimizer, "eval", None)):
                raise CannotTrain(
                    f"expected an optimizer that trains and evaluates at the same weights, got "
                    f"{entry.card.name}, whose state cannot be sharded; set shard_optimizer to false"
                )
            return optimizer

        return ZeroRedundancyOptimizer(groups, optimizer_class=cast("Any", own_part))

    return replace(entry, build=build)
