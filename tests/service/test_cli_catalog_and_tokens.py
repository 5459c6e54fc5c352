"""The catalogue, tokens and the audit log from the command line, and what all commands have in common."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli.app import app
from service.client import Client
from service.settings import ServiceSettings
from studies.actors import Actor
from studies.catalog import Catalog
from studies.spec import parse_spec
from studies.store import Store
from studies.views import Quotas

__all__: list[str] = []


def tangent(*arguments: str, **environment: str) -> Result:
    """Run a command in an environment without other settings of Tangent."""
    result = CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def guarded(live: str, store: Store) -> tuple[str, str]:
    """The URL of a service that requires a token, and a viewer's token."""
    return live, store.create_token("reader", role="viewer")


def test_optimizers_and_workloads_are_listed_and_shown(live: str, catalog: Catalog) -> None:
    listed = tangent("optimizers", "--url", live).stdout
    assert [line.split()[0] for line in listed.splitlines()[1:]] == sorted(catalog.optimizers)
    one = tangent("optimizers", "adamp", "--url", live).stdout
    for part in (
        "AdamP (adamp)",
        "wd_ratio",
        "lr * weight_decay < 1 - beta1",
        "at delta = 0 it is the same algorithm as adamw",
        "betas: ",
    ):
        assert part in one
    assert "accuracy, maximize" in tangent("workloads", "--url", live).stdout
    assert "1,000 train, 300 validation, 300 test" in tangent("workloads", "digits-mlp", "--url", live).stdout


def test_cards_as_json_equal_those_of_the_api(live: str, catalog: Catalog) -> None:
    assert json.loads(tangent("optimizers", "adamp", "--json", "--url", live).stdout) == catalog.optimizers[
        "adamp"
    ].model_dump(mode="json")
    assert [
        card["name"] for card in json.loads(tangent("workloads", "--json", "--url", live).stdout)
    ] == sorted(catalog.workloads)


def test_an_empty_catalogue_says_how_to_fill_it(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("optimizers", "workloads"):
        monkeypatch.setattr(Client, command, lambda _client: {})
        assert "tangent up" in tangent(command, "--url", live).stdout
        assert json.loads(tangent(command, "--json", "--url", live).stdout) == []


def test_an_unknown_name_gets_a_suggestion(live: str) -> None:
    result = tangent("optimizers", "adampp", "--url", live)
    assert (result.exit_code, result.stderr) == (
        2,
        "error: there is no optimizer 'adampp'; did you mean 'adamp'?\n",
    )
    assert "known: char-lm, digits-mlp" in tangent("workloads", "imagenet", "--url", live).stderr


def test_an_unreachable_service_is_one_line_with_advice() -> None:
    result = tangent("list", "--url", "http://127.0.0.1:9")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: no service answers at http://127.0.0.1:9; start one with `tangent up`\n",
    )


def test_an_invalid_url_is_bad_input() -> None:
    result = tangent("list", TANGENT_URL="localhost:8780")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: TANGENT_URL: expected a URL that starts with http:// or https://")


def test_a_token_comes_from_the_option_or_the_environment(
    guarded: tuple[str, str], tmp_path: Path, body: dict[str, Any]
) -> None:
    url, secret = guarded
    refused = tangent("list", "--url", url)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: this service needs an API token")
    assert "TANGENT_TOKEN" in refused.stderr
    assert "Bearer" not in refused.stderr
    assert tangent("list", "--url", url, "--token", secret).exit_code == 0
    assert tangent("list", TANGENT_URL=url, TANGENT_TOKEN=secret).exit_code == 0
    (tmp_path / "study.json").write_text(json.dumps(body))
    viewer = tangent("submit", str(tmp_path / "study.json"), "--url", url, "--token", secret)
    assert (viewer.exit_code, viewer.stderr) == (
        1,
        (
            "error: token 'reader' has the role viewer, but this needs the role submitter or higher; use "
            "another token, or ask an admin\n"
        ),
    )


