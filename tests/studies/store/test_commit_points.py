"""A process killed at any commit: each transaction is stored completely or not at all, and a run resumes."""

import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalogs import study_body
from commit_faults import Killed, commits, lost_answers
from invariants import ClientView, broken
from postgres_server import PostgresServer
from running import Running
from simulated_dispatch import SimulatedDispatcher, report

from studies.errors import StoreUnavailable
from studies.extension import parse_extension
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.trials import NewTrial

__all__: list[str] = []

# Two arms, rungs and confirmation runs, so that a run makes every kind of write.
STUDY: dict[str, Any] = {
    "budget": {"trials_per_arm": 3, "epochs": 4},
    "pruner": {"kind": "asha", "min_epochs": 1, "reduction_factor": 2},
    "confirmation": {"seeds": 1},
    "resources": {"max_pack_size": 2},
}


def value(trial_id: str, epoch: int) -> float | None:
    """Return a trial's validation value, the same in every attempt; one trial diverges."""
    chance = random.Random(trial_id.partition(".")[2])
    return None if trial_id.endswith("adamw.1") and epoch > 1 else round(chance.random() + epoch / 10, 6)


def carry_out(running: Running) -> None:
    """Make all writes of a run, including those of its other threads."""
    running.writer.record_environment({"torch": "2.13"})
    packs = 0
    while (pack := running.scheduler.next_pack(f"p{running.claim.attempt}-{packs}")) is not None:
        packs += 1
        running.recorder.started(pack.pack_id)
        running.writer.renew(wanted=1, machines="here")
        running.finish(pack, value=value)
        running.writer.report_progress()
        running.store.copy_to_optuna(running.study.id)
    running.close()
    running.store.copy_to_optuna(running.study.id)


def outcome(store: Store, study_id: str) -> list[tuple[Any, ...]]:
    """Return a study's results without the numbers of attempts."""
    trials = store.every_trial(study_id, phase=None)
    return sorted(
        (t.arm, t.phase, t.number, t.seed, t.state.value, str(t.value), t.epochs_done) for t in trials
    )


def killed_and_resumed(store: Store, kill: Any) -> tuple[bool, list[tuple[Any, ...]], list[str]]:
    """Run a study to its end, killing its run once.

    Return whether it was killed, the study's outcome, and the violated invariants.
    """
    view = ClientView()
    running = Running(store, slots=1, **STUDY)
    view.accepted(running.study)
    was_killed = False
    try:
        with commits(store, kill=kill):
            carry_out(running)
    except Killed:
        was_killed = True
        between = broken(store, view)
        view.saw(store.every_trial(running.study.id, phase=None))
        # The dispatcher finds the dead process and releases the study; that does nothing if the run had just
        # closed the study.
        store.release(running.claim)
        assert not [*between, *broken(store, view)], kill
        if store.study(running.study.id).state is StudyState.RUNNING:
            running.claim_next()
            carry_out(running)
        store.complete_copies()
    return was_killed, outcome(store, running.study.id), broken(store, view, are_copies_due=True)


