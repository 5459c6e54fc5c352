"""Plain English: keeps the worst patterns of stilted prose out of code, pages and documents."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
# Each pattern and what to write instead.
STILTED = {
    (
        r"(?<!there\s)\b(?:is|are|was|were) no "
        r"(?!longer\b|more\b|one\b|need\b|way\b|such\b|other\b|different\b|farther\b|fewer\b|less\b|further\b|later\b|larger\b|smaller\b|better\b|worse\b)"
    ): "'is not a valid URL', not 'is no URL'",
    r"\bstands? (?:there|twice|beside)\b": "'appears twice', not 'stands there twice'",
    r"\bwho(?:so|m)?ever\b": "'the user' or 'the caller', not 'whoever'",
    r"(?<![\"'/])\bnobody\b(?![\"'@])": "say who or what does not: 'no worker', 'no user'",
    r"\b(?:is|are|was|were) told\b": "'receives' or 'is notified', not 'is told'",
    r"\bin vain\b": "say what failed",
    r"\bof (?:its|their) own accord\b": "'by itself'",
    r"\bso many\b": "give the number, or 'this many'",
    r"\b1\x20(?:arms|trials|studies|requests|seeds|epochs|faults|errors)\b": "'1 arm', not '1 arms'",
}
SUFFIXES = {".py", ".md", ".html", ".yml", ".yaml", ".toml"}
# Not ours, or lists of such phrases.
LEFT_OUT = ("tests/architecture/test_prose.py", "docs/images/", "LICENSE")


def tracked() -> list[Path]:
    """Return the files of the project that people read."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and not name.startswith(LEFT_OUT)]
    return [ROOT / name for name in names if Path(name).suffix in SUFFIXES and (ROOT / name).is_file()]


def stilted(text: str, pattern: str) -> list[str]:
    """Return the lines where a pattern matches, with their numbers; a sentence may span two lines."""
    joined = re.sub(r"\n[ \t]*(?:#|//|\*|>)? *", "\n", text)
    found: list[str] = []
    for match in re.finditer(pattern.replace(" ", r"\s+"), joined, flags=re.IGNORECASE):
        number = joined.count("\n", 0, match.start()) + 1
        found.append(f"{number}: {joined.splitlines()[number - 1].strip()}")
    return found


@pytest.mark.parametrize(("pattern", "advice"), STILTED.items(), ids=list(STILTED.values()))
def test_prose_reads_like_english(pattern: str, advice: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in tracked()
        for line in stilted(path.read_text(encoding="utf-8"), pattern)
    ]
    assert not found, f"write {advice}:\n" + "\n".join(found)


def raises(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function raises and returns nothing: its docstring should say `Raise … if …`."""
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    returns_value = any(isinstance(node, ast.Return) and node.value is not None for node in nodes)
    yields = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes)
    return any(isinstance(node, ast.Raise) for node in nodes) and not returns_value and not yields


def test_a_function_that_raises_says_so() -> None:
    misleading: list[str] = []
    for path in tracked():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not raises(node):
                continue
            if (ast.get_docstring(node) or "").startswith("Return "):
                misleading.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not misleading, f"write 'Raise X if …', not 'Return when …': {misleading}"


@pytest.mark.parametrize(
    ("text", "pattern_is_found"),
    [
        ("this is no URL", True),
        ("this\n    # is no\n    # URL", True),
        ("there is no URL", False),
        ("it is no longer there", False),
        ("this is not a URL", False),
    ],
)
def test_the_check_finds_what_it_looks_for(text: str, pattern_is_found: bool) -> None:
    assert bool(stilted(text, next(iter(STILTED)))) is pattern_is_found
