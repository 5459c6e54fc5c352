"""User input is never executed: the installed code uses no pickle, no eval and no unsafe loader."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
PACKAGES = ("adamp", "studies", "workers", "service", "tangent")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
# Modules that create objects from bytes, and so can run code.
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "pandas",
}
CALLS = {"eval", "exec", "compile", "__import__"}
# The only modules that read checkpoints and weights.
LOADS_CHECKPOINTS = {"workers/checkpoints.py", "workers/weights.py"}


def dotted(node: ast.expr) -> str:
    """Return the dotted name of an expression, such as `torch.load`, as far as it has one."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case _:
            return ""


def unsafe(path: Path) -> list[str]:
    """Return every statement of a file that could run code from data."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                reasons = [
                    f"imports {alias.name}" for alias in names if alias.name.partition(".")[0] in MODULES
                ]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                reasons = [f"imports from {module}"]
            case ast.Call():
                reasons = list(unsafe_calls(node))
            case _:
                continue
        found += [f"{path.relative_to(ROOT)}:{node.lineno} {reason}" for reason in reasons]
    return found


def unsafe_calls(call: ast.Call) -> Iterator[str]:
    """Yield every reason why a call is unsafe."""
    name = dotted(call.func)
    given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
    # Even a safe loader makes gigabytes of a short text; service/strict_yaml.py uses the parser alone.
    if name in CALLS or (name.startswith("yaml.") and name.endswith(("load", "load_all"))):
        yield f"calls {name}"
    if (
        name in {"torch.load", "torch.jit.load", "torch.package.PackageImporter"}
        and given.get("weights_only") is not True
    ):
        yield f"calls {name} without weights_only=True"
    if name in {"torch.serialization.add_safe_globals", "torch.serialization.safe_globals"}:
        yield "lets a checkpoint name classes"
    if given.get("allow_pickle") or given.get("shell"):
        yield f"calls {name} with {'allow_pickle' if given.get('allow_pickle') else 'shell'}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_runs_code_from_data(path: Path) -> None:
    assert unsafe(path) == []


def test_checkpoints_are_read_in_two_places_as_weights_only() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if "= torch.load(" in path.read_text(encoding="utf-8")
    }
    assert readers == LOADS_CHECKPOINTS


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import yaml\nyaml.safe_load('x')",
        "eval('1')",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
    ],
)
def test_what_would_run_code_is_found(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(unsafe(tmp_path / "bad.py")) == 1
