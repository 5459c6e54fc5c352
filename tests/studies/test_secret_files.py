"""Secrets from files: read, put into URLs, and never shown in an error."""

from pathlib import Path

import pytest

from studies.database_urls import with_password
from studies.secret_files import read_secret

__all__: list[str] = []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("p@ss/w:rd\n")
    return tmp_path / "password"


def test_a_secret_is_the_one_line_of_its_file(file: Path) -> None:
    assert read_secret(file) == "p@ss/w:rd"


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "0 lines"), (b"one\ntwo\n", "2 lines"), (b"\xff\xfe", "binary data")]
)
def test_a_file_without_one_line_of_text_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ValueError, match=why) as refused:
        read_secret(tmp_path / "secret")
    assert "two" not in str(refused.value)


def test_the_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: No such file"):
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
def test_the_password_is_added_to_a_url_without_one(file: Path, url: str, whole: str) -> None:
    assert with_password(url, file) == whole
    assert with_password(url, None) == url


def test_a_password_needs_a_url_with_a_user(file: Path) -> None:
    with pytest.raises(ValueError, match="user name"):
        with_password("sqlite:////var/lib/tangent.db", file)
