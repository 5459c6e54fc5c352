"""The workloads that a worker can train: built-in ones, and entry points in `tangent.workloads`.

An entry point of that group is a `TensorWorkload`, a `LoopWorkload` or a `ScriptWorkload`, as a class or an
instance, or a list of them. The target on each built-in card is the mean validation value over three fresh
seeds of the better of AdamW and Nesterov SGD, each at the best of 8 to 12 random configurations, with the
card's own epochs and batch size and a cosine schedule, rounded to the easier side. For `pydoc-lm` and
the small siblings of the paper's benchmarks it is the best of a few learning rates over one to three seeds.
"""

__all__ = [
    "AnyWorkload",
    "CommandWorkload",
    "Data",
    "DataCache",
    "LoopWorkload",
    "MetricValue",
    "ModelWorkload",
    "ScriptWorkload",
    "Split",
    "SplitName",
    "TensorWorkload",
    "Workload",
    "builtin_tensor_workloads",
    "builtin_workloads",
    "configuration_of",
    "configured",
    "grouped_parameters",
    "kind_of",
    "load_data",
    "load_workloads",
    "own_generator",
    "to_device",
    "what_is_missing",
    "with_kinds",
]

from workers.entry_points import Installed, Loaded, OnBroken, by_name, load_entries, no_report
from workers.workloads.adversarial import ADVERSARIAL
from workers.workloads.audio import AUDIO
from workers.workloads.biased import BIASED
from workers.workloads.command_workload import CommandWorkload
from workers.workloads.configuration import configuration_of, configured, grouped_parameters, with_kinds
from workers.workloads.detection import DETECTION
from workers.workloads.digits import DigitsCnn, DigitsMlp
from workers.workloads.image_classification import IMAGE_CLASSIFICATION
from workers.workloads.imagenet9 import IMAGENET9
from workers.workloads.kinds import AnyWorkload, DataCache, ModelWorkload, kind_of, what_is_missing
from workers.workloads.loop_workload import LoopWorkload, MetricValue, SplitName, own_generator, to_device
from workers.workloads.memory_lm import MEMORY_LM
from workers.workloads.mnist5k import Mnist5kCnn
from workers.workloads.pydoc_lm import PydocLm
from workers.workloads.retrieval import RETRIEVAL
from workers.workloads.retrieval_benchmarks import RETRIEVAL_BENCHMARKS
from workers.workloads.script_workload import ScriptWorkload
from workers.workloads.tensor_workload import Data, Split, TensorWorkload, load_data
from workers.workloads.toys import Antipode2d, Rosenbrock3d
from workers.workloads.vowels import VOWELS

_GROUP = "tangent.workloads"


Workload = TensorWorkload
"""The name that packages for earlier versions import."""


def builtin_workloads() -> dict[str, ModelWorkload]:
    """Return our own workloads by name, without loading their data."""
    builtin = (
        *(DigitsMlp(), DigitsCnn(), Mnist5kCnn(), PydocLm(), Rosenbrock3d(), Antipode2d()),
        *IMAGE_CLASSIFICATION,
        *AUDIO,
        *VOWELS,
        *MEMORY_LM,
        *DETECTION,
        *ADVERSARIAL,
        *BIASED,
        *IMAGENET9,
        *RETRIEVAL,
        *RETRIEVAL_BENCHMARKS,
    )
    return {workload.card.name: workload for workload in builtin}


def builtin_tensor_workloads() -> dict[str, TensorWorkload]:
    """Return those of our own workloads by name whose data are tensors."""
    return {
        name: workload
        for name, workload in builtin_workloads().items()
        if isinstance(workload, TensorWorkload)
    }


def load_workloads(*, on_broken: OnBroken = no_report) -> Installed[AnyWorkload]:
    """Return all workloads by name, the built-in ones first, without loading their data.

    An entry point that cannot be loaded, or whose name already exists, is skipped with a warning in the log.
    A package that cannot be loaded is passed to `on_broken`.
    """
    kinds = TensorWorkload, LoopWorkload, ScriptWorkload
    installed: list[Loaded[AnyWorkload]] = load_entries(_GROUP, *kinds, on_broken=on_broken)
    return by_name(builtin_workloads().values(), installed, group=_GROUP)
