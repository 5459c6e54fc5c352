"""The invariant checker finds nothing in an intact database, and detects each kind of damage."""

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from invariants import ClientView, broken
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report

from studies.states import StudyMove
from studies.store import Store
from studies.trials import NewTrial, PendingTrial

__all__: list[str] = []

# One arm, rungs at epochs 1 and 3, two fresh seeds.
BODY = {
    "arms": ["adamp"],
    "pruner": "asha",
    "budget": {"trials_per_arm": 4, "epochs": 9},
    "confirmation": {"seeds": 2},
    "max_retries": 1,
}


def train(run: SimulatedRun, trial: PendingTrial, *, value: float) -> None:
    """Report a trial's epochs up to its rung or its end."""
    for epoch in range(trial.epochs_done + 1, trial.to_epoch + 1):
        ended: dict[str, Any] = (
            {"ended": "completed", "value": value, "best_epoch": 9, "test_value": value} if epoch == 9 else {}
        )
        left = f"file:///{trial.id}-{epoch}.pt" if epoch == trial.to_epoch < 9 else None
        run.writer.record(
            [
                report(
                    trial,
                    epoch,
                    validation_metric=value if epoch == trial.to_epoch else value / 2,
                    checkpoint=left,
                    **ended,
                )
            ]
        )


def search(run: SimulatedRun) -> None:
    """Play a search of four trials: three are pruned at rung 1; the fourth is requeued once and completes."""
    defaults = run.writer.plan().arms[0].defaults
    made = run.writer.create(
        [
            NewTrial("adamp", n, "sampled", defaults | {"lr": 1e-3 * (n + 1)}, seed=7, to_epoch=1)
            for n in range(4)
        ]
    )
    made[0].parameters.update(defaults)
    run.writer.start(made)
    (again,) = run.writer.requeue([(made[3].id, 1)], reason="its worker was lost", max_retries=1)
    run.writer.start([again])
    for n, trial in enumerate((*made[:3], again)):
        train(run, trial, value=0.5 + n / 10)
    going = run.writer.settle(
        promoted=[(again.id, 2, 3)], pruned=[(made[0].id, 1), (made[1].id, 1), (made[2].id, 1)]
    )
    run.writer.start(going)
    train(run, going[0], value=0.85)
    going = run.writer.settle(promoted=[(again.id, 2, 9)], pruned=[])
    run.writer.start(going)
    train(run, going[0], value=0.9)


def close(play: SimulatedDispatcher) -> SimulatedRun:
    """Complete a study with its search, its confirmation and its copies in Optuna's tables."""
    run = play.run(**BODY)
    search(run)
    defaults = run.writer.plan().arms[0].defaults
    best = run.confirm(3)
    confirmed = best + run.writer.create(
        [
            NewTrial("adamp", 2 + n, "default", defaults, trial.seed, phase="confirmation", confirms=0)
            for n, trial in enumerate(best)
        ]
    )
    run.writer.start(confirmed)
    for trial in confirmed:
        train(run, trial, value=0.8)
    run.writer.report_progress()
    run.writer.close(StudyMove.FINISH)
    run.store.copy_to_optuna(run.claim.study_id)
    return run


@pytest.fixture
def closed(play: SimulatedDispatcher) -> SimulatedRun:
    """A study that has completed, on each database."""
    return close(play)


def client_view(run: SimulatedRun) -> ClientView:
    """Return what a client has seen of a study."""
    view = ClientView()
    view.accepted(run.study)
    view.saw(run.store.every_trial(run.claim.study_id, phase=None))
    return view


def test_an_intact_database_has_no_violations(closed: SimulatedRun) -> None:
    assert broken(closed.store, client_view(closed), are_copies_due=True) == []


def test_the_checker_takes_a_database_url(closed: SimulatedRun, database_url: str) -> None:
    assert broken(database_url, client_view(closed)) == []


