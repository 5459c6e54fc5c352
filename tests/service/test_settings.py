"""Settings: safe defaults, one line for every fault, and no secret shown."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from service.settings import ServiceSettings, SettingsInvalid, is_loopback

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _silent_environment(settings: ServiceSettings) -> None:
    """Remove the settings from the environment (`settings` does it)."""
    del settings


def test_defaults_are_local_and_in_the_users_home() -> None:
    settings = ServiceSettings.load()
    assert is_loopback(settings.host)
    assert settings.home == Path("~/.tangent").expanduser()
    assert settings.database_url == f"sqlite:///{settings.home}/tangent.db"
    assert (settings.url, settings.token, settings.ray_address) == ("http://127.0.0.1:8780", None, "local")


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TANGENT_HOME": "/var/lib/tangent",
        "TANGENT_PORT": "9000",
        "TANGENT_TOKEN": "secret",
        "TANGENT_LOG_LEVEL": "WARNING",
        "TANGENT_ALLOWED_HOSTS": "a.example, b.example",
        "TANGENT_RAY_ADDRESS": "ray:6379",
    }.items():
        monkeypatch.setenv(name, value)
    settings = ServiceSettings.load()
    assert settings.database_url == "sqlite:////var/lib/tangent/tangent.db"
    assert settings.url == "http://127.0.0.1:9000"
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert (settings.log_level, settings.ray_address) == ("warning", "ray:6379")
    assert settings.token is not None
    assert settings.token.get_secret_value() == "secret"


def test_arguments_override_the_environment_unless_they_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TANGENT_PORT", "9000")
    assert ServiceSettings.load(port=9001, host=None).url == "http://127.0.0.1:9001"
    assert ServiceSettings.load(port=None).port == 9000


def test_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_TOKEN", "")
    monkeypatch.setenv("TANGENT_PORT", "")
    assert (ServiceSettings.load().token, ServiceSettings.load().port) == (None, 8780)


def test_variables_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_PARENT_PID", "1")
    ServiceSettings.load()


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8780"), ("::", "http://[::1]:8780"), ("10.1.2.3", "http://10.1.2.3:8780")],
)
def test_the_default_url_of_a_service_on_all_addresses_is_loopback(host: str, url: str) -> None:
    assert ServiceSettings.load(host=host).url == url


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", "whole number"),
        ("PORT", "0", "at least 1"),
        ("PORT", "65536", "at most 65535"),
        ("LOG_LEVEL", "loud", "'warning'"),
        ("URL", "ftp://here", "http://"),
        ("HOST", "a" * 300, "255"),
    ],
)
def test_an_invalid_variable_is_a_one_line_error_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"TANGENT_{name}", value)
    with pytest.raises(SettingsInvalid) as raised:
        ServiceSettings.load()
    message = str(raised.value)
    assert message.startswith(f"TANGENT_{name}: ")
    assert words in message
    assert "\n" not in message
    assert value[:60] in message


def test_every_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_PORT", "abc")
    monkeypatch.setenv("TANGENT_LOG_LEVEL", "loud")
    with pytest.raises(SettingsInvalid) as raised:
        ServiceSettings.load()
    assert [part.split(":")[0] for part in str(raised.value).split("; ")] == [
        "TANGENT_PORT",
        "TANGENT_LOG_LEVEL",
    ]


def test_settings_are_frozen_and_show_no_secret() -> None:
    settings = ServiceSettings.load(
        token="hush-hush", database_url="postgresql+psycopg://tangent:hush-hush@db/tangent"
    )
    assert "hush-hush" not in repr(settings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # pyright: ignore[reportAttributeAccessIssue] # what the test is about


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("", False),
        # An old notation of 127.0.0.1 that programs parse differently.
        ("127.1", False),
    ],
)
def test_only_loopback_hosts_are_local(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own


def test_a_home_is_an_absolute_literal_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ServiceSettings.load(home="a%2Fb?c#d")
    assert settings.home == tmp_path / "a%2Fb?c#d"
    assert make_url(settings.database).database == str(settings.home / "tangent.db")


def test_a_home_whose_name_is_not_utf8_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="expected a path in UTF-8"):
        ServiceSettings.load(home=Path(os.fsdecode(b"/tmp/\xff")))
