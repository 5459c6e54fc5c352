"""Folders with packages of the operator: what Python finds in them, and what it does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray.core.generated import common_pb2

from workers.local_ray import _InstalledCodeJob

__all__: list[str] = []

PRINT_WHAT_IS_FOUND = """
import json, sys
from importlib.metadata import entry_points
from workers.packages import package_folders, use_packages
use_packages([*package_folders(sys.argv[1]), "", "/nowhere/at/all"])
import own_optimizers, queue, secrets, psutil
points = [point.value for point in entry_points(group="tangent.optimizers")]
files = [module.__file__ for module in (own_optimizers, queue, secrets, psutil)]
print(json.dumps([points, files]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `pip install --target` leaves it, with modules that others have too."""
    (tmp_path / "own_optimizers.py").write_text("ENTRY = None")
    for name in ("queue", "secrets", "psutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('replaced')")
    information = tmp_path / "own_optimizers-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: own-optimizers\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tangent.optimizers]\nown = own_optimizers:ENTRY\n")
    return tmp_path


def test_modules_and_entry_points_are_found_but_replace_no_other_module(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_WHAT_IS_FOUND, f"{folder}:"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    points, (own, *others) = json.loads(done.stdout)
    assert "own_optimizers:ENTRY" in points
    assert own == str(folder / "own_optimizers.py")
    assert not [file for file in others if file.startswith(str(folder))]


def test_a_job_gives_workers_no_folder_of_its_driver() -> None:
    job = _InstalledCodeJob()
    # As Ray does while it connects.
    job._py_driver_sys_path.extend(["/start/folder"])
    # Its types are incomplete.
    messages: Any = common_pb2
    assert list(messages.JobConfig.FromString(job._serialize()).py_driver_sys_path) == []
