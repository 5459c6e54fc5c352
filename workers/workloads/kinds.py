"""The kinds of workload, and the data that a worker keeps of them."""

__all__ = ["AnyWorkload", "DataCache", "ModelWorkload", "kind_of", "what_is_missing"]

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from studies.catalog import PackageVersion, WorkloadKind
from studies.trials import CardDifference
from workers.workloads.card_differences import card_differences
from workers.workloads.loop_workload import LoopWorkload
from workers.workloads.script_workload import ScriptWorkload
from workers.workloads.shared_data import SharedData
from workers.workloads.tensor_workload import Data, TensorWorkload, load_data

ModelWorkload = TensorWorkload | LoopWorkload
"""A workload whose model Tangent's loop trains."""

AnyWorkload = ModelWorkload | ScriptWorkload
"""A workload of any kind."""

# Every page of a study keeps what is missing.
_MAX_MISSING = 1000


def kind_of(workload: AnyWorkload) -> WorkloadKind:
    """Return the kind of a workload."""
    if isinstance(workload, TensorWorkload):
        return "tensors"
    return "loop" if isinstance(workload, LoopWorkload) else "script"


def what_is_missing(workload: AnyWorkload) -> str:
    """Return what this machine lacks to train a workload, or why the workload cannot tell; else ""."""
    try:
        missing: Any = workload.missing()
    # A package's workload may raise anything; it must end neither the dispatcher nor a worker.
    except Exception as error:  # noqa: BLE001
        return f"its method missing raised {type(error).__name__}: {error}"[:_MAX_MISSING]
    if isinstance(missing, str):
        return missing[:_MAX_MISSING]
    return "" if missing is None else f"its method missing returned {missing!r}"[:_MAX_MISSING]


class DataCache:
    """Each workload's data, loaded once per device and kept for the lifetime of the worker.

    Args:
        shared: where the workers of this node keep the data of workloads that share them; None: nowhere.
        packages: the package of each workload that is not built in, by the workload's name.
    """

    def __init__(
        self,
        shared: SharedData | None = None,
        *,
        packages: Mapping[str, PackageVersion] = MappingProxyType({}),
    ) -> None:
        self._shared, self._packages = shared, packages
        self._loaded: dict[tuple[str, torch.device], Data] = {}
        self._differences: dict[str, tuple[CardDifference, ...]] = {}

    def load(self, workload: AnyWorkload, *, device: torch.device) -> Data | None:
        """Return a workload's data on the device, loading it on first use; None if it has batches of its own.

        Raises:
            CannotTrain: the workload returned something else.
        """
        if not isinstance(workload, TensorWorkload):
            return None
        name = workload.card.name
        key = (name, device)
        if key in self._loaded:
            return self._loaded[key]
        if workload.shares_data and self._shared is not None:
            data, self._differences[name] = self._shared.load(workload, self._packages.get(name))
            data = data.to(device)
        else:
            data = load_data(workload, device=device)
            self._differences[name] = card_differences(workload.card, data)
        self._loaded[key] = data
        return data

    def differences(self, workload: AnyWorkload) -> tuple[CardDifference, ...]:
        """Return in what a workload's card differs from its data; nothing if these are not loaded."""
        return self._differences.get(workload.card.name, ())
