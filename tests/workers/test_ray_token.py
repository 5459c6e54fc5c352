"""Ray's token file, which Ray itself would create with the modes that the umask allows."""

import os
import string
from pathlib import Path

import pytest

from workers.ray_token import create_ray_token

__all__: list[str] = []


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user without any setting has the token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path / ".ray" / "auth_token"


def modes(file: Path) -> tuple[int, int]:
    return file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777


def test_a_new_token_is_private_whatever_the_umask_and_stays_the_same(token_file: Path) -> None:
    before = os.umask(0)
    try:
        create_ray_token()
    finally:
        os.umask(before)
    token = token_file.read_text()
    assert len(token) == 64
    assert set(token) <= set(string.hexdigits)
    assert modes(token_file) == (0o700, 0o600)
    create_ray_token()
    assert token_file.read_text() == token
    assert list(token_file.parent.iterdir()) == [token_file]


def test_a_token_that_ray_has_created_becomes_private(token_file: Path) -> None:
    token_file.parent.mkdir()
    token_file.write_text("token")
    token_file.chmod(0o644)
    create_ray_token()
    assert modes(token_file) == (0o700, 0o600)
    assert token_file.read_text() == "token"


def test_a_file_that_the_operator_names_stays_as_it_is(
    token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    named.write_text("token")
    named.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    create_ray_token()
    assert named.stat().st_mode & 0o777 == 0o644
    assert not token_file.exists()
