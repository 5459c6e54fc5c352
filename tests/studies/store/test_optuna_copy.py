"""Copies in Optuna's tables: each finished trial once, in its final state, through every crash."""

import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from optuna_copies import copies_at, storage_at
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report
from sqlalchemy import Connection, select, text

from studies.errors import StoreUnavailable
from studies.states import StudyMove, TrialState
from studies.store import Store, optuna_rows
from studies.store.optuna_copy import _missing, study_name
from studies.store.tables import trial as trial_table
from studies.trials import NewTrial

__all__: list[str] = []


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Keep Optuna's log of every study out of the tests' output."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def copies(run: SimulatedRun, database_url: str) -> list[FrozenTrial]:
    """Return the trials of the first arm as Optuna's API reads them, by number."""
    found = copies_at(database_url, study_name(run.claim.study_id, "adamp"))
    return sorted(found, key=lambda trial: trial.user_attrs["tangent_trial"])


def mark(run: SimulatedRun, copy_state: int) -> None:
    """Set `copy_state` of all finished trials."""
    with run.store._database.write() as connection:
        connection.exec_driver_sql(f"UPDATE trial SET copy_state = {copy_state} WHERE ended_at IS NOT NULL")


def names(trials: list[FrozenTrial]) -> list[str]:
    return [trial.user_attrs["tangent_trial"].rpartition(".")[2] for trial in trials]


@pytest.fixture
def played(play: SimulatedDispatcher) -> SimulatedRun:
    """A study with a trial in every state."""
    run = play.run(budget={"trials_per_arm": 9, "epochs": 2})
    default, sampled, diverged, pruned, failed, running = run.begin(0, 1, 2, 3, 4, 5)
    run.create(6)
    run.complete(default, 0.5)
    run.complete(sampled, 0.9)
    run.diverge(diverged)
    run.writer.record([report(pruned, 1, validation_metric=0.3, ended="pruned")])
    run.writer.requeue([(failed.id, 1)], reason="ValueError: no such layer", max_retries=0)
    run.writer.record([report(running, 1)])
    return run


def test_optuna_opens_every_finished_trial_once(played: SimulatedRun, database_url: str) -> None:
    assert played.store.copy_to_optuna(played.claim.study_id) == 5
    found = copies(played, database_url)
    assert names(found) == ["0", "1", "2", "3", "4"]
    assert [trial.state for trial in found] == [
        OptunaState.COMPLETE,
        OptunaState.COMPLETE,
        OptunaState.FAIL,
        OptunaState.PRUNED,
        OptunaState.FAIL,
    ]
    assert [trial.user_attrs["tangent_state"] for trial in found] == [
        "completed",
        "completed",
        "diverged",
        "pruned",
        "failed",
    ]
    assert [trial.value for trial in found] == [0.5, 0.9, None, 0.3, None], (
        "the value of a pruned trial is its last, as in Optuna"
    )
    assert [trial.intermediate_values for trial in found] == [
        {1: 0.25, 2: 0.5},
        {1: 0.45, 2: 0.9},
        {},
        {1: 0.3},
        {},
    ]
    assert [trial.user_attrs.get("reason") for trial in found] == [
        None,
        None,
        "the loss became nan",
        None,
        "ValueError: no such layer",
    ]
    assert found[1].user_attrs["test_value"] == pytest.approx(0.89)
    assert sorted(trial.number for trial in found) == [0, 1, 2, 3, 4]


def test_optuna_knows_direction_and_best_trial(played: SimulatedRun, database_url: str) -> None:
    played.store.copy_to_optuna(played.claim.study_id)
    with storage_at(database_url) as storage:
        study = optuna.load_study(study_name=study_name(played.claim.study_id, "adamp"), storage=storage)
        assert (study.direction.name, study.best_value) == ("MAXIMIZE", 0.9)
        assert (
            study.best_trial.user_attrs["parameters"]
            == played.store.trial(f"{played.claim.study_id}.adamp.1").parameters
        )


def test_a_copy_has_the_studys_direction(play: SimulatedDispatcher, database_url: str) -> None:
    run = play.run(workload="char-lm")
    for trial, value in zip(run.begin(0, 1), (2.0, 1.0), strict=True):
        run.complete(trial, value)
    play.store.copy_to_optuna(run.claim.study_id)
    with storage_at(database_url) as storage:
        study = optuna.load_study(study_name=study_name(run.claim.study_id, "adamp"), storage=storage)
        assert (study.direction.name, study.best_value) == ("MINIMIZE", 1.0)


