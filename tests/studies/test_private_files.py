"""Files that only their owner may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.database_urls import sqlite_url
from studies.private_files import create_private_folder, make_home_private, make_private, open_privately
from studies.store import Store

__all__: list[str] = []


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_new_folders_and_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    create_private_folder(tmp_path / "a" / "b")
    with open(tmp_path / "a" / "file", "w", opener=open_privately) as file:
        file.write("secret")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/file")] == [0o700, 0o700, 0o600]


def test_existing_files_lose_what_others_may_do_and_keep_the_rest(tmp_path: Path) -> None:
    (tmp_path / "program").touch(mode=0o755)
    make_private(tmp_path / "program")
    assert mode(tmp_path / "program") == 0o700
    make_private(tmp_path / "missing")


def test_a_folder_that_users_share_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    make_private(tmp_path)
    make_home_private(tmp_path)
    assert mode(tmp_path) == 0o1777


def test_a_database_and_the_files_beside_it_are_private_even_if_an_older_version_created_them(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    url = sqlite_url(home / "tangent.db")
    store = Store.open(url)
    assert store.complete_copies() == 0
    files = sorted(home.glob("tangent.db*"))
    assert {file.name for file in files} >= {"tangent.db", "tangent.db-shm", "tangent.db-wal"}
    assert [mode(file) for file in files] == [0o600] * len(files)
    assert mode(home) == 0o700
    for file in files:
        file.chmod(0o666)
    again = Store.open(url)
    assert [mode(file) for file in sorted(home.glob("tangent.db*"))] == [0o600] * len(files)
    again.close()
    store.close()


def test_a_home_of_an_older_version_becomes_private_with_its_logs_and_checkpoints(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("logs/run.log", "checkpoints/study/trial.pt", "other/file"):
        (home / name).parent.mkdir(parents=True)
        (home / name).touch()
    make_home_private(home)
    assert mode(home) == mode(home / "logs") == mode(home / "checkpoints" / "study") == 0o700
    assert mode(home / "logs" / "run.log") == mode(home / "checkpoints" / "study" / "trial.pt") == 0o600
    assert mode(home / "other" / "file") == 0o666, "only what Tangent writes is changed"