def test_a_study_in_any_intermediate_state_has_no_violations(play: SimulatedDispatcher) -> None:
    empty = play.submit(**BODY)
    run = play.run(arms=["adamp", "adamw"]) if play.claim().claim.study_id == empty else play.run()
    done, flying, diverged = run.begin(0, 1, 2)
    assert broken(play.store) == []
    run.complete(done, 0.5)
    run.diverge(diverged)
    run.writer.record([report(flying, 1)])
    run.create(0, arm="adamw")
    run.writer.report_progress()
    assert broken(play.store, client_view(run)) == []
    run.store.copy_to_optuna(run.claim.study_id)
    play.store.release(run.claim)
    assert broken(play.store, client_view(run)) == []
    play.store.move(run.claim.study_id, StudyMove.STOP)
    assert broken(play.store, client_view(run)) == []


def test_an_extended_study_has_no_violations(closed: SimulatedRun) -> None:
    view = client_view(closed)
    SimulatedDispatcher(closed.store).extend(closed.claim.study_id, trials_per_arm=6, seeds=3)
    assert broken(closed.store, view) == []


@pytest.fixture(scope="module")
def sound(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClientView]:
    """A database with a study that has completed, and what its client has seen of it.

    Each case damages its own copy.
    """
    path = tmp_path_factory.mktemp("sound") / "tangent.db"
    shutil.copy(sqlite_template, path)
    store = Store.open(f"sqlite:///{path}", migrate=False)
    view = client_view(close(SimulatedDispatcher(store)))
    store.close()
    return path, view


TRIAL = "UPDATE trial SET {} WHERE number = 3 AND phase = 'search'"
# Without keys, so that a row can exist twice.
LOOSE = ("CREATE TABLE loose AS SELECT * FROM {0}", "DROP TABLE {0}", "ALTER TABLE loose RENAME TO {0}")