def test_copies_hold_only_searched_parameters_inside_the_space(
    played: SimulatedRun, database_url: str
) -> None:
    played.store.copy_to_optuna(played.claim.study_id)
    default = copies(played, database_url)[0]
    # A weight decay of 0 is outside its logarithmic range, and without it the ratio has no effect.
    assert default.params == {"lr": 0.001, "delta": 0.1}
    assert default.distributions["lr"] == optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    assert default.user_attrs["parameters"] == played.writer.trials()[0].parameters


def test_times_are_local_as_in_optuna(played: SimulatedRun, database_url: str) -> None:
    played.store.copy_to_optuna(played.claim.study_id)
    ours = played.writer.trials()[0]
    trial = copies(played, database_url)[0]
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    # As in Optuna.
    assert abs(trial.datetime_complete - datetime.now()) < timedelta(minutes=5), "local time, without a zone"  # noqa: DTZ005
    assert ours.ended_at is not None
    assert ours.started_at is not None
    assert trial.duration is not None
    assert abs(trial.duration - (ours.ended_at - ours.started_at)) < timedelta(seconds=1)


def test_each_call_copies_what_has_finished_since(played: SimulatedRun, database_url: str) -> None:
    study_id = played.claim.study_id
    assert [played.store.copy_to_optuna(study_id), played.store.copy_to_optuna(study_id)] == [5, 0]
    late = played.begin(7)[0]
    assert played.store.copy_to_optuna(study_id) == 0
    played.complete(late, 0.7)
    assert played.store.copy_to_optuna(study_id) == 1
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4", "7"]


def test_a_study_without_finished_trials_is_not_copied(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.begin(0)
    assert play.store.copy_to_optuna(run.claim.study_id) == 0
    assert play.store.copy_to_optuna("nothing") == 0


def test_cancelled_trials_are_not_copied(played: SimulatedRun, database_url: str) -> None:
    played.store.move(played.claim.study_id, StudyMove.CANCEL)
    played.writer.close(StudyMove.FINISH)
    assert [t.state for t in played.writer.trials()].count(TrialState.CANCELLED) == 2
    assert played.store.copy_to_optuna(played.claim.study_id) == 5
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]


def test_a_crash_between_copies_and_copy_state_neither_loses_nor_duplicates_a_copy(
    played: SimulatedRun, database_url: str
) -> None:
    played.store.copy_to_optuna(played.claim.study_id)
    mark(played, copy_state=2)
    restarted = Store.open(database_url, migrate=False)
    restarted.copy_to_optuna(played.claim.study_id)
    restarted.close()
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]
    assert played.store.copy_to_optuna(played.claim.study_id) == 0


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the store use Optuna's public API, as for an unknown schema."""
    monkeypatch.setattr(optuna_rows, "SCHEMA", "another")


@pytest.mark.usefixtures("one_by_one")
def test_a_crash_while_copying_neither_loses_nor_duplicates_a_copy(
    played: SimulatedRun, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = optuna.Study.add_trial
    added: list[FrozenTrial] = []

    def dies_at_the_third(self: optuna.Study, trial: FrozenTrial) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        add(self, trial)
        added.append(trial)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "add_trial", dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            played.store.copy_to_optuna(played.claim.study_id)
    assert len(copies(played, database_url)) == 2
    played.store.copy_to_optuna(played.claim.study_id)
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]


def test_a_crash_before_the_first_copy_loses_nothing(played: SimulatedRun, database_url: str) -> None:
    mark(played, copy_state=2)
    assert played.store.copy_to_optuna(played.claim.study_id) == 5
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]


def test_other_trials_in_optunas_tables_are_left_unchanged(played: SimulatedRun, database_url: str) -> None:
    with storage_at(database_url) as storage:
        own = optuna.create_study(storage=storage, study_name="somebody's own")
        own.add_trial(create_trial(value=1.0))
        played.store.copy_to_optuna(played.claim.study_id)
        ours = optuna.load_study(study_name=study_name(played.claim.study_id, "adamp"), storage=storage)
        # A user adds a trial with Optuna's own tools.
        ours.add_trial(create_trial(value=1.0, user_attrs={"note": "mine"}))
        mark(played, copy_state=2)
        played.store.copy_to_optuna(played.claim.study_id)
        assert (len(ours.trials), len(own.trials)) == (6, 1)


