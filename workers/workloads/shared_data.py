"""Data that the workers of a node share: loaded by the first, and mapped from its files by all."""

__all__ = ["SharedData", "locked"]

import fcntl
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from studies.catalog import PackageVersion
from studies.private_files import create_private_folder
from studies.trials import CardDifference
from workers.memory_meters import release_free_memory
from workers.workloads.card_differences import card_differences
from workers.workloads.tensor_workload import Data, Split, TensorWorkload, load_data

_log = logging.getLogger("tangent.training")
_SPLITS: Final = ("train", "validation", "test")
_PARTS: Final = ("inputs", "targets")
_CPU: Final = torch.device("cpu")
_DESCRIPTION: Final = "data.json"


class SharedData:
    """A folder of one node with the data of workloads.

    A workload's data are files, which the workers map privately: the system holds them in memory once, drops
    what is not used when memory is scarce, and gives a worker that changes a tensor a copy of the changed
    pages.

    Args:
        folder: the folder, on a local disk; it is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(
        self, workload: TensorWorkload, package: PackageVersion | None
    ) -> tuple[Data, tuple[CardDifference, ...]]:
        """Return a workload's data on the CPU, and in what they differ from its card.

        The first worker of the node loads them, while others wait. If the files cannot be written, each
        worker keeps data of its own.

        Args:
            workload: the workload.
            package: its package; None for a built-in one.

        Raises:
            CannotTrain: the workload returned something else than data.
        """
        kind = type(workload)
        key = [workload.card.name, kind.__module__, kind.__qualname__, package and package.model_dump()]
        folder = self._folder / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        cannot = "cannot share the data of %s on this node: %s"
        with ExitStack() as held:
            try:
                create_private_folder(self._folder)
                held.enter_context(locked(folder.with_suffix(".lock")))
                if folder.is_dir():
                    return _read(folder)
                is_shared = True
            except OSError as error:
                _log.warning(cannot, workload.card.name, error)
                is_shared = False
            # An OSError of the workload is its own.
            data = load_data(workload, device=_CPU)
            differences = card_differences(workload.card, data)
            if is_shared:
                try:
                    _write(data, differences, folder)
                    shared = _read(folder)
                except OSError as error:
                    _log.warning(cannot, workload.card.name, error)
                else:
                    del data
                    # Later packs of this worker use the files.
                    release_free_memory()
                    return shared
        return data, differences


@contextmanager
def locked(file: Path) -> Generator[None]:
    """Hold the lock of a file, which is made if it is missing; wait for it if another process holds it.

    Raises:
        OSError: the file cannot be made or locked.
    """
    # The system releases the lock of a worker that is killed.
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(data: Data, differences: Sequence[CardDifference], folder: Path) -> None:
    """Write data to a folder, completely or not at all; the folder must be locked."""
    # A worker that was killed has left what it had written.
    for left in folder.parent.glob(f"{folder.name}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    unfinished.mkdir(mode=0o700)
    try:
        _write_files(data, differences, unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_files(data: Data, differences: Sequence[CardDifference], folder: Path) -> None:
    tensors: dict[str, Any] = {}
    for split in _SPLITS:
        for part in _PARTS:
            tensor: Tensor = getattr(getattr(data, split), part).detach().contiguous()
            tensors[f"{split}-{part}"] = {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
            }
            # numpy has no bfloat16.
            tensor.reshape(-1).view(torch.uint8).numpy().tofile(folder / f"{split}-{part}")
    dumped = [each.model_dump() for each in differences]
    description = json.dumps({"tensors": tensors, "differences": dumped})
    (folder / _DESCRIPTION).write_text(description, encoding="utf-8")


def _read(folder: Path) -> tuple[Data, tuple[CardDifference, ...]]:
    description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    tensors = {
        name: _mapped(folder / name, dtype=getattr(torch, each["dtype"]), shape=each["shape"])
        for name, each in description["tensors"].items()
    }
    splits = {split: Split(**{part: tensors[f"{split}-{part}"] for part in _PARTS}) for split in _SPLITS}
    return Data(**splits), tuple(CardDifference.model_validate(each) for each in description["differences"])


def _mapped(file: Path, *, dtype: torch.dtype, shape: list[int]) -> Tensor:
    numel = torch.Size(shape).numel()
    if numel == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.from_file(os.fspath(file), shared=False, size=numel, dtype=dtype).reshape(shape)
