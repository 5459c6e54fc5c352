"""The scheduler charges every trial its share of the wall time of its packs, whatever the outcome."""

import pytest
from running import Running

from studies.store import Store, tables
from workers.worker_failures import WorkerFailure

__all__: list[str] = []


@pytest.fixture
def running(store: Store) -> Running:
    """A study of one arm, whose packs hold two trials."""
    return Running(
        store,
        slots=1,
        arms=["adamp"],
        budget={"trials_per_arm": 2, "epochs": 2},
        resources={"max_pack_size": 2},
    )


def charged(running: Running) -> list[float]:
    """Return the seconds that each trial has been charged."""
    t = tables.trial.c
    with running.store._database.read() as connection:
        return list(
            connection.execute(
                tables.trial.select().with_only_columns(t.charged_s).order_by(t.number)
            ).scalars()
        )


def test_members_share_the_wall_time_from_the_workers_start_to_the_last_report(running: Running) -> None:
    pack = running.begin("p")
    assert len(pack.members) == 2
    # Loading data, measuring stack widths and compiling happen before the first report, and are charged.
    running.seconds += 60.0
    running.report(pack, epoch=1, value=lambda *_: 0.5)
    assert charged(running) == [30.0, 30.0]
    running.seconds += 10.0
    running.report(pack, epoch=2, value=lambda *_: 0.5)
    running.recorder.ended("p")
    assert charged(running) == [35.0, 35.0]


def test_the_other_members_are_charged_for_a_diverged_ones_part(running: Running) -> None:
    pack = running.begin("p")
    first, second = (member.trial_id for member in pack.members)
    values = {first: None, second: 0.5}
    running.seconds += 10.0
    running.report(pack, epoch=1, value=lambda trial, _: values[trial])
    running.seconds += 10.0
    running.report(pack, epoch=2, value=lambda trial, _: values[trial])
    assert sorted(charged(running)) == [5.0, 15.0]


def test_a_failed_pack_is_charged_until_its_failure_and_again_when_it_is_repeated(running: Running) -> None:
    pack = running.begin("p")
    running.seconds += 10.0
    running.report(pack, epoch=1, value=lambda *_: 0.5)
    running.seconds += 8.0
    running.recorder.ended("p", worker_failure=WorkerFailure("its worker died"))
    assert charged(running) == [9.0, 9.0]
    again = running.begin("q")
    assert again.from_epoch == 0
    running.seconds += 20.0
    running.report(again, epoch=1, value=lambda *_: 0.5)
    assert charged(running) == [9.0 + 20.0 / len(again.members)] * 2


def test_a_pack_that_waits_for_a_worker_is_not_charged(running: Running) -> None:
    assert running.scheduler.next_pack("p") is not None
    running.seconds += 60.0
    running.scheduler.requeue_all(reason="the run ends")
    assert charged(running) == [0.0, 0.0]


def test_a_repeated_last_report_is_charged_once(running: Running) -> None:
    pack = running.begin("p")
    running.seconds += 10.0
    running.report(pack, epoch=1, value=lambda *_: 0.5)
    running.seconds += 2.0
    running.report(pack, epoch=1, value=lambda *_: 0.5, with_checkpoints=True)
    running.recorder.ended("p", worker_failure=WorkerFailure("its node ends", is_charged=False))
    assert charged(running) == [6.0, 6.0]
