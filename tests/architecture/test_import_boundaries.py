"""Import boundaries between packages: imports as written (import-linter), and modules loaded at run time."""

import subprocess
import sys
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]

# What importing a module must not load, directly or indirectly. Lazy imports and re-exports show only at
# run time.
LOADS_NOTHING_OF = {
    "adamp": ("ray", "optuna", "sqlalchemy", "fastapi", "pydantic", "studies", "workers", "service"),
    "studies.spec": ("torch", "ray", "fastapi", "httpx", "sqlalchemy", "optuna"),
    "studies.statistics": ("torch", "ray", "fastapi", "sqlalchemy", "optuna"),
    "studies.store": ("torch", "ray", "fastapi"),
    "workers.optimizers": ("ray", "optuna", "sqlalchemy", "fastapi", "service"),
    "workers.workloads": ("ray", "optuna", "sqlalchemy", "fastapi", "service"),
    "workers.training": ("ray", "optuna", "sqlalchemy", "alembic", "fastapi", "service"),
    "service.app": ("torch", "ray", "adamp", "workers"),
    "service.client": ("torch", "ray", "sqlalchemy", "optuna", "fastapi"),
}


def test_no_import_crosses_a_boundary() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", LOADS_NOTHING_OF)
def test_importing_a_module_loads_nothing_it_must_not(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({LOADS_NOTHING_OF[module]!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"importing {module} loads {done.stdout}"
