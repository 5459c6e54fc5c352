"""The command line hands nothing hostile on: not to the terminal, not to the file system, not to the line."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli.app import app
from service.cli.errors import BAD_INPUT, FAILED
from service.cli.output import console, table
from service.transport import path_segment

__all__: list[str] = []


def run(*arguments: str, stdin: str | None = None, url: str = "http://127.0.0.1:1") -> Result:
    result = CliRunner(env={"TANGENT_URL": url, "COLUMNS": "200"}).invoke(app, list(arguments), input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b2J",
        "\r",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "\N{RIGHT-TO-LEFT ISOLATE}",
    ],
)
def test_no_text_is_a_command_to_the_terminal(monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    made = table(None, "name")
    made.add_row(f"a{hostile}b")
    console().print(made)
    console().print(f"{hostile}c", style="bold", soft_wrap=True)
    assert not set(hostile[:1]) & set(written.getvalue())
    assert "a" in written.getvalue()


def test_text_of_other_scripts_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    console().print("שלום 日本語 👩\u200d🔬 é\nnext")
    assert written.getvalue() == "שלום 日本語 👩\u200d🔬 é\nnext\n"


def test_a_device_is_never_replaced_by_a_file(
    live: str, play: Callable[..., str], body: dict[str, Any], tmp_path: Path
) -> None:
    study = play(body)
    folder = tmp_path / "here"
    folder.mkdir()
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    for command in ("report", "export"):
        refused = run(command, study, "-o", str(pipe), "--force", url=live)
        assert (refused.exit_code, refused.stderr) == (
            BAD_INPUT,
            f"error: {pipe} is not a regular file; choose another name with --output\n",
        )
        assert pipe.is_fifo()
        assert list(folder.iterdir()) == [pipe]


def test_what_came_by_standard_input_is_called_so() -> None:
    refused = run("extend", "abcdefgh", "--file", "-", stdin="[1]")
    assert (refused.exit_code, refused.stderr) == (
        BAD_INPUT,
        "error: standard input: expected an object, got list\n",
    )


def test_infinity_in_yaml_is_refused_in_words() -> None:
    refused = run("clone", "abcdefgh", "--file", "-", stdin="seed: .inf")
    assert refused.exit_code == BAD_INPUT
    assert refused.stderr.startswith("error: standard input: Infinity ")


@pytest.mark.parametrize("token", ["ü", "a\nb", "\x00"])
def test_a_token_that_cannot_be_one_is_not_blamed_on_the_address(token: str) -> None:
    refused = run("verdict", "abcdefgh", "--token", token)
    assert refused.exit_code == FAILED
    assert "the API token holds what no token can" in refused.stderr


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_dots_do_not_lead_up_the_path(name: str, live: str) -> None:
    assert "." not in path_segment(name)
    refused = run("suite", name, url=live)
    assert (refused.exit_code, "there is no suite" in refused.stderr) == (FAILED, True)
