"""The dispatcher's settings."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.settings import DispatcherSettings, describe_invalid_setting

__all__: list[str] = []


@pytest.mark.parametrize("value", ["json", "JSON"])
def test_the_dispatcher_reads_the_log_format_as_the_service_does(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TANGENT_LOG_FORMAT", value)
    assert DispatcherSettings().log_format == "json"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TANGENT_PACKAGES", "packages", "expected absolute paths of folders"),
        ("TANGENT_PACKAGES", "/nowhere/packages", "expected a folder at /nowhere/packages"),
        ("TANGENT_TRIAL_ENVIRONMENT", "HF_TOKEN,TANGENT_TOKEN", "TANGENT_TOKEN holds a credential"),
        ("TANGENT_TRIAL_ENVIRONMENT", "HF TOKEN", "expected names of variables"),
    ],
)
def test_an_invalid_list_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as refused:
        DispatcherSettings()
    assert describe_invalid_setting(refused.value).startswith(f"{variable}: ")
    assert reason in describe_invalid_setting(refused.value)


def test_the_source_of_a_package_is_refused_until_it_is_installed_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("TANGENT_PACKAGES", str(tmp_path))
    with pytest.raises(ValidationError) as refused:
        DispatcherSettings()
    assert f"--target FOLDER {tmp_path}" in describe_invalid_setting(refused.value)
    (tmp_path / "own.egg-info").mkdir()
    assert DispatcherSettings().packages == (str(tmp_path),)


def test_lists_are_split_and_paths_are_literal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "a%2Fb?c#d"
    home.mkdir()
    monkeypatch.setenv("TANGENT_HOME", str(home))
    monkeypatch.setenv("TANGENT_PACKAGES", f"{home}:{tmp_path}")
    monkeypatch.setenv("TANGENT_TRIAL_ENVIRONMENT", "HF_TOKEN, WANDB_*")
    settings = DispatcherSettings()
    assert settings.packages == (str(home), str(tmp_path))
    assert settings.trial_environment == ("HF_TOKEN", "WANDB_*")
    assert settings.database == f"sqlite:///{tmp_path}/a%252Fb%3Fc%23d/tangent.db"
    assert settings.checkpoint_folder == f"{home}/checkpoints"
