"""Programs of Tangent that are started in a folder with modules named like others that they import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
MODULES = ("secrets", "queue", "pickle", "socket", "selectors", "logging", "optuna", "studies", "ray")
WITH_A_POOL = """
import sys
from service.analysis_pool import ProcessAnalysisPool
from studies.store import Store
if __name__ == "__main__":
    Store.open(sys.argv[1]).close()
    pool = ProcessAnalysisPool(sys.argv[1])
    print(pool.run(Store.studies).value.total)
    pool.close()
"""


@pytest.fixture
def start_folder(tmp_path: Path) -> Path:
    """A folder whose modules leave a file if anything imports them."""
    folder = tmp_path / "start"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            "import pathlib; pathlib.Path(__file__).with_suffix('.executed').touch()"
        )
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder and return what it printed, after checking that no module there was imported."""
    silent = {
        name: value for name, value in os.environ.items() if not name.startswith(("TANGENT_", "PYTHON"))
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**silent, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("*.executed")) == []
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [("service", "--help"), ("workers", "--help"), ("workers.node", "--help")]
)
def test_a_module_that_is_started_by_name_imports_nothing_from_the_start_folder(
    start_folder: Path, arguments: tuple[str, ...]
) -> None:
    assert "usage" in run(start_folder, "-m", *arguments).lower()


def test_the_processes_of_an_analysis_pool_import_nothing_from_the_start_folder(
    start_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(WITH_A_POOL)
    printed = run(start_folder, str(tmp_path / "program.py"), f"sqlite:///{tmp_path}/tangent.db")
    assert printed == "0\n"
