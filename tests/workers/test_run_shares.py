"""A run and its fair share, without Ray: it waits without one, and drains before it yields."""

import threading
import time
from typing import Any

from catalogs import study_body
from simulated_dispatch import SimulatedDispatcher

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store.tables import study
from workers.scheduler import PackScheduler
from workers.study_run import StudyRun

__all__: list[str] = []

MACHINES = "10.0.0.1:6379"
LONG_S = 10.0**9


def begun(
    play: SimulatedDispatcher, owner: str, *, fitting: int = 1, turn_s: float = LONG_S, **resources: Any
) -> StudyRun:
    """Return the run of an owner's new study, on a cluster with `fitting` slots."""
    play.store.submit(
        parse_spec(study_body(sampler="random", resources=resources)), by=Actor(name=owner, role="submitter")
    )
    claim = play.claim().claim
    made = StudyRun(
        play.store,
        claim,
        lease_s=600.0,
        checkpoints="/nowhere",
        artifacts="/nowhere",
        machines=MACHINES,
        turn_s=turn_s,
        count_slots=lambda _cpus, _gpus, _processes: fitting,
    )
    made._make_scheduler(made._writer.plan())
    made._writer.renew(wanted=min(scheduler(made).wanted, fitting), machines=MACHINES)
    return made


def scheduler(made: StudyRun) -> PackScheduler:
    assert made._scheduler is not None
    return made._scheduler


def test_if_only_one_pack_fits_one_run_has_it_and_the_other_has_no_share(play: SimulatedDispatcher) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    packs = [scheduler(made).next_pack("p") for made in runs]
    assert sorted(made.mode.has_no_share for made in runs) == [False, True]
    for made, pack in zip(runs, packs, strict=True):
        assert (pack is None) is made.mode.has_no_share
        assert made.mode.is_draining is made.mode.has_no_share
        assert scheduler(made).wanted >= 1, "a run without a share still asks for one"


def test_a_run_gets_a_share_once_the_other_has_ended(play: SimulatedDispatcher) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    for made in runs:
        made._count_slots()
    (resting,) = (made for made in runs if made.mode.has_no_share)
    (other,) = (made for made in runs if not made.mode.has_no_share)
    waiting = threading.Thread(target=resting._wait_for_share, daemon=True)
    waiting.start()
    time.sleep(0.4)
    assert waiting.is_alive()
    other._writer.close(StudyMove.FINISH)
    waiting.join(10)
    assert not waiting.is_alive()
    assert not resting.mode.is_draining


def test_a_run_stops_waiting_for_a_share_when_it_must_leave(play: SimulatedDispatcher) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    for made in runs:
        made._count_slots()
    (resting,) = (made for made in runs if made.mode.has_no_share)
    resting.leave()
    resting._wait_for_share()
    assert resting._requeue_reason() == "its run was asked to leave"


def test_a_yielding_run_dispatches_no_packs_and_finishes_those_in_flight(play: SimulatedDispatcher) -> None:
    made = begun(play, "ada", fitting=2, turn_s=1.0, max_pack_size=1)
    assert scheduler(made).next_pack("a") is not None
    scheduler(made).recorder.started("a")
    play.store.submit(parse_spec(study_body()), by=Actor(name="bob", role="submitter"))
    with play.store._database.write() as connection:
        for row in connection.execute(study.select()).all():
            past = {
                name: getattr(row, name).replace(year=2020)
                for name in ("created_at", "turn_at")
                if getattr(row, name) is not None
            }
            connection.execute(study.update().where(study.c.id == row.id).values(**past))
    made._slots_counted_at = 0.0
    assert scheduler(made).next_pack("b") is None
    assert made.mode.is_yielding
    assert not scheduler(made).is_drained, "a pack is still in flight"
    assert made._requeue_reason() == "its run made room for another study"


def test_a_run_without_competition_uses_all_slots_and_keeps_a_pack_waiting(play: SimulatedDispatcher) -> None:
    made = begun(play, "ada", fitting=2, max_pack_size=1)
    assert [scheduler(made).next_pack(f"p{n}") is not None for n in range(4)] == [True, True, True, False]
    assert not made.mode.is_sharing


def test_a_sharing_run_keeps_no_pack_waiting(play: SimulatedDispatcher) -> None:
    runs = [begun(play, owner, fitting=4, max_pack_size=1) for owner in ("ada", "bob")]
    for made in runs:
        assert [scheduler(made).next_pack(f"p{n}") is not None for n in range(3)] == [True, True, False]
        assert made.mode.is_sharing