def killed_at_points(fresh: Callable[[], Store], part: slice) -> int:
    """Kill a run at its commits, a part of them in random order, each time on a fresh database.

    Return the total number of commits.
    """
    store = fresh()
    running = Running(store, slots=1, **STUDY)
    with commits(store) as counted:
        carry_out(running)
    expected = outcome(store, running.study.id)
    store.close()
    points = [(moment, n) for n in range(1, counted.count + 1) for moment in ("before", "after")]
    random.Random(7).shuffle(points)
    for kill in points[part]:
        store = fresh()
        was_killed, came_to, wrong = killed_and_resumed(store, kill)
        store.close()
        assert was_killed, kill
        assert not wrong, (kill, wrong)
        assert came_to == expected, kill
    return len(points)


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Return a function that opens a new database with schema and catalogue each time."""
    count = itertools.count()

    def opened() -> Store:
        if request.param == "sqlite":
            path = tmp_path / f"{next(count)}.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), path)
            return Store.open(f"sqlite:///{path}", migrate=False)
        server: PostgresServer = request.getfixturevalue("postgres")
        return Store.open(
            server.url(server.create(template=request.getfixturevalue("postgres_template"))), migrate=False
        )

    return opened


SQLITE, POSTGRESQL = "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)


@pytest.mark.parametrize("fresh", [SQLITE], indirect=True)
def test_a_run_killed_at_a_commit_is_resumed_to_the_same_result(fresh: Callable[[], Store]) -> None:
    assert killed_at_points(fresh, slice(4)) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fresh", [SQLITE, POSTGRESQL], indirect=True)
@pytest.mark.parametrize("part", range(4))
def test_a_run_killed_at_any_commit_is_resumed_to_the_same_result(
    fresh: Callable[[], Store], part: int
) -> None:
    assert killed_at_points(fresh, slice(part, None, 4)) > 100


def _submit(play: SimulatedDispatcher, _closed: str, _waiting: str) -> object:
    return play.submit()


def _extend(play: SimulatedDispatcher, closed: str, _waiting: str) -> object:
    return play.store.extend(closed, parse_extension({"trials_per_arm": 4, "arms": ["sgdp"]}))


def _cancel(play: SimulatedDispatcher, _closed: str, waiting: str) -> object:
    return play.store.move(waiting, StudyMove.CANCEL)


def _claim(play: SimulatedDispatcher, _closed: str, _waiting: str) -> object:
    return play.store.claim_next(dispatcher="there", lease_s=60)


def _settle(play: SimulatedDispatcher, _closed: str, _waiting: str) -> None:
    play.store.settle_lapsed_leases()


@pytest.mark.parametrize("do", [_submit, _extend, _cancel, _claim, _settle])
def test_changes_of_users_and_dispatchers_are_stored_completely_or_not_at_all(
    play: SimulatedDispatcher, do: Callable[[SimulatedDispatcher, str, str], object]
) -> None:
    closed = play.run(arms=["adamp"], budget={"trials_per_arm": 1, "epochs": 2})
    closed.complete(closed.begin(0)[0], 0.5)
    closed.writer.close(StudyMove.FINISH)
    lost = play.run()
    lost.begin(0)
    lost.lapse()
    waiting = play.submit()

    def everything() -> object:
        found = [play.store.study(study.id) for study in play.store.studies().items]
        return (
            found,
            [play.store.every_trial(study.id) for study in found],
            [play.store.events(study.id) for study in found],
        )

    before = everything()
    with pytest.raises(Killed), commits(play.store, kill=("before", 1)):
        do(play, closed.claim.study_id, waiting)
    assert everything() == before
    assert broken(play.store) == []
    with pytest.raises(Killed), commits(play.store, kill=("after", 1)):
        do(play, closed.claim.study_id, waiting)
    assert everything() != before
    assert broken(play.store) == []


@pytest.mark.parametrize("answers", [1, 2])
def test_a_submission_whose_answer_was_lost_is_found_by_its_idempotency_key(
    play: SimulatedDispatcher, answers: int
) -> None:
    spec = parse_spec(study_body())
    for _ in range(answers):
        with lost_answers(play.store, count=1), pytest.raises(StoreUnavailable):
            play.store.submit(spec, idempotency_key="once")
    study = play.store.submit(spec, idempotency_key="once")
    assert [one.id for one in play.store.studies().items] == [study.id]


def test_every_write_of_a_run_can_be_repeated_after_its_answer_was_lost(play: SimulatedDispatcher) -> None:
    run = play.run(arms=["adamp"], pruner="asha", budget={"trials_per_arm": 4, "epochs": 9})
    defaults = run.writer.plan().arms[0].defaults
    new = [NewTrial("adamp", n, "sampled", defaults, seed=7, to_epoch=1) for n in range(3)]

    def twice(write: Callable[[], Any]) -> Any:
        with lost_answers(run.store, count=1), pytest.raises(StoreUnavailable):
            write()
        return write()

    trials = twice(lambda: run.writer.create(new))
    twice(lambda: run.writer.start(trials))
    twice(
        lambda: run.writer.record(
            [report(trial, 1, validation_metric=0.5, checkpoint="file:///x") for trial in trials[:2]]
        )
    )
    twice(lambda: run.writer.settle(promoted=[(trials[0].id, 1, 9)], pruned=[(trials[1].id, 1)]))
    twice(lambda: run.writer.requeue([(trials[2].id, 1)], reason="its worker was lost", max_retries=3))
    twice(run.writer.renew)
    twice(lambda: run.writer.record_environment({"torch": "2"}))
    twice(run.writer.report_progress)
    twice(run.writer.resume_running)
    assert [(t.number, t.attempt, t.retries, t.state) for t in run.writer.trials()] == [
        (0, 1, 0, TrialState.QUEUED),
        (1, 1, 0, TrialState.PRUNED),
        (2, 2, 1, TrialState.QUEUED),
    ]
    assert broken(run.store) == []
