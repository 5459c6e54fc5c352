"""What a machine lacks to train a workload is found and reported, not stumbled over."""

from pathlib import Path

import pytest
import torch

from studies.catalog import WorkloadCard
from workers.catalog import installed_catalog
from workers.workload_check import check_workload
from workers.workloads.digits import DigitsMlp
from workers.workloads.requirements import data_folder, missing_extra, missing_files

__all__: list[str] = []


class Elsewhere(DigitsMlp):
    """A workload whose data are missing."""

    card = WorkloadCard(name="elsewhere", metric="accuracy", direction="maximize", epochs=1)

    def missing(self) -> str | None:
        return missing_files(data_folder("elsewhere"), "the files of the archive", "train", "val")


def test_files_are_missing_until_they_are_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    folder = data_folder("elsewhere")
    assert folder == tmp_path / "elsewhere"
    (folder / "train").mkdir(parents=True)
    missing = Elsewhere().missing()
    assert missing is not None
    assert missing.startswith(f"expected val in {folder}; put the files of the archive there")
    (folder / "val").touch()
    assert Elsewhere().missing() is None


def test_an_extra_is_missing_if_one_of_its_modules_is() -> None:
    assert missing_extra("workers", "torch", "sklearn") is None
    missing = missing_extra("vision", "torch", "no_such_module")
    assert missing is not None
    assert missing.startswith("expected the package no_such_module; install with")
    assert "tangent-studies[vision]" in missing


def test_the_check_of_a_workload_ends_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    [result] = check_workload(Elsewhere(), device=torch.device("cpu"))
    assert (result.check, result.status, result.sentence) == ("requirements", "error", Elsewhere().missing())


def test_the_catalogue_has_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    monkeypatch.setattr(DigitsMlp, "missing", Elsewhere.missing)
    assert installed_catalog().workloads["digits-mlp"].missing == Elsewhere().missing()
    monkeypatch.setattr(DigitsMlp, "missing", lambda _self: 1 / 0)
    assert "raised ZeroDivisionError" in installed_catalog().workloads["digits-mlp"].missing
