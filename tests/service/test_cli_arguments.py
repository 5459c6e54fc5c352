"""Values of options that are not valid: one line with the option, what was expected, what came and a hint."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ports import free_port
from typer.testing import CliRunner, Result

from service.cli.app import app
from service.client import Client
from service.settings import service_url

__all__: list[str] = []

Run = Callable[..., Result]


def tangent(*arguments: str, **environment: str | None) -> Result:
    cleared = dict.fromkeys(("TANGENT_URL", "TANGENT_PORT", "TANGENT_TOKEN"))
    return CliRunner(env={"COLUMNS": "200", **cleared, **environment}).invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "environment", "name", "words"),
    [
        (("list", "--state", "runing"), {}, "--state", ("did you mean 'running'?",)),
        (("trials", "x", "--state", "wating"), {}, "--state", ("did you mean 'waiting'?",)),
        (("trials", "x", "--sort", "nonsense"), {}, "--sort", ("created", "'nonsense'")),
        (("list", "--limit", "x"), {}, "--limit", ("whole number", "'x'")),
        (("list", "-n", "0"), {}, "--limit", ("at least 1",)),
        (("list", "--url", "foo"), {}, "--url", ("http://", "'foo'")),
        (("list", "--url", "foo"), {"TANGENT_URL": "http://127.0.0.1:9"}, "--url", ("'foo'",)),
        (("list",), {"TANGENT_URL": "foo"}, "TANGENT_URL", ("'foo'",)),
        (("serve", "--port", "99999"), {}, "--port", ("at most 65535",)),
        (("serve",), {"TANGENT_PORT": "x"}, "TANGENT_PORT", ("whole number",)),
        (("serve", "--root-path", "x"), {}, "--root-path", ("/tangent",)),
    ],
)
def test_an_invalid_value_is_reported_with_what_set_it(
    arguments: tuple[str, ...], environment: dict[str, str], name: str, words: tuple[str, ...]
) -> None:
    result = tangent(*arguments, **environment)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {name}: expected ")
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []


def test_a_missing_value_shows_the_usage() -> None:
    assert "Usage: tangent submit" in tangent("submit").stderr


def test_standard_input_is_named_when_it_is_only_checked(run: Run, tmp_path: Path) -> None:
    text = "workload: digits-mlp\narms: [adamp]\nbudget: {trials_per_arm: 1, epochs: 1}\n"
    text += "confirmation: {seeds: 0}"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    for file, name in (("-", "standard input"), (str(tmp_path / "s.yaml"), f"{tmp_path}/s.yaml")):
        result = run("submit", file, "--validate-only", input=text)
        assert result.stdout.startswith(f"{name} is valid: 1 arm, 1 trial, 1 epoch, ")


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "/", ""])
def test_the_url_of_the_api_is_the_url_of_the_service(live: str, suffix: str) -> None:
    with Client(live + suffix) as client:
        assert client.health().status == "up"
    shown = tangent("list", TANGENT_URL=live + suffix)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert service_url("https://lab.example/tangent/v1/") == "https://lab.example/tangent"
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"{nowhere};" in tangent("list", "--url", f"{nowhere}/v1").stderr
