"""Migrations create the tables that the code expects, and upgrade databases of older versions."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from catalogs import catalog
from schema_differences import differences
from simulated_dispatch import SimulatedDispatcher
from sqlalchemy import insert, select

from studies.extension import more_seeds
from studies.states import StudyState, TrialState
from studies.store import Store, tables
from studies.store.database import VERSION_TABLE, Database
from studies.study_filter import StudyFilter
from studies.views import Quotas
from studies.webhooks import AttemptResult

__all__: list[str] = []

OLD_DATABASES = sorted(Path(__file__).parent.glob("revision-*.sql"))


def test_migrations_create_exactly_the_tables_of_the_code(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate()
    assert differences(database) == []
    database.close()


def test_migrating_again_changes_nothing(empty_url: str) -> None:
    first = Store.open(empty_url)
    first.announce(catalog(), dispatcher="here")
    again = Store.open(empty_url)
    assert again.catalog() == first.catalog()
    assert differences(again._database) == []
    first.close()
    again.close()


def test_optuna_and_tangent_have_separate_alembic_tables(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.complete(run.begin(0)[0], 0.9)
    assert play.store.copy_to_optuna(run.claim.study_id) == 1
    with play.store._database.read() as connection:
        optunas, ours = (
            connection.exec_driver_sql(f"SELECT version_num FROM {name}").scalar_one()
            for name in ("alembic_version", VERSION_TABLE)
        )
    assert optunas != ours
    play.store._database.migrate()


def restore(path: Path, revision: str) -> None:
    """Restore the committed database of a revision."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            Path(__file__).with_name(f"revision-{revision}.sql").read_text(encoding="utf-8")
        )
    connection.close()


def test_the_oldest_and_the_newest_database_are_kept() -> None:
    versions = Path(__file__).parents[3] / "studies" / "store" / "migrations" / "versions"
    revisions = sorted(path.name[:4] for path in versions.glob("[0-9]*.py"))
    kept = [path.stem.removeprefix("revision-") for path in OLD_DATABASES]
    assert kept == [revisions[0], revisions[-1]]
    assert all(path.stat().st_size < 50_000 for path in OLD_DATABASES)


@pytest.mark.parametrize("old", OLD_DATABASES, ids=lambda path: path.stem)
def test_an_old_database_opens_and_its_studies_go_on(old: Path, tmp_path: Path) -> None:
    restore(tmp_path / "tangent.db", old.stem.removeprefix("revision-"))
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    assert differences(store._database) == []
    found = {study.name: study for study in store.studies().items}
    assert {name: study.state for name, study in found.items()} == {
        "Finished": StudyState.COMPLETED,
        "Running": StudyState.RUNNING,
        "Waiting": StudyState.QUEUED,
    }
    finished = found["Finished"].id
    assert [trial.state for trial in store.every_trial(finished)] == [
        TrialState.COMPLETED,
        TrialState.COMPLETED,
        TrialState.DIVERGED,
    ]
    (arm,) = store.arms(finished)
    assert arm.best is not None
    assert (
        arm.best.value,
        len(store.measurements(arm.best.trial_id)),
        len(store.curves(finished)[0].points),
    ) == (0.9, 2, 3)
    assert [event.id for event in store.events(finished)][-1] == len(store.events(finished))
    assert [token.name for token in store.tokens()] == ["ada"]
    assert store.study(finished).spec.arms[0].name == "adamp"
    play = SimulatedDispatcher(store)
    taken_over = play.claim()
    assert taken_over.study.name == "Running"
    assert [trial.attempt for trial in taken_over.writer.trials()] == [2]
    play.submit(arms=["adamp"])
    assert play.claim().study.name == "Waiting"
    assert store.copy_to_optuna(finished) == 3
    text = store.notes(finished).text
    assert text == ("" if old.stem.endswith("0001") else "Why *this* study.")
    store.close()


def test_studies_from_before_confirmations_have_none(tmp_path: Path) -> None:
    for revision, seeds in (("0001", 0), ("0021", 1)):
        path = tmp_path / f"{revision}.db"
        restore(path, revision)
        store = Store.open(f"sqlite:///{path}")
        study = next(study for study in store.studies().items if study.name == "Finished")
        record = store.study_record(study.id)
        assert record.study.spec.confirmation.seeds == seeds
        assert (len(record.trials), len(record.confirmations), record.study.progress.confirmations) == (
            3,
            2 * seeds,
            2 * seeds,
        )
        assert (record.study.suite, record.study.environment) == (
            ("small", {"python": "3.11.9"}) if seeds else (None, {})
        )
        extended = store.extend(study.id, more_seeds(record.study.spec))
        assert (extended.state, extended.spec.confirmation.seeds) == (StudyState.QUEUED, seeds + 5)
        store.close()


