"""Versions of packages that add workloads: they follow the code, and a pack is trained with one only."""

import json
from pathlib import Path

import pytest

from studies.catalog import PackageVersion
from studies.space import Parameters
from studies.training_settings import TrainingSettings
from workers.catalog import installed_catalog
from workers.pack_protocol import Member, Pack
from workers.package_versions import describe_packages, package_versions, version_difference
from workers.trainable import PackTrainable
from workers.workload_errors import WorkloadFault

__all__: list[str] = []

ADAMW: Parameters = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}

CODE = """
from workers.workloads.toys import Antipode2d

OWN = type("Own", (Antipode2d,), {"card": Antipode2d.card.model_copy(update={"name": "own"})})
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of an installed package with one workload."""
    (tmp_path / "own_versions.py").write_text(CODE)
    metadata = tmp_path / "own_versions-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-versions\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tangent.workloads]\nown = own_versions:OWN\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "own_versions.py"


def test_a_package_that_is_edited_has_another_version(package: Path) -> None:
    before = package_versions()["own-versions"]
    assert before == package_versions()["own-versions"]
    package.write_text(CODE + "\n# edited\n")
    after = package_versions()["own-versions"]
    assert (before.name, before.version) == (after.name, after.version) == ("own-versions", "1.0")
    assert before.code != after.code
    assert f"own-versions 1.0 (code {after.code})" in describe_packages()


@pytest.mark.usefixtures("package")
def test_cards_name_the_package_that_adds_them() -> None:
    catalog = installed_catalog()
    assert catalog.workloads["own"].package == package_versions()["own-versions"]
    assert catalog.workloads["digits-mlp"].package is None
    assert catalog.optimizers["adamp"].package is None


def test_another_version_is_a_difference_and_a_built_in_workload_has_none() -> None:
    here, there = (PackageVersion(name="moons", version="1.0", code=code) for code in ("aa", "bb"))
    expected = {"moons": here}
    assert version_difference("workload 'moons'", here, expected) is None
    assert version_difference("workload 'digits-mlp'", None, expected) is None
    assert version_difference("workload 'stars'", here, {}) is None
    difference = version_difference("workload 'moons'", there, expected)
    assert difference is not None
    assert str(here) in difference
    assert str(there) in difference


@pytest.mark.usefixtures("package")
def test_a_worker_with_another_version_trains_no_pack() -> None:
    other = package_versions()["own-versions"].model_copy(update={"code": "another"})
    member = Member(trial_id="s.adamw.0", attempt=1, parameters=ADAMW, seed=3)
    pack = Pack(
        pack_id="p",
        workload="own",
        optimizer="adamw",
        members=(member,),
        from_epoch=0,
        to_epoch=1,
        epochs=1,
        training=TrainingSettings(batch_size=1),
        maximize=False,
    )
    config = {"pack": pack.model_dump_json(), "cpus": 1, "gpus": 0}
    assert "report" in PackTrainable(config).step()
    refused = PackTrainable({**config, "versions": json.dumps([other.model_dump()])}).step()
    fault = WorkloadFault(**json.loads(refused["fault"]))
    assert str(other) in fault.reason
    assert fault.is_for_all
