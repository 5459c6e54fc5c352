"""The database role of scripts/compose-reader.sql: it reads Optuna's tables and has no other access."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import psycopg
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from postgres_server import PostgresServer, binaries

from studies.store import Store

__all__: list[str] = []

SCRIPT = Path(__file__).parents[2] / "scripts" / "compose-reader.sql"


def run_script(url: str) -> subprocess.CompletedProcess[str]:
    folder = binaries()
    assert folder is not None
    command = [
        folder / "psql",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "password=geheim",
        "-f",
        SCRIPT,
        url.replace("+psycopg", ""),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.postgres
def test_before_the_first_trial_the_script_names_the_missing_tables(postgres_url: str) -> None:
    Store.open(postgres_url).close()
    done = run_script(postgres_url)
    assert done.returncode != 0
    assert "finish a trial, then run this again" in done.stderr


@pytest.mark.postgres
def test_the_reader_may_only_read_optunas_tables(postgres: PostgresServer, postgres_url: str) -> None:
    Store.open(postgres_url).close()
    writer = RDBStorage(postgres_url)
    optuna.create_study(storage=writer, study_name="tangent/1/adamp").add_trial(
        optuna.create_trial(value=0.5)
    )
    # Twice, because it runs again whenever the profile starts.
    for _ in range(2):
        done = run_script(postgres_url)
        assert done.returncode == 0, done.stderr
    as_reader = postgres_url.replace("postgres@", "tangent_reader@")
    reader = RDBStorage(as_reader)
    try:
        (study,) = optuna.get_all_study_summaries(storage=reader)
        assert (study.study_name, study.n_trials) == ("tangent/1/adamp", 1)
        assert optuna.load_study(study_name=study.study_name, storage=reader).best_value == 0.5
        with pytest.raises(StorageInternalError):
            optuna.delete_study(study_name=study.study_name, storage=reader)
        assert optuna.get_all_study_names(storage=writer) == ["tangent/1/adamp"]
        with psycopg.connect(as_reader.replace("+psycopg", ""), autocommit=True) as connection:
            # A role may change its own defaults, but gains no permission by it.
            connection.execute("SET default_transaction_read_only = off")
            for statement in (
                b"SELECT * FROM token",
                b"SELECT * FROM study",
                b"DELETE FROM studies",
                b"CREATE TABLE mine (n int)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    finally:
        for storage in (reader, writer):
            storage.remove_session()
            storage.engine.dispose()
        postgres.run("DROP OWNED BY tangent_reader", database=urlsplit(postgres_url).path[1:])
        postgres.run("DROP ROLE tangent_reader")
