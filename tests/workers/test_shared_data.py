"""Data that the workers of a node share: loaded once, equal for all, and changed by none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, WORKLOADS
from torch import Tensor, nn

from studies.catalog import PackageVersion, WorkloadCard
from workers.workload_errors import CannotTrain
from workers.workloads import Data, DataCache, Split, TensorWorkload
from workers.workloads.shared_data import SharedData

__all__: list[str] = []

ANTIPODE = WORKLOADS["antipode-2d"]


class Shared(TensorWorkload):
    """A workload whose data are shared, with all kinds of tensors."""

    shares_data = True
    card: WorkloadCard = ANTIPODE.card.model_copy(update={"name": "shared", "examples": {"train": 7}})

    def __init__(self) -> None:
        self.loaded = 0

    def load_data(self, device: torch.device) -> Data:
        self.loaded += 1
        given = [
            torch.arange(12.0).view(4, 3).bfloat16(),
            torch.arange(6, dtype=torch.int64).view(3, 2)[:, :1],
            torch.tensor([[True, False]] * 2),
        ]
        train, validation, test = (Split(inputs=each, targets=torch.zeros(len(each), 0)) for each in given)
        return Data(train=train, validation=validation, test=test).to(device)

    def build_model(self) -> nn.Module:
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError


def package(code: str) -> PackageVersion:
    return PackageVersion(name="p", version="1", code=code)


def test_the_first_worker_loads_and_all_get_equal_data_and_differences(tmp_path: Path) -> None:
    workload = Shared()
    caches = [DataCache(SharedData(tmp_path / "data")) for _ in range(2)]
    first, second = (cache.load(workload, device=CPU) for cache in caches)
    assert first is not None
    assert second is not None
    assert workload.loaded == 1
    own = Shared().load_data(CPU)
    for split in ("train", "validation", "test"):
        for found in (first, second):
            expected = getattr(own, split)
            assert torch.equal(getattr(found, split).inputs, expected.inputs)
            assert getattr(found, split).targets.shape == expected.targets.shape
            assert getattr(found, split).inputs.dtype == expected.inputs.dtype
    assert caches[0].differences(workload) == caches[1].differences(workload)
    assert [(each.kind, each.expected, each.found) for each in caches[1].differences(workload)] == [
        ("examples", 7, 4)
    ]
    assert tmp_path.joinpath("data").stat().st_mode & 0o077 == 0


def test_a_worker_that_changes_a_tensor_changes_no_others(tmp_path: Path) -> None:
    first, second = (SharedData(tmp_path).load(Shared(), None)[0] for _ in range(2))
    first.train.inputs.zero_()
    again = SharedData(tmp_path).load(Shared(), None)[0]
    assert second.train.inputs.sum() == again.train.inputs.sum() == 66


def test_another_version_of_a_package_loads_its_own_data(tmp_path: Path) -> None:
    workload = Shared()
    for version in (package("a"), package("b"), package("a"), None):
        SharedData(tmp_path).load(workload, version)
    assert workload.loaded == 3


def test_a_disk_without_space_means_data_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file in place of a folder")
    workload = Shared()
    data, differences = SharedData(tmp_path / "file").load(workload, None)
    assert (len(data.train), len(differences)) == (4, 1)


def test_data_that_cannot_be_loaded_leave_nothing_behind_and_are_loaded_once(tmp_path: Path) -> None:
    class Broken(Shared):
        def load_data(self, device: torch.device) -> Any:
            return device

    class WithoutFile(Shared):
        def load_data(self, device: torch.device) -> Any:
            self.loaded += 1
            return torch.load(tmp_path / "no-such-file", map_location=device)

    with pytest.raises(CannotTrain, match="to return a Data"):
        SharedData(tmp_path).load(Broken(), None)
    without = WithoutFile()
    with pytest.raises(FileNotFoundError):
        SharedData(tmp_path).load(without, None)
    assert without.loaded == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"] * 2


def test_what_a_killed_worker_left_is_deleted(tmp_path: Path) -> None:
    SharedData(tmp_path).load(Shared(), None)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder.rename(folder.with_name(f"{folder.name}.unfinished"))
    other = tmp_path / "another.unfinished"
    other.mkdir()
    SharedData(tmp_path).load(Shared(), None)
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {folder, other}


def test_workloads_share_only_if_they_say_so(tmp_path: Path) -> None:
    DataCache(SharedData(tmp_path / "data")).load(ANTIPODE, device=CPU)
    assert not (tmp_path / "data").exists()


def anonymous() -> int:
    """Return the bytes of this process's memory that belong to no file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def test_no_worker_keeps_shared_data_in_memory_of_its_own(tmp_path: Path) -> None:
    class Large(Shared):
        def load_data(self, device: torch.device) -> Data:
            train = Split(inputs=torch.rand(2**14, 2**10), targets=torch.zeros(2**14))
            return Data(train=train, validation=train.head(1), test=train.head(1)).to(device)

    before = anonymous()
    kept = [SharedData(tmp_path).load(Large(), None)[0] for _ in range(2)]
    assert kept[0].train.inputs.sum() == kept[1].train.inputs.sum()
    assert anonymous() - before < 16 * 2**20, "the inputs have 64 MiB"
