"""The workers of a node find out once what holds for stacks of a kind, as long as nothing has changed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of

from studies.catalog import PackageVersion
from workers.stacked.node_results import NodeResults
from workers.stacked.width_tuning import WidthTuner

__all__: list[str] = []

MLP = WORKLOADS["digits-mlp"]


def results(folder: Path, *, code: str = "1") -> NodeResults:
    package = PackageVersion(name="p", version="1", code=code)
    return NodeResults(folder, workloads={"w": package}, optimizers={"o": package})


def once(given: NodeResults, text: str, *, workload: str = "w", optimizer: str = "o") -> str:
    return given.once(("width", 32, None, ("a", 1.5)), lambda: text, workload=workload, optimizer=optimizer)


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


def test_other_versions_have_results_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert once(results(tmp_path), "first") == once(results(tmp_path), "second") == "first"
    assert once(results(tmp_path, code="2"), "edited") == "edited"
    assert once(results(tmp_path), "other", optimizer="builtin") == "other"
    assert once(results(tmp_path), "another", workload="builtin") == "another"
    monkeypatch.setattr(torch, "__version__", "0")
    assert once(results(tmp_path), "other torch") == "other torch"


def test_workers_that_ask_at_once_compute_once(tmp_path: Path) -> None:
    computed: list[int] = []

    def compute() -> str:
        computed.append(threading.get_ident())
        time.sleep(0.05)
        return str(computed[-1])

    def ask(_: int) -> str:
        return results(tmp_path).once((), compute, workload="w", optimizer="o")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == len(computed) == 1


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    def fail() -> str:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        results(tmp_path).once(("width", 32, None, ("a", 1.5)), fail, workload="w", optimizer="o")
    assert once(results(tmp_path), "later") == "later"


def test_a_worker_that_cannot_use_the_folder_computes_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert [once(results(tmp_path / "file"), text) for text in ("one", "two")] == ["one", "two"]
