"""Nothing that a user can write is ever run.

No pickle, no eval and no loader of that kind stands in what is installed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
PACKAGES = ("adamp", "studies", "workers", "service")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
# Modules whose whole purpose is to make objects, and so run code, out of bytes.
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
# Where a checkpoint is read.
LOADS_CHECKPOINTS = "workers/checkpoints.py"


def dotted(node: ast.expr) -> str:
    """Return a name as it is written, `torch.load`; of anything else the last part that has one."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case _:
            return ""


def unsafe(path: Path) -> list[str]:
    """Return what a file does that could run code out of data."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                said = [f"imports {alias.name}" for alias in names if alias.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                said = [f"imports from {module}"]
            case ast.Call():
                said = list(unsafe_calls(node))
            case _:
                continue
        found += [f"{path.relative_to(ROOT)}:{node.lineno} {what}" for what in said]
    return found


def unsafe_calls(call: ast.Call) -> Iterator[str]:
    """Yield what is wrong with a call."""
    name, given = (
        dotted(call.func),
        {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)},
    )
    is_safe_loader = len(call.args) == 2 and dotted(call.args[1]) in {"yaml.SafeLoader", "_Loader"}
    if (
        name in CALLS
        or name in {"yaml.unsafe_load", "yaml.full_load"}
        or (name == "yaml.load" and not is_safe_loader)
    ):
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
def test_nothing_runs_what_it_reads(path: Path) -> None:
    assert unsafe(path) == []


def test_the_loader_of_yaml_is_a_safe_one() -> None:
    import yaml

    from service.cli import study_files

    assert issubclass(study_files._Loader, yaml.SafeLoader)


def test_a_checkpoint_is_read_in_one_place_as_weights_only() -> None:
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if "torch.load(" in path.read_text(encoding="utf-8")
    ]
    assert readers == [LOADS_CHECKPOINTS]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import yaml\nyaml.load('x', yaml.Loader)",
        "eval('1')",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
    ],
)
def test_what_would_run_code_is_found(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(unsafe(tmp_path / "bad.py")) == 1