def test_tokens_are_created_listed_and_revoked_in_the_database(
    settings: ServiceSettings, store: Store
) -> None:
    home = ("--home", str(settings.home))
    assert "There are no tokens" in tangent("token", "list", *home).stdout
    made = tangent("token", "create", "alice", "--role", "admin", *home)
    secret = made.stdout.strip()
    found = store.authenticate(secret)
    assert found is not None
    assert (found.name, found.role) == ("alice", "admin")
    assert secret not in made.stderr
    listed = tangent("token", "list", "--database", settings.database_url).stdout
    assert "alice" in listed
    assert secret not in listed
    assert tangent("token", "revoke", "alice", *home).stdout == "alice is revoked\n"
    assert store.authenticate(secret) is None
    assert "revoked" in tangent("token", "list", *home).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("create", "reader"), 2, "a token named 'reader' already exists"),
        (("create", " "), 2, "1 to 64 printable characters"),
        (("create", "x", "--role", "king"), 2, "king"),
        (("revoke", "nobody"), 1, "there is no token 'nobody'"),
    ],
)
def test_an_invalid_token_command_says_why(
    settings: ServiceSettings, store: Store, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    store.create_token("reader", role="viewer")
    result = tangent("token", *arguments, TANGENT_HOME=str(settings.home))
    assert result.exit_code == code
    assert expected in result.stderr


def test_an_unusable_database_is_a_one_line_error() -> None:
    result = tangent("token", "list", "--database", "mysql://x")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "slow"),
    [
        (
            ["-m", "service", "--help"],
            {"fastapi", "httpx", "jinja2", "numpy", "pydantic", "sqlalchemy", "yaml"},
        ),
        (
            ["-m", "service", "list", "--url", "http://127.0.0.1:1"],
            {"fastapi", "jinja2", "numpy", "optuna", "sqlalchemy"},
        ),
        (["-c", "import service.serve"], {"alembic", "optuna", "ray", "scipy", "torch"}),
    ],
)
def test_commands_do_not_import_slow_libraries(arguments: list[str], slow: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=False
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"service", "studies"} < imported
    assert not imported & slow


def test_every_command_has_help() -> None:
    for words in (
        "up",
        "submit",
        "watch",
        "list",
        "show",
        "best",
        "trials",
        "pause",
        "resume",
        "stop",
        "cancel",
        "optimizers",
        "workloads",
        "version",
    ):
        result = tangent(words, "--help")
        assert result.exit_code == 0
        assert words in result.stdout


def test_version_names_tangent_and_python() -> None:
    assert tangent("version").stdout.startswith("tangent ")


def test_an_unknown_command_or_option_is_bad_input() -> None:
    assert tangent("submitt").exit_code == 2
    assert tangent("list", "--colour").exit_code == 2


def test_quotas_are_set_changed_and_shown(settings: ServiceSettings, store: Store) -> None:
    home = ("--home", str(settings.home))
    tangent("token", "create", "alice", "--max-studies", "3", "--max-gpu-hours", "10.5", *home)
    assert store.token("alice").quotas == Quotas(max_studies=3, max_gpu_hours=10.5)
    listed = tangent("token", "list", *home).stdout
    assert "0 of 3" in listed
    assert "0 of 10.5" in listed
    changed = tangent("token", "quota", "alice", "--max-trials", "200", *home)
    assert changed.stdout == "quotas of alice: 200 trials per study\n"
    assert store.token("alice").quotas == Quotas(max_trials=200)
    assert tangent("token", "quota", "alice", *home).stdout == "alice has no quotas\n"
    assert json.loads(tangent("token", "list", "--json", *home).stdout)[0]["open_studies"] == 0
    assert tangent("token", "quota", "nobody", *home).exit_code == 1
    assert tangent("token", "quota", "alice", "--max-studies", "-1", *home).exit_code == 2


def test_only_admins_see_the_audit_log(live: str, store: Store) -> None:
    root, reader = store.create_token("root", role="admin"), store.create_token("reader", role="viewer")
    store.submit(
        parse_spec({"workload": "digits-mlp", "arms": ["adamp"], "budget": {"trials_per_arm": 1}}),
        by=Actor("ada", "submitter", "10.0.0.1"),
    )
    study = store.studies().items[0].id
    shown = tangent("audit", "--url", live, "--token", root).stdout
    assert [line.split()[2:4] for line in shown.splitlines()[1:2]] == [["ada", "submit"]]
    assert "10.0.0.1" in shown
    assert "token.create" in shown
    found = json.loads(tangent("audit", "--study", "last", "--json", "--url", live, "--token", root).stdout)
    assert [(entry["actor"], entry["verb"], entry["study_id"]) for entry in found] == [
        ("ada", "submit", study)
    ]
    assert len(json.loads(tangent("audit", "-n", "2", "--json", "--url", live, "--token", root).stdout)) == 2
    assert (
        json.loads(tangent("audit", "--who", "nobody", "--json", "--url", live, "--token", root).stdout) == []
    )
    refused = tangent("audit", "--url", live, "--token", reader)
    assert (refused.exit_code, refused.stderr) == (
        1,
        (
            "error: token 'reader' has the role viewer, but this needs the role admin or higher; use "
            "another token, or ask an admin\n"
        ),
    )


def test_changes_in_the_database_are_audited_with_user_and_host(
    settings: ServiceSettings, store: Store
) -> None:
    tangent("token", "create", "alice", "--home", str(settings.home))
    (entry,) = store.audit().items
    assert (entry.actor, entry.verb, entry.subject) == (None, "token.create", "alice")
    assert "@" in (entry.address or "")
