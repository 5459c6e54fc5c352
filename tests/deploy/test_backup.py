"""A database dumped in use and restored as in docs/cluster.md is complete, and its studies continue."""

import subprocess
from pathlib import Path

import pytest
from catalogs import catalog
from postgres_server import PostgresServer, binaries
from simulated_dispatch import SimulatedDispatcher

from studies.states import TrialState
from studies.store import Store

__all__: list[str] = []


def run(program: str, *arguments: str | Path) -> None:
    folder = binaries()
    assert folder is not None
    done = subprocess.run(
        [folder / program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.postgres
def test_a_restored_backup_is_complete_and_its_running_study_continues(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    store = Store.open(postgres_url)
    store.announce(catalog(), dispatcher="here")
    secret = store.create_token("alice", role="submitter")
    running = SimulatedDispatcher(store).run()
    done, flying = running.begin(0, 1)
    running.complete(done, 0.9)
    store.complete_copies()
    run("pg_dump", "--format", "custom", "--file", tmp_path / "dump", postgres_url.replace("+psycopg", ""))
    # Changes after the dump are not part of it.
    running.complete(flying, 0.8)

    copy = postgres.create()
    try:
        run(
            "pg_restore",
            "--exit-on-error",
            "--dbname",
            postgres.url(copy).replace("+psycopg", ""),
            tmp_path / "dump",
        )
        restored = Store.open(postgres.url(copy))
        study_id = running.claim.study_id
        assert restored.study(study_id).spec == store.study(study_id).spec
        assert restored.trial(done.id) == store.trial(done.id)
        assert restored.authenticate(secret) is not None
        again = SimulatedDispatcher(restored).of(running.claim)
        again.lapse()
        taken = SimulatedDispatcher(restored).claim(dispatcher="there")
        assert taken.claim.study_id == study_id
        assert [(trial.id, restored.trial(trial.id).state) for trial in taken.writer.queued_trials()] == [
            (flying.id, TrialState.QUEUED)
        ]
        restored.close()
    finally:
        store.close()
        postgres.drop(copy)
