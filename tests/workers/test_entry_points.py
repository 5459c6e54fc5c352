"""Entry points of installed packages; a package is simulated by a metadata folder on the path."""

import logging
import sys
from pathlib import Path

import pytest

from studies.catalog import BrokenPackage
from workers.catalog import installed_catalog
from workers.entry_points import load_entries
from workers.workloads import TensorWorkload, load_workloads

__all__: list[str] = []

MODULE = """
from workers.workloads.toys import Antipode2d, Rosenbrock3d


def named(toy, name):
    return type("Toy", (toy,), {"card": toy.card.model_copy(update={"name": name})})


OneClass = named(Antipode2d, "one-class")
one_instance = named(Antipode2d, "one-instance")()
several = [named(Antipode2d, "first-of-two")(), named(Rosenbrock3d, "second-of-two")()]
clash = named(Antipode2d, "digits-cnn")()
number = 3


def exits():
    raise SystemExit("no licence")
"""


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    (tmp_path / "plugin_for_tests.py").write_text(MODULE)
    metadata = tmp_path / "plugin_for_tests-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-for-tests\nVersion: 1.0\n")
    lines = [
        "[tangent.workloads]",
        *(f"{name} = plugin_for_tests:{target}" for name, target in points.items()),
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)


def test_an_entry_point_may_name_a_class_an_instance_or_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_workloads()
    install(tmp_path, monkeypatch, a="OneClass", b="one_instance", c="several")
    assert list(load_workloads()) == [*ours, "one-class", "one-instance", "first-of-two", "second-of-two"]


@pytest.mark.parametrize(
    ("target", "why"),
    [("number", "instance of TensorWorkload"), ("exits", "no licence"), ("missing", "missing")],
)
def test_a_broken_entry_point_is_named_in_a_warning_and_the_others_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, target: str, why: str
) -> None:
    install(tmp_path, monkeypatch, broken=target, good="OneClass")
    assert [loaded.entry.card.name for loaded in load_entries("tangent.workloads", TensorWorkload)] == [
        "one-class"
    ]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"broken = plugin_for_tests:{target}" in record.getMessage()
    assert why in record.getMessage()


def test_a_package_cannot_replace_one_of_our_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = load_workloads()["digits-cnn"]
    install(tmp_path, monkeypatch, clash="clash")
    assert type(load_workloads()["digits-cnn"]) is type(ours)
    assert "already has the name 'digits-cnn'" in caplog.text


def test_a_package_that_cannot_be_imported_is_in_the_catalogue_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, good="OneClass")
    (tmp_path / "plugin_for_tests.py").write_text("import a_module_that_is_not_installed")
    monkeypatch.delitem(sys.modules, "plugin_for_tests", raising=False)
    catalog = installed_catalog()
    assert catalog.broken == (
        BrokenPackage(
            kind="workload",
            package="plugin-for-tests 1.0",
            entry_point="good = plugin_for_tests:OneClass",
            error="ModuleNotFoundError: No module named 'a_module_that_is_not_installed'",
        ),
    )
    assert "one-class" not in catalog.workloads
    assert "digits-cnn" in catalog.workloads
