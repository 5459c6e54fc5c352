"""Secrets from files: read whole, put where they belong, refused in a sentence that does not show them."""

from pathlib import Path

import pytest

from studies.secret_files import read_secret, with_password

__all__: list[str] = []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("p@ss/w:rd\n")
    return tmp_path / "password"


def test_a_secret_is_the_files_one_line(file: Path) -> None:
    assert read_secret(file) == "p@ss/w:rd"


@pytest.mark.parametrize(
    ("held", "why"), [(b"", "0 lines"), (b"one\ntwo\n", "2 lines"), (b"\xff\xfe", "no text")]
)
def test_what_is_no_secret_is_refused_without_being_shown(tmp_path: Path, held: bytes, why: str) -> None:
    (tmp_path / "secret").write_bytes(held)
    with pytest.raises(ValueError, match=why) as refused:
        read_secret(tmp_path / "secret")
    assert "two" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none cannot be read: No such file"):
        read_secret(tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        (
            "postgresql+psycopg://tangent@db/tangent",
            "postgresql+psycopg://tangent:p%40ss%2Fw%3Ard@db/tangent",
        ),
        (
            "postgresql://tangent@db:5433/tangent?sslmode=require",
            "postgresql://tangent:p%40ss%2Fw%3Ard@db:5433/tangent?sslmode=require",
        ),
        (
            "postgresql+psycopg://tangent@/tangent?host=/run/pg",
            "postgresql+psycopg://tangent:p%40ss%2Fw%3Ard@/tangent?host=/run/pg",
        ),
        ("postgresql+psycopg://tangent:other@db/tangent", "postgresql+psycopg://tangent:other@db/tangent"),
    ],
)
def test_a_password_is_put_into_a_url_that_has_none(file: Path, url: str, whole: str) -> None:
    assert with_password(url, file) == whole
    assert with_password(url, None) == url


def test_a_database_without_a_user_takes_no_password(file: Path) -> None:
    with pytest.raises(ValueError, match="names a user"):
        with_password("sqlite:////var/lib/tangent.db", file)
