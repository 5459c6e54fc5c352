"""Database URLs: of files with any name, and without their passwords in everything that readers see."""

import io
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url

from studies.database_urls import has_password, masked, masked_url, sqlite_url
from studies.errors import StoreUnavailable
from studies.logs import configure_logging
from studies.store import Store

__all__: list[str] = []

# Nothing listens on port 1.
WITH_PASSWORDS = [
    "postgresql+psycopg://me:geheim@127.0.0.1:1/x",
    "postgresql+psycopg://me@127.0.0.1:1/x?password=geheim",
    "postgresql+psycopg://me@127.0.0.1:1/x?sslmode=require&sslpassword=geheim&connect_timeout=2",
    "postgresql+psycopg://me@127.0.0.1:1/x?%70assword=geheim",
    "postgresql+psycopg://me@127.0.0.1:1/x?application_name=a&PASSWORD=/geheim@geheim/",
    "postgresql+psycopg://me:ge/geheim@127.0.0.1:1/x",
    "postgresql+psycopg://me:ge@geheim@127.0.0.1:1/x",
    "postgresql+psycopg://me:ge/he@geheim@127.0.0.1:1/x?password=geheim",
    "postgresql+psycopg://me:ge?geheim&geheim@127.0.0.1:port/x",
    "postgresql+psycopg://:geheim@127.0.0.1:1/x",
    "postgresql+psycopg://me:geheim@[::1/x",
    "postgres://me:geheim@127.0.0.1:1/x",
    "mysql://me@127.0.0.1/x?password=geheim",
    "sqlite:////nowhere/x.db?password=geheim",
]
NOT_EVEN_URLS = [
    "me:geheim@127.0.0.1/x",
    "postgresql:/me:geheim@host/name",
    "host=127.0.0.1 password=geheim",
    "password='ge geheim' host=x",
]
FOLDERS = ["a%2Fb", "a?b", "a#b", "a b", "a+b", "a@b:c", "{home}", "%", "a::b", "~", "比較 🚀", "é", "[a]*"]


@pytest.mark.parametrize("url", [*WITH_PASSWORDS, *NOT_EVEN_URLS])
def test_no_error_about_a_database_shows_its_password(url: str) -> None:
    assert has_password(url)
    with pytest.raises(StoreUnavailable) as refused:
        Store.open(url).close()
    assert "geheim" not in str(refused.value)
    assert "geheim" not in masked_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@db:5432/x?sslmode=require",
        "postgresql+psycopg://db:5432/x",
        "sqlite:////tmp/a:b@c/tangent.db",
        "sqlite:///C/a b.db",
    ],
)
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert not has_password(url)
    assert masked(f"cannot open {url!r}; ask you@example.org") == f"cannot open {url!r}; ask you@example.org"


@pytest.mark.parametrize("url", WITH_PASSWORDS)
@pytest.mark.parametrize("form", ["console", "json"])
def test_logs_hide_the_passwords_of_urls_in_messages_fields_and_exceptions(
    url: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, printed = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "stderr", printed)
    configure_logging("json" if form == "json" else "console")
    try:
        raise ValueError(f"cannot parse {url}")
    except ValueError:
        logging.getLogger("tangent.test").exception("no database at %s", url, extra={"database": url})
    text = printed.getvalue()
    assert "cannot parse" in text
    assert "geheim" not in text
    if form == "json":
        assert json.loads(text)["database"] == masked(url)


@pytest.mark.parametrize(
    "piece", ["postgres", "postgres://", "postgres://a:", "://a:", "a=", "?a", "x@postgres://a:"]
)
def test_a_long_text_is_masked_in_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    masked(text)
    masked_url(text)
    # Quadratic time would be a minute.
    assert time.process_time() - began < 2.0


def test_a_traceback_that_ends_a_process_hides_the_password() -> None:
    code = (
        "import sys; from studies.database_urls import mask_tracebacks; mask_tracebacks(); "
        "raise ValueError(sys.argv[1])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, WITH_PASSWORDS[0]], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("ValueError: postgresql+psycopg://me:***@127.0.0.1:1/x")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_sqlite_url_names_a_file_literally(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "tangent.db"
    assert make_url(sqlite_url(path)).database == str(path)


def test_a_database_is_in_its_folder_whatever_the_folders_name(tmp_path: Path) -> None:
    home = tmp_path / "-".join(name.replace("~", "x") for name in FOLDERS)
    store = Store.open(sqlite_url(home / "tangent.db"))
    with store._database.exclusive("a lock"):
        store.close()
    assert {file.name for file in home.iterdir()} >= {"tangent.db", "tangent.db-lock"}
    assert list(tmp_path.iterdir()) == [home]


def test_a_user_name_may_contain_an_encoded_at_sign() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        Store.open("postgresql+psycopg://me%40lab:geheim@127.0.0.1:1/x")


def test_arguments_in_a_sqlite_url_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="write \\? in a path as %3F"):
        Store.open(f"sqlite:///{tmp_path}/a?b/tangent.db")
    assert list(tmp_path.iterdir()) == []
