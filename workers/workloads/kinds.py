"""The kinds of workload, and the data that a worker keeps of them."""

__all__ = ["AnyWorkload", "DataCache", "ModelWorkload", "kind_of"]

import torch

from studies.catalog import WorkloadKind
from workers.workloads.loop_workload import LoopWorkload
from workers.workloads.script_workload import ScriptWorkload
from workers.workloads.tensor_workload import Data, TensorWorkload, load_data

ModelWorkload = TensorWorkload | LoopWorkload
"""A workload whose model Tangent's loop trains."""
AnyWorkload = ModelWorkload | ScriptWorkload
"""A workload of any kind."""


def kind_of(workload: AnyWorkload) -> WorkloadKind:
    """Return the kind of a workload."""
    if isinstance(workload, TensorWorkload):
        return "tensors"
    return "loop" if isinstance(workload, LoopWorkload) else "script"


class DataCache:
    """Each workload's data, loaded once per device and kept for the lifetime of the worker."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, torch.device], Data] = {}

    def load(self, workload: AnyWorkload, *, device: torch.device) -> Data | None:
        """Return a workload's data on the device, loading it on first use; None if it has batches of its own.

        Raises:
            CannotTrain: the workload returned something else.
        """
        if not isinstance(workload, TensorWorkload):
            return None
        key = (workload.card.name, device)
        if key not in self._loaded:
            self._loaded[key] = load_data(workload, device=device)
        return self._loaded[key]