def migrate(database: Database, *, to: str, is_down: bool = False) -> None:
    """Bring a database to a revision, from an older one or from a newer one."""
    with database.write() as connection:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).parents[3] / "studies" / "store" / "migrations")
        )
        config.attributes["connection"] = connection
        (command.downgrade if is_down else command.upgrade)(config, to)


def downgraded_and_upgraded(path: Path, *, to: str) -> Store:
    """Return a store on the newest database after a downgrade to a revision and an upgrade to the newest."""
    restore(path, "0021")
    database = Database(f"sqlite:///{path}")
    migrate(database, to=to, is_down=True)
    database.close()
    store = Store.open(f"sqlite:///{path}")
    assert differences(store._database) == []
    return store


def charged(store: Store) -> list[tuple[float, float]]:
    """Return training seconds and charged seconds of every trial."""
    t = tables.trial.c
    with store._database.read() as connection:
        found = connection.execute(select(t.cost_s, t.charged_s).order_by(t.id))
        return [(row.cost_s, row.charged_s) for row in found]


def test_downgrading_below_charged_seconds_keeps_the_cost_of_trials(tmp_path: Path) -> None:
    store = downgraded_and_upgraded(tmp_path / "tangent.db", to="0005")
    assert charged(store), "the database must contain trials"
    assert all(cost_s == charged_s for cost_s, charged_s in charged(store))
    assert store.webhooks().total == 1
    store.close()


def test_downgrading_below_webhooks_keeps_studies_and_tokens(tmp_path: Path) -> None:
    store = downgraded_and_upgraded(tmp_path / "tangent.db", to="0004")
    assert (store.studies().total, [token.name for token in store.tokens()], store.webhooks().total) == (
        3,
        ["ada"],
        0,
    )
    store.close()


def test_downgrading_below_many_users_keeps_studies_and_tokens(tmp_path: Path) -> None:
    store = downgraded_and_upgraded(tmp_path / "tangent.db", to="0003")
    assert (store.studies().total, len(store.study_record(store.studies().items[-1].id).trials)) == (3, 3)
    assert [(token.name, token.quotas) for token in store.tokens()] == [("ada", Quotas())]
    assert store.audit().total == 0
    store.close()


def test_downgrading_below_confirmations_keeps_the_search(tmp_path: Path) -> None:
    store = downgraded_and_upgraded(tmp_path / "tangent.db", to="0002")
    study = next(study for study in store.studies().items if study.name == "Finished")
    record = store.study_record(study.id)
    assert (len(record.trials), record.confirmations) == (3, ())
    assert len(record.measurements[record.trials[1].id]) == 2
    store.close()


def test_trials_from_before_charged_seconds_are_charged_their_training(empty_url: str) -> None:
    database = Database(empty_url)
    migrate(database, to="0005")
    with database.write() as connection:
        now = datetime.now(UTC)
        study = {
            "id": "old",
            "name": "Old",
            "workload": "w",
            "spec": {},
            "resolved": {},
            "state": "completed",
        }
        study |= {"version": 1, "last_event": 0, "attempt": 1, "created_at": now}
        trial = {"id": "old.adamp.0", "study_id": "old", "arm": "adamp", "number": 0, "state": "completed"}
        trial |= {
            "origin": "default",
            "parameters": {},
            "replicate": 0,
            "seed": 1,
            "attempt": 1,
            "retries": 0,
        }
        trial |= {"epochs_done": 2, "cost_s": 12.5, "copy_state": 0, "created_at": now}
        connection.execute(insert(tables.study).values(study))
        connection.execute(insert(tables.trial).values(trial))
    database.close()
    store = Store.open(empty_url)
    assert charged(store) == [(12.5, 12.5)]
    store.close()


