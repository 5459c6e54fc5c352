"""The workers of a node find out once what holds for stacks of a kind, as long as nothing has changed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of

from studies.catalog import PackageVersion
from workers.stacked import width_tuning
from workers.stacked.node_results import NodeResults
from workers.stacked.width_tuning import WidthTuner, _TrialRun

__all__: list[str] = []

MLP = WORKLOADS["digits-mlp"]


def results(folder: Path, *, code: str = "1") -> NodeResults:
    package = PackageVersion(name="p", version="1", code=code)
    return NodeResults(folder, workloads={"w": package}, optimizers={"o": package})


def once(given: NodeResults, text: str, *, workload: str = "w", optimizer: str = "o") -> str:
    key = ("width", 32, None, ("a", 1.5))
    return given.once(key, lambda: (text, True), workload=workload, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_a_second_worker_measures_nothing(tmp_path: Path, optimizer: str) -> None:
    pack = pack_of(MLP, optimizer, member(optimizer, "a"), member(optimizer, "b"), width=None)
    first, second = (
        WidthTuner(results(tmp_path)).choose(
            pack, workload=MLP, entry=OPTIMIZERS[optimizer], data=data_of(MLP), device=CPU
        )
        for _ in range(2)
    )
    # Two measurements would never agree to the last digit.
    assert first == second
    assert (len(first.trial_steps_per_s) > 1) == (optimizer == "adamw")


def test_a_width_that_memory_limited_is_measured_again_by_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_TrialRun, "rate_alone", lambda _: 100.0)
    monkeypatch.setattr(_TrialRun, "rate_stacked", lambda _, width, **__: (100.0 * width, width * 2**20))
    pack = pack_of(MLP, "adamw", member("adamw", "a"), member("adamw", "b"), width=None)

    def chosen(spare_mebibytes: int, *, gpus: float = 0.0) -> tuple[int, bool]:
        monkeypatch.setattr(width_tuning, "spare_bytes", lambda _: spare_mebibytes * 2**20)
        found = WidthTuner(results(tmp_path), gpus=gpus).choose(
            pack, workload=MLP, entry=OPTIMIZERS["adamw"], data=data_of(MLP), device=CPU
        )
        return found.width, found.reason is not None

    assert chosen(7) == (4, True)
    assert chosen(3) == (2, True)
    # What memory did not limit is kept, for packs with the same share of a GPU.
    assert chosen(10_000) == chosen(3) == (32, False)
    assert chosen(3, gpus=0.5) == (2, True)


def test_other_versions_have_results_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert once(results(tmp_path), "first") == once(results(tmp_path), "second") == "first"
    assert once(results(tmp_path, code="2"), "edited") == "edited"
    assert once(results(tmp_path), "other", optimizer="builtin") == "other"
    assert once(results(tmp_path), "another", workload="builtin") == "another"
    monkeypatch.setattr(torch, "__version__", "0")
    assert once(results(tmp_path), "other torch") == "other torch"


def test_workers_that_ask_at_once_compute_once(tmp_path: Path) -> None:
    computed: list[int] = []

    def compute() -> tuple[str, bool]:
        computed.append(threading.get_ident())
        time.sleep(0.05)
        return str(computed[-1]), True

    def ask(_: int) -> str:
        return results(tmp_path).once((), compute, workload="w", optimizer="o")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == len(computed) == 1


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    def fail() -> tuple[str, bool]:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        results(tmp_path).once(("width", 32, None, ("a", 1.5)), fail, workload="w", optimizer="o")
    assert once(results(tmp_path), "later") == "later"


def test_a_worker_that_cannot_use_the_folder_computes_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert [once(results(tmp_path / "file"), text) for text in ("one", "two")] == ["one", "two"]
