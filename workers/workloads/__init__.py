"""The workloads that a worker can train.

Those of this package, and what installed packages offer under `tangent.workloads`.

An entry point of that group is a `Workload`, class or instance, or a list of them. The target on each of our
cards is the mean validation value over three fresh seeds of the better of AdamW and Nesterov SGD, each with
the best of 8 to 12 random configurations, on the card's own epochs and batch size with a cosine schedule,
rounded to the easier side; for `pydoc-lm`, AdamW's alone, at the best of a few learning rates.
"""

__all__ = ["Data", "DataCache", "Split", "Workload", "load_workloads"]

from workers.entry_points import by_name, load_entries
from workers.workloads.digits import DigitsCnn, DigitsMlp
from workers.workloads.mnist5k import Mnist5kCnn
from workers.workloads.pydoc_lm import PydocLm
from workers.workloads.toys import Antipode2d, Rosenbrock3d
from workers.workloads.workload import Data, DataCache, Split, Workload

_GROUP = "tangent.workloads"


def load_workloads() -> dict[str, Workload]:
    """Return every workload by name, ours first; data is loaded only when a workload is asked for it.

    An entry point that is broken or takes a name that is taken is left out, with a warning in the log that
    names it.
    """
    ours: list[Workload] = [DigitsMlp(), DigitsCnn(), Mnist5kCnn(), PydocLm(), Rosenbrock3d(), Antipode2d()]
    return by_name([*ours, *load_entries(_GROUP, Workload)], group=_GROUP)