def test_concurrent_copiers_make_each_copy_once(played: SimulatedRun, database_url: str) -> None:
    raised: list[BaseException] = []
    barrier = threading.Barrier(3)

    def copy() -> None:
        store = Store.open(database_url, migrate=False)
        barrier.wait()
        try:
            store.copy_to_optuna(played.claim.study_id)
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            raised.append(error)
        store.close()

    threads = [threading.Thread(target=copy) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == []
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]


def test_a_crash_within_a_batch_leaves_none_of_its_copies(
    played: SimulatedRun, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = optuna_rows.add_finished

    def dies_after(connection: Connection, name: str, trials: list[FrozenTrial]) -> None:
        add(connection, name, trials)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(optuna_rows, "add_finished", dies_after)
        with pytest.raises(KeyboardInterrupt):
            played.store.copy_to_optuna(played.claim.study_id)
    assert copies(played, database_url) == []
    assert played.store.copy_to_optuna(played.claim.study_id) == 5
    assert names(copies(played, database_url)) == ["0", "1", "2", "3", "4"]


def test_the_installed_optuna_has_the_schema_that_the_store_writes(
    played: SimulatedRun, database_url: str
) -> None:
    played.store.copy_to_optuna(played.claim.study_id)
    with storage_at(database_url) as storage:
        found = storage.get_current_version()
    assert found == optuna_rows.SCHEMA, (
        "if the test below still passes, add the schema's version; otherwise copies are written one by one"
    )


def test_the_stores_rows_equal_those_that_optuna_writes(
    play: SimulatedDispatcher, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {
        "lr": 0.1,
        "weight_decay": {"choices": [0.0, 0.01]},
        "delta": {"low": 0.1, "high": 0.5},
        "wd_ratio": "tune",
    }

    def rows(run: SimulatedRun) -> dict[str, list[tuple[Any, ...]]]:
        values = (0.25, 1e-300, 3.0)
        for trial, value in zip(run.begin(0, 1, 2), values, strict=True):
            run.complete(trial, value)
        run.diverge(run.begin(3)[0])
        run.writer.record([report(trial := run.begin(4)[0], 1, ended="pruned")])
        assert run.trial(trial).state is TrialState.PRUNED
        assert run.store.copy_to_optuna(run.claim.study_id) == 5
        with run.store._database.read() as connection:
            name = study_name(run.claim.study_id, "adamp")
            [study] = connection.execute(
                text("SELECT study_id FROM studies WHERE study_name = :name"), {"name": name}
            ).scalars()
            ids = (
                connection.execute(
                    text("SELECT trial_id FROM trials WHERE study_id = :study ORDER BY trial_id"),
                    {"study": study},
                )
                .scalars()
                .all()
            )
            found: dict[str, list[tuple[Any, ...]]] = {}
            for model in models.BaseModel.metadata.sorted_tables:
                if model.name != "trials" and "trial_id" not in model.c:
                    continue
                columns = [
                    column
                    for column in model.c
                    if not column.primary_key and column.name != "study_id" and column.name != "trial_id"
                ]
                key = "trial_id"
                of_study = connection.execute(select(model.c[key], *columns).where(model.c[key].in_(ids)))
                found[model.name] = sorted(
                    ((ids.index(row[0]), *map(_comparable, row[1:])) for row in of_study), key=repr
                )
            return found

    def _comparable(value: Any) -> Any:
        # Two studies completed one after the other differ in their ids and times.
        if isinstance(value, datetime):
            return (
                "at some time"
                if abs(value - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5)
                else value
            )
        return re.sub(r'"\w+\.adamp\.', '"', value) if isinstance(value, str) else value

    fast = rows(play.run(arms=[{"optimizer": "adamp", "space": space}]))
    monkeypatch.setattr(optuna_rows, "SCHEMA", "another")
    other = SimulatedDispatcher(Store.open(database_url, migrate=False))
    slow = rows(other.run(arms=[{"optimizer": "adamp", "space": space}]))
    other.store.close()
    assert {name for name, of_table in slow.items() if of_table} == {
        "trials",
        "trial_params",
        "trial_values",
        "trial_intermediate_values",
        "trial_user_attributes",
    }
    assert fast == slow


@pytest.mark.parametrize("schema", [optuna_rows.SCHEMA, "another"])
def test_a_copy_is_never_visible_as_running(
    play: SimulatedDispatcher, database_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna_rows, "SCHEMA", schema)
    run = play.run(budget={"trials_per_arm": 30, "epochs": 2})
    for trial in run.begin(*range(25)):
        run.complete(trial, 0.5)
    seen: set[int] = set()
    states: set[str] = set()
    is_done = threading.Event()

    def watch() -> None:
        store = Store.open(database_url, migrate=False)
        was_done = False
        while not was_done:
            was_done = is_done.is_set()
            with store._database.read() as connection:
                if connection.dialect.has_table(connection, "trials"):
                    found = connection.exec_driver_sql("SELECT state FROM trials").all()
                    states.update(row[0] for row in found)
                    seen.add(len(found))
            time.sleep(0.002)
        store.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert play.store.copy_to_optuna(run.claim.study_id) == 25
    is_done.set()
    watcher.join(60)
    assert 25 in seen
    assert len(seen) > 2 if schema == "another" else seen <= {0, 25}, (
        "a reader sees copies appear one by one or all at once"
    )
    assert states <= {"COMPLETE"}


def test_a_copier_that_ran_out_of_time_continues_at_the_next_call(
    play: SimulatedDispatcher, database_url: str
) -> None:
    run = play.run(budget={"trials_per_arm": 60, "epochs": 2})
    for trial in run.begin(*range(60)):
        run.complete(trial, 0.5)
    study_id = run.claim.study_id
    first = play.store.copy_to_optuna(study_id, within_s=0)
    assert 0 < first < 60
    assert play.store.copy_to_optuna(study_id) == 60 - first
    assert len(copies(run, database_url)) == 60


def test_unusable_optuna_tables_are_reported(played: SimulatedRun) -> None:
    study_id = played.claim.study_id
    played.store.copy_to_optuna(study_id)
    late = played.begin(7)[0]
    played.complete(late, 0.7)
    with played.store._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE studies RENAME TO gone")
    with pytest.raises(StoreUnavailable, match=r"cannot be used: .*studies"):
        played.store.copy_to_optuna(study_id)


def test_copies_hold_the_search_only_with_its_replicates(
    play: SimulatedDispatcher, database_url: str
) -> None:
    run = play.run(budget={"trials_per_arm": 1, "replicates": 2, "epochs": 2}, confirmation={"seeds": 2})
    defaults = run.writer.plan().arms[0].defaults
    trials = run.writer.create(
        [NewTrial("adamp", n, "default", defaults, seed=n, replicate=n) for n in range(2)]
    )
    trials += run.confirm(0)
    run.writer.start(trials)
    for trial in trials:
        run.complete(trial, 0.9)
    run.writer.close(StudyMove.FINISH)
    assert play.store.complete_copies() == 2
    assert play.store.complete_copies() == 0
    assert [trial.user_attrs["tangent_replicate"] for trial in copies(run, database_url)] == [0, 1]


def test_new_trials_of_an_extended_study_are_copied(play: SimulatedDispatcher, database_url: str) -> None:
    run = play.run(arms=["adamp"], budget={"trials_per_arm": 1, "epochs": 2})
    run.complete(run.begin(0)[0], 0.8)
    run.writer.close(StudyMove.FINISH)
    assert play.store.complete_copies() == 1
    play.extend(run.claim.study_id, trials_per_arm=2)
    again = play.claim()
    again.complete(again.begin(1)[0], 0.9)
    again.writer.close(StudyMove.FINISH)
    assert play.store.complete_copies() == 1
    assert [trial.value for trial in copies(run, database_url)] == [0.8, 0.9]


def test_a_copier_that_was_frozen_while_another_wrote_adds_nothing(
    played: SimulatedRun, database_url: str
) -> None:
    with played.store._database.read() as connection:
        rows = list(
            connection.execute(_missing(played.claim.study_id).where(trial_table.c.arm == "adamp")).all()
        )
    assert rows
    played.store.copy_to_optuna(played.claim.study_id)
    before = names(copies(played, database_url))
    late = played.store._optuna
    arm = next(arm for arm in played.writer.plan().arms if arm.name == "adamp")
    late._copy_arm(late._open_storage(), played.claim.study_id, arm, direction="maximize", rows=rows)
    assert names(copies(played, database_url)) == before
