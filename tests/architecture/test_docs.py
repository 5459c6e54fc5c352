"""The documents match the code: the README's first commands, and every command of `tangent`."""

import importlib
import re
from pathlib import Path

import pytest
import typer

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
FIRST_SCREEN = 40


def commands() -> list[str]:
    """Return every command of the CLI as it is typed, groups before their members.

    `tangent`, `tangent token`, `tangent token add`.
    """
    apps = [
        value
        for value in vars(importlib.import_module("service.__main__")).values()
        if isinstance(value, typer.Typer)
    ]
    assert len(apps) == 1, "service.__main__ holds one Typer application, the command `tangent`"

    def walk(command: object, typed: str) -> list[str]:
        members: dict[str, object] = getattr(command, "commands", {})
        return [
            typed,
            *(
                name
                for key, member in members.items()
                if not getattr(member, "hidden", False)
                for name in walk(member, f"{typed} {key}")
            ),
        ]

    return walk(typer.main.get_command(apps[0]), "tangent")


@pytest.mark.parametrize("promise", ["make demo", "make test"])
def test_readme_opens_with_what_to_run(promise: str) -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN]
    assert any(promise in line for line in first), (
        f"README.md names '{promise}' in none of its first {FIRST_SCREEN} lines"
    )


def test_every_make_target_that_readme_names_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    named = set(
        re.findall(
            r"`?\bmake ([a-z-]+)", "\n".join(code_of((ROOT / "README.md").read_text(encoding="utf-8")))
        )
    )
    assert named <= targets, f"README.md names make targets that do not exist: {sorted(named - targets)}"


def code_of(markdown: str) -> list[str]:
    """Return the fenced blocks and the inline code of a Markdown text."""
    fence = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)
    return fence.findall(markdown) + re.findall(r"`([^`\n]+)`", fence.sub("", markdown))


def test_every_command_is_in_the_docs() -> None:
    described = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    missing = [command for command in commands() if not re.search(rf"\b{re.escape(command)}\b", described)]
    assert not missing, f"docs/cli.md does not describe {missing}"