def stored_trainings(path: Path) -> list[dict[str, Any]]:
    """Return the training settings of every study as stored."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT spec FROM study ORDER BY name").fetchall()
    connection.close()
    return [json.loads(spec)["training"] for (spec,) in found]


def test_only_studies_whose_schedule_warmed_up_keep_their_warmup(tmp_path: Path) -> None:
    path = tmp_path / "tangent.db"
    restore(path, "0001")
    with sqlite3.connect(path) as connection:
        connection.execute(
            """UPDATE study SET spec = json_set(spec, '$.training.schedule', 'warmup-cosine',
            '$.training.warmup_fraction', 0.1) WHERE name = 'Finished'"""
        )
    connection.close()
    assert [training["warmup_fraction"] for training in stored_trainings(path)] == [0.1, 0.05, 0.05]
    store = Store.open(f"sqlite:///{path}")
    found = {study.name: store.study(study.id).spec.training for study in store.studies().items}
    assert {name: training.warmup for name, training in found.items()} == {
        "Finished": 0.1,
        "Running": 0.0,
        "Waiting": 0.0,
    }
    migrate(store._database, to="0008", is_down=True)
    store.close()
    assert [training["warmup_fraction"] for training in stored_trainings(path)] == [0.1, 0.05, 0.05]


def test_stored_studies_are_not_paired(tmp_path: Path) -> None:
    path = tmp_path / "tangent.db"
    restore(path, "0001")
    store = Store.open(f"sqlite:///{path}")
    specs = [store.study(study.id).spec for study in store.studies().items]
    assert [(spec.search.paired, spec.search.verdict_at) for spec in specs] == [(0, None)] * 3
    assert all(trial.pair_index is None for trial in store.every_trial(store.studies().items[-1].id))
    migrate(store._database, to="0015", is_down=True)
    store.close()
    with sqlite3.connect(path) as connection:
        assert not [
            spec for (spec,) in connection.execute("SELECT spec FROM study") if "search" in json.loads(spec)
        ]
    connection.close()


def test_pending_deliveries_of_an_old_database_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "tangent.db"
    restore(path, "0021")
    store = Store.open(f"sqlite:///{path}")
    (webhook,) = store.webhooks().items
    assert (webhook.url, webhook.events, webhook.studies, webhook.owner) == (
        "https://hooks.example/tangent",
        ("study.failed",),
        "all",
        "ada",
    )
    (ping,) = store.claim_deliveries(lease_s=60.0)
    assert (ping.event, ping.secret.startswith("whsec_")) == ("webhook.ping", True)
    assert store.settle_delivery(ping, AttemptResult(status_code=200)) == "delivered"
    assert [each.state for each in store.webhook(webhook.id).deliveries] == ["delivered", "delivered"]
    store.close()


def test_no_study_of_an_old_database_is_archived_or_deleted(tmp_path: Path) -> None:
    store = downgraded_and_upgraded(tmp_path / "tangent.db", to="0016")
    ids = [study.id for study in store.studies().items]
    assert (len(ids), store.studies(StudyFilter(is_archived=True)).total, store.deleted_ids(ids)) == (
        3,
        0,
        frozenset(),
    )
    store.close()


def test_downgrading_below_notes_leaves_nothing_that_an_older_version_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "tangent.db"
    restore(path, "0021")
    with closing(sqlite3.connect(path)) as connection, connection:
        found = connection.execute("PRAGMA table_info(webhook)")
        columns = ", ".join(row[1] for row in found if row[1] != "id")
        for name, events in (("both", '["study.noted", "study.completed"]'), ("noted", '["study.noted"]')):
            connection.execute(
                f"INSERT INTO webhook (id, {columns}) SELECT '{name}', {columns} FROM webhook LIMIT 1"
            )
            connection.execute("UPDATE webhook SET events = ? WHERE id = ?", (events, name))
        for verb in ("note", "label", "submit"):
            connection.execute("INSERT INTO audit (at, verb) VALUES ('2026-01-01 00:00:00', ?)", (verb,))
    database = Database(f"sqlite:///{path}")
    migrate(database, to="0018", is_down=True)
    database.close()
    with closing(sqlite3.connect(path)) as connection:
        events = dict(connection.execute("SELECT id, events FROM webhook WHERE id IN ('both', 'noted')"))
        verbs = {row[0] for row in connection.execute("SELECT verb FROM audit")}
    assert {name: json.loads(text) for name, text in events.items()} == {"both": ["study.completed"]}
    assert ("submit" in verbs, verbs & {"note", "label"}) == (True, set())
