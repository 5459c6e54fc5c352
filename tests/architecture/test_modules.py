"""How modules present themselves: exports, docstrings, length and names."""

import ast
import importlib
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
PACKAGES = ("adamp", "studies", "workers", "service", "tangent")
MAX_LINES = 550
# Names that say nothing about the contents, so that everything ends up there.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "managers", "misc"}

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Alembic runs migrations by path; nothing imports them.
MODULES = [path for path in FILES if "migrations" not in path.parts]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exported_names(path: Path) -> list[str] | None:
    """Return the literal `__all__` of a file, or None where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
            case _:
                continue
    return None


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(relative(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_ship_their_types(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_file_has_a_docstring(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{relative(path)} has no module docstring"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_exported_names_exist_and_are_unique(path: Path) -> None:
    names = exported_names(path)
    assert names is not None, f"{relative(path)} has no __all__"
    assert len(names) == len(set(names)), f"{relative(path)} exports a name twice"
    module = importlib.import_module(module_name(path))
    missing = [name for name in names if not hasattr(module, name)]
    assert not missing, f"{relative(path)} exports {missing}, which it does not define"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{relative(path)} has {lines} lines: split it by subject"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_names_say_what_is_inside(path: Path) -> None:
    names = {part.removesuffix(".py").strip("_") for part in path.relative_to(ROOT).parts}
    assert not names & EMPTY_NAMES, f"{relative(path)} has a name that says nothing: name it for what it does"