@pytest.mark.parametrize(
    ("statements", "violation"),
    [
        (["DELETE FROM study"], "study ID: it was accepted but does not exist"),
        (
            ["UPDATE study SET spec = json_set(spec, '$.seed', 5)"],
            "study ID: it differs from the accepted study",
        ),
        (
            ["DELETE FROM trial WHERE number = 3 AND phase = 'search'"],
            "trial ID.adamp.3: a client saw it completed, but it exists 0 times",
        ),
        ([TRIAL.format("value = 0.95")], "a client saw it completed with value 0.9, but now it is 0.95"),
        ([TRIAL.format("state = 'queued', ended_at = NULL")], "a client saw it completed with state"),
        (
            ["UPDATE trial SET seed = 8 WHERE number = 1"],
            "a client saw it pruned with seed 7, but now it is 8",
        ),
        (
            [part.format("trial") for part in LOOSE]
            + ["INSERT INTO trial SELECT * FROM trial WHERE number = 1"],
            "but it exists 2 times",
        ),
        (
            [part.format("trial") for part in LOOSE]
            + ["INSERT INTO trial SELECT * FROM trial WHERE number = 1"],
            "2 trials are number 1 of arm adamp's search",
        ),
        (
            ["DELETE FROM trial WHERE number = 2 AND phase = 'search'"],
            "arm adamp has only 3 of 4 trials in replicate 0",
        ),
        (
            ["DELETE FROM trial WHERE number = 2 AND phase = 'search'"],
            "the numbers of arm adamp's search are [0, 1, 3], with gaps",
        ),
        (
            ["UPDATE trial SET number = 4 WHERE number = 3 AND phase = 'confirmation'"],
            "the numbers of arm adamp's confirmation are [0, 1, 2, 4], with gaps",
        ),
        (
            ["UPDATE trial SET replicate = 1 WHERE number = 2 AND phase = 'search'"],
            "replicate 1 of arm adamp: expected at most 0 trials, found 1",
        ),
        (
            ["UPDATE trial SET arm = 'sgd' WHERE number = 2 AND phase = 'search'"],
            "trial ID.adamp.2 belongs to no arm of its plan",
        ),
        (["UPDATE arm SET trials = 5"], "its arms are [('adamp', 5)], but its plan has [('adamp', 4)]"),
        (
            [
                (
                    "UPDATE trial SET seed = (SELECT min(seed) FROM trial WHERE phase != "
                    "'search') WHERE phase != 'search'"
                )
            ],
            "on seed",
        ),
        (
            ["DELETE FROM trial WHERE number = 3 AND phase = 'confirmation'"],
            "it has completed, but arm adamp does not confirm",
        ),
        (
            ["UPDATE trial SET confirms = 1 WHERE number = 0 AND phase = 'confirmation'"],
            "trial ID.adamp.c0 confirms trial 1 of arm adamp, which has another",
        ),
        (
            ["UPDATE study SET lease_owner = 'here', lease_expires_at = created_at"],
            "it is completed, but here holds a lease",
        ),
        (["UPDATE study SET lease_owner = 'here'"], "only one of lease_owner and lease_expires_at is set"),
        (["UPDATE study SET ended_at = NULL"], "it is completed, but ended_at is None"),
        (
            [TRIAL.format("state = 'running', ended_at = NULL, value = NULL")],
            "it is completed, but trial ID.adamp.3 is running",
        ),
        (
            ["UPDATE study SET state = 'running', ended_at = NULL", TRIAL.format("state = 'running'")],
            "trial ID.adamp.3 is running, but no run holds the lease",
        ),
        (
            ["UPDATE trial SET state = 'cancelled' WHERE number = 1"],
            "trial ID.adamp.1 is cancelled, but the study was never stopped",
        ),
        (["DELETE FROM event WHERE number = 5"], "its events are numbered [1, 2, 3, 4, 6,"),
        (["UPDATE study SET last_event = last_event + 1"], "but last_event is"),
        (
            ["UPDATE event SET kind = 'study.submitted' WHERE kind = 'progress'"],
            "its first event must be its submission",
        ),
        (["UPDATE study SET version = version + 1"], "after 2 changes, but it is completed at version 4"),
        (
            ["UPDATE study SET state = 'failed'"],
            "its events end at completed after 2 changes, but it is failed",
        ),
        (
            [
                (
                    "UPDATE event SET data = json_set(data, '$.from', 'paused') WHERE "
                    "number = (SELECT max(number) FROM event)"
                )
            ],
            "leaves paused, but the state was running",
        ),
        (
            ["UPDATE event SET data = json_set(data, '$.trial', 'x.y.9') WHERE kind = 'trial.promoted'"],
            "its events name trial x.y.9, which does not exist",
        ),
        (
            [
                (
                    "UPDATE event SET data = json_set(data, '$.study.finished', 1) WHERE number = (SELECT "
                    "max(number) FROM event WHERE kind = 'progress')"
                )
            ],
            "counts 1 finished trials, an earlier one 4",
        ),
        ([TRIAL.format("retries = 2")], "trial ID.adamp.3: retries: 2 at attempt 2, at most 1 allowed"),
        (
            ["UPDATE study SET spec = json_set(spec, '$.max_retries', 0)"],
            "retries: 1 at attempt 2, at most 0 allowed",
        ),
        ([TRIAL.format("ended_at = NULL")], "trial ID.adamp.3: it is completed, but ended_at is None"),
        (
            [TRIAL.format("checkpoint = 'file:///x'")],
            "trial ID.adamp.3: only one of checkpoint and checkpoint_epoch is set",
        ),
        (
            [TRIAL.format("checkpoint = 'file:///x', checkpoint_epoch = 3")],
            "trial ID.adamp.3: it is completed, but has a checkpoint",
        ),
        ([TRIAL.format("value = NULL")], "trial ID.adamp.3: it is completed, but its value is None"),
        ([TRIAL.format("epochs_done = 8")], "trial ID.adamp.3: it is completed after 8 of 9 epochs"),
        ([TRIAL.format("to_epoch = 3")], "trial ID.adamp.3: epochs_done is 9, to_epoch is 3"),
        (
            ["DELETE FROM measurement WHERE epoch = 2 AND trial_id LIKE '%.3'"],
            "epochs_done is 9, but it measured epochs [1, 3,",
        ),
        (
            [part.format("measurement") for part in LOOSE]
            + ["INSERT INTO measurement SELECT * FROM measurement WHERE epoch = 4"],
            "it measured epochs [1, 2, 3, 4, 4,",
        ),
        (
            [
                (
                    "INSERT INTO measurement (trial_id, epoch, elapsed_s) SELECT id, 2, 0.9 FROM trial "
                    "WHERE number = 1 AND phase = 'search'"
                )
            ],
            "epochs_done is 1, but it measured epochs [1, 2]",
        ),
        (
            ["UPDATE measurement SET elapsed_s = 0.7 WHERE epoch = 5 AND trial_id LIKE '%.3'"],
            "which does not increase",
        ),
        (
            [TRIAL.format("cost_s = 4.0")],
            "trial ID.adamp.3: cost_s is 4.0, but its last epoch ended at [4.5]",
        ),
        (
            ["UPDATE measurement SET validation_metric = 0.7 WHERE epoch = 9"],
            "trial ID.adamp.3: its value is 0.9 of epoch 9, where the last of",
        ),
        (
            ["UPDATE event SET data = json_set(data, '$.attempt', 7) WHERE kind = 'trial.requeued'"],
            "a trial.requeued, names attempt 7, but the trial was at 2",
        ),
        ([TRIAL.format("attempt = 3")], "it is at attempt 3, but by its events at attempt 2"),
        (["UPDATE event SET kind = 'trial.finished' WHERE kind = 'trial.promoted'"], "after the trial ended"),
        (
            ["UPDATE event SET data = json_set(data, '$.value', 0.1) WHERE kind = 'trial.finished'"],
            "trial ID.adamp.3: its last event ends it with ['completed', 0.1, None], but its row has",
        ),
        (
            ["UPDATE event SET data = json_set(data, '$.to_epoch', 5) WHERE kind = 'trial.promoted'"],
            "it was promoted to epoch 5, but to_epoch is 9",
        ),
        (
            ["DELETE FROM trial_values"],
            "Optuna's copy of arm adamp: trial ID.adamp.3 has value None, ours is 0.9",
        ),
        (
            ["UPDATE trials SET state = 'RUNNING' WHERE number = 0"],
            "is stored as RUNNING and pruned but is pruned",
        ),
        (
            ["UPDATE trials SET number = 9 WHERE number = 0"],
            "Optuna's copy of arm adamp: its trials are numbered [1, 2, 3, 9]",
        ),
        (
            ["UPDATE trial_user_attributes SET value_json = '\"ID.adamp.0\"' WHERE key = 'tangent_trial'"],
            "trial ID.adamp.0 exists 4 times",
        ),
        (["DELETE FROM trials WHERE number = 0"], "Optuna's copy of arm adamp: trial ID.adamp"),
        (
            [
                (
                    "UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = "
                    "'tangent_trial' AND trial_id = 1"
                )
            ],
            "is not a trial of its search",
        ),
        (
            ["UPDATE trial_user_attributes SET value_json = '{}' WHERE key = 'parameters'"],
            "has {}, ours are",
        ),
        (["DELETE FROM trial_intermediate_values WHERE step = 2"], ", ours measured {1:"),
    ],
)
def test_every_violation_is_reported(
    sound: tuple[Path, ClientView], tmp_path: Path, statements: list[str], violation: str
) -> None:
    path, view = sound
    shutil.copy(path, tmp_path / "broken.db")
    (study_id,) = view.studies
    with contextlib.closing(sqlite3.connect(tmp_path / "broken.db", isolation_level=None)) as connection:
        for statement in statements:
            assert connection.execute(statement.replace("ID", study_id)).rowcount != 0, (
                "the statement must change a row"
            )
    found = broken(f"sqlite:///{tmp_path}/broken.db", view, are_copies_due=True)
    assert any(violation.replace("ID", study_id) in sentence for sentence in found), found


def test_a_trial_that_a_client_saw_end_in_two_ways_is_reported(closed: SimulatedRun) -> None:
    view = client_view(closed)
    trials = closed.store.every_trial(closed.claim.study_id)
    view.saw(trial.model_copy(update={"value": 0.1}) for trial in trials if trial.number == 3)
    assert broken(closed.store, view) == [
        (
            f"trial {closed.claim.study_id}.adamp.3: a client saw it completed with value 0.9, but now it "
            "is 0.1, as a client saw it later"
        )
    ]


def test_a_missing_copy_is_a_violation_only_once_it_is_due(play: SimulatedDispatcher) -> None:
    run = play.run(arms=["adamp"], budget={"trials_per_arm": 1, "epochs": 2})
    run.complete(run.begin(0)[0], 0.5)
    run.writer.close(StudyMove.FINISH)
    assert broken(run.store) == []
    (violation,) = broken(run.store, are_copies_due=True)
    assert violation.endswith("adamp.0 is missing")
