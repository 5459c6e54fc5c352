"""The database's password and the token may be in files, for the service and for the dispatcher."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import workers.settings
from service.cli.preflight import dispatcher_environment
from service.settings import ServiceSettings, SettingsInvalid

__all__: list[str] = []

URL = "postgresql+psycopg://tangent@db/tangent"


@pytest.fixture(autouse=True)
def password_file(settings: ServiceSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a password, named in an environment that otherwise contains only the database's URL."""
    del settings
    file = tmp_path / "password"
    file.write_text("geheim\n")
    monkeypatch.setenv("TANGENT_DATABASE_URL", URL)
    monkeypatch.setenv("TANGENT_DATABASE_PASSWORD_FILE", str(file))
    return file


def test_the_databases_password_is_read_from_its_file() -> None:
    whole = "postgresql+psycopg://tangent:geheim@db/tangent"
    assert ServiceSettings.load().database == whole
    assert workers.settings.DispatcherSettings().database == whole


def test_a_dispatcher_passes_on_a_url_without_the_password() -> None:
    settings = workers.settings.DispatcherSettings()
    assert settings.database_url == URL
    assert "geheim" not in repr(settings)
    assert "geheim" not in repr(ServiceSettings.load())


def test_tangent_up_gives_its_dispatcher_the_passwords_file_and_not_the_password() -> None:
    variables = dispatcher_environment(ServiceSettings.load())
    assert variables["TANGENT_DATABASE_URL"] == URL
    assert "geheim" not in "".join(variables.values())
    assert Path(variables["TANGENT_DATABASE_PASSWORD_FILE"]).is_absolute()


def test_a_token_is_read_from_its_file_unless_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    monkeypatch.setenv("TANGENT_TOKEN_FILE", str(tmp_path / "token"))
    token = ServiceSettings.load().token
    assert token is not None
    assert token.get_secret_value() == "from-a-file"
    given = ServiceSettings.load(token="given").token
    assert given is not None
    assert given.get_secret_value() == "given"


def test_an_unreadable_secret_file_is_a_one_line_error(password_file: Path) -> None:
    password_file.unlink()
    pattern = r"^TANGENT_DATABASE_URL: .*password: No such file or directory$"
    with pytest.raises(SettingsInvalid, match=pattern):
        ServiceSettings.load()
    with pytest.raises(ValidationError, match="No such file or directory"):
        workers.settings.DispatcherSettings()


def test_a_password_for_the_embedded_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANGENT_DATABASE_URL")
    with pytest.raises(SettingsInvalid, match=r"^TANGENT_DATABASE_URL: .*USER@HOST"):
        ServiceSettings.load()
