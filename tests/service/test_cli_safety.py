"""Hostile text cannot harm the terminal, the file system or the URL of a request."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from service.cli.app import app
from service.cli.errors import BAD_INPUT, FAILED
from service.cli.fitted_table import FittedTable
from service.cli.output import configure_streams, console, print_json, print_raw
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
def test_user_text_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    made = FittedTable("name")
    made.add_row(f"a{hostile}b")
    console().print(made)
    console().print(f"{hostile}c", style="bold", soft_wrap=True)
    console().print(Text(f"{hostile}d", style="dim"))
    print_raw(f"{hostile}e")
    assert not set(hostile[:1]) & set(written.getvalue())
    assert "a" in written.getvalue()


def test_control_characters_in_json_are_escaped_and_the_data_is_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = {"name": "a\x1b[2J\x9b\N{RIGHT-TO-LEFT OVERRIDE}b\nc 比較"}
    written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", written)
    print_json(value)
    written.seek(0)
    text = written.read()
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
    assert "比較" in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_characters_that_the_terminal_lacks_are_replaced(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", written)
    configure_streams()
    print_raw("比較 🚀: −0.152, 2×10⁻⁵, lr ≥ 0.1")
    print_json({"name": "比較 🚀"})
    written.seek(0)
    line, *document = written.read().splitlines()
    assert line.replace("×", "x") == "?? ?: -0.152, 2x10^-5, lr >= 0.1"
    assert json.loads("".join(document)) == {"name": "比較 🚀"}


def test_text_in_other_scripts_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    console().print("שלום 日本語 👩\u200d🔬 é\nnext")
    assert written.getvalue() == "שלום 日本語 👩\u200d🔬 é\nnext\n"


def test_a_special_file_is_never_replaced(
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


def test_errors_name_standard_input() -> None:
    refused = run("extend", "abcdefgh", "--file", "-", stdin="[1]")
    assert (refused.exit_code, refused.stderr) == (
        BAD_INPUT,
        "error: standard input: expected an object, got a list\n",
    )


def test_infinity_in_yaml_is_rejected() -> None:
    refused = run("clone", "abcdefgh", "--file", "-", stdin="seed: .inf")
    assert refused.exit_code == BAD_INPUT
    assert refused.stderr.startswith("error: standard input: /seed: line 1: ")


@pytest.mark.parametrize("token", ["ü", "a\nb", "\x00"])
def test_an_invalid_token_is_not_reported_as_a_bad_url(token: str) -> None:
    refused = run("verdict", "abcdefgh", "--token", token)
    assert refused.exit_code == FAILED
    assert refused.stderr.startswith("error: the API token ")


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_dots_in_a_name_do_not_change_the_url_path(name: str, live: str) -> None:
    assert "." not in path_segment(name)
    refused = run("suite", name, url=live)
    assert (refused.exit_code, "there is no suite" in refused.stderr) == (FAILED, True)
