"""SQLite on a disk that is full: the error names it, reads go on, and nothing that was stored is lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import catalog, study_body

from studies.database_urls import sqlite_url
from studies.errors import StoreUnavailable
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

_BLOCK = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tangent-test", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill a disk up to some blocks, and return the file that takes the place."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(_BLOCK))
        except OSError:
            file.truncate(file.tell() - leave * _BLOCK)
    return filler


@pytest.mark.parametrize("blocks", [0, 1, 3, 8])
def test_a_database_that_cannot_be_created_on_a_full_disk_is_reported_as_that(
    disk: Path, blocks: int
) -> None:
    fill(disk, leave=blocks)
    with pytest.raises(StoreUnavailable, match=f"the disk is full; free space for {disk}"):
        Store.open(sqlite_url(disk / "tangent.db"))


def test_a_store_on_a_full_disk_can_be_read_and_goes_on_when_there_is_space(disk: Path) -> None:
    store = Store.open(sqlite_url(disk / "tangent.db"))
    store.announce(catalog(), dispatcher="here")
    stored = store.submit(parse_spec(study_body())).id
    filler = fill(disk)
    submitted: list[str] = []

    def submit_on() -> None:
        while True:
            submitted.append(store.submit(parse_spec(study_body())).id)

    with pytest.raises(StoreUnavailable, match=f"the disk is full; free space for {disk}"):
        submit_on()
    assert store.study(stored).id == stored
    filler.unlink()
    submitted.append(store.submit(parse_spec(study_body())).id)
    assert {study.id for study in store.studies(page_size=200).items} == {stored, *submitted}
    store.close()
