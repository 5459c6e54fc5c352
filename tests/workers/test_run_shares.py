"""A run and its share, without Ray.

It rests while it has none, drains before it makes room, and wants as much as would fit.
"""

import threading
import time
from typing import Any

from catalogs import study_body
from playing import Play

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store.tables import study
from workers.run import StudyRun
from workers.scheduler import PackScheduler

__all__: list[str] = []

MACHINES = "10.0.0.1:6379"
LONG_S = 10.0**9


def begun(play: Play, owner: str, *, fitting: int = 1, turn_s: float = LONG_S, **resources: Any) -> StudyRun:
    """Return the run of a new study of an owner, taken up as its process does, on machines that so many packs
    fit on.
    """
    play.store.submit(
        parse_spec(study_body(sampler="random", resources=resources)), by=Actor(name=owner, role="submitter")
    )
    claim = play.claim().claim
    made = StudyRun(
        play.store,
        claim,
        lease_s=600.0,
        checkpoints="/nowhere",
        machines=MACHINES,
        turn_s=turn_s,
        fitting=lambda _cpus, _gpus: fitting,
    )
    writer = play.store.run_writer(claim, lease_s=600.0)
    made._feed = PackScheduler(
        made.spec,
        writer.plan(),
        writer=writer,
        checkpoints="/nowhere",
        slots=made._count_slots,
        patience_s=1.0,
    )
    writer.renew(wanted=min(made._feed.wanted, fitting), machines=MACHINES)
    return made


def test_where_one_pack_fits_one_run_has_it_and_the_other_rests(play: Play) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    packs = [(made._feed.next_pack("p") if made._feed else None) for made in runs]
    assert sorted(made._is_resting for made in runs) == [False, True]
    for made, pack in zip(runs, packs, strict=True):
        assert made._feed is not None
        assert (pack is None) is made._is_resting
        assert made._feed.is_draining is made._is_resting
        assert made._feed.wanted >= 1, "whoever rests wants all the same"


def test_a_rest_ends_when_the_other_has_ended(play: Play) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    for made in runs:
        made._count_slots()
    (resting,) = (made for made in runs if made._is_resting)
    (other,) = (made for made in runs if not made._is_resting)
    waiting = threading.Thread(target=resting._rest, daemon=True)
    waiting.start()
    time.sleep(0.4)
    assert waiting.is_alive()
    other._writer.close(StudyMove.FINISH)
    waiting.join(10)
    assert not waiting.is_alive()
    assert not resting._is_to_drain


def test_a_rest_ends_when_the_run_has_to_leave(play: Play) -> None:
    runs = [begun(play, "ada"), begun(play, "bob")]
    for made in runs:
        made._count_slots()
    (resting,) = (made for made in runs if made._is_resting)
    resting.leave()
    resting._rest()
    assert resting._why_handed_back() == "its run was asked to leave"


def test_a_run_that_makes_room_begins_no_more_packs_and_finishes_those_that_are_out(play: Play) -> None:
    made = begun(play, "ada", fitting=2, turn_s=1.0, max_pack_size=1)
    assert made._feed is not None
    assert made._feed.next_pack("a") is not None
    made._feed.started("a")
    play.store.submit(parse_spec(study_body()), by=Actor(name="bob", role="submitter"))
    with play.store._database.write() as connection:
        for row in connection.execute(study.select()).all():
            past = {
                name: getattr(row, name).replace(year=2020)
                for name in ("created_at", "turn_at")
                if getattr(row, name) is not None
            }
            connection.execute(study.update().where(study.c.id == row.id).values(**past))
    made._slots = (0.0, 2)
    assert made._feed.next_pack("b") is None
    assert made._is_yielding
    assert not made._feed.is_drained, "a pack is out"
    assert made._why_handed_back() == "its run made room for another study"


def test_alone_a_run_has_everything_and_keeps_a_pack_in_waiting(play: Play) -> None:
    made = begun(play, "ada", fitting=2, max_pack_size=1)
    assert made._feed is not None
    assert [made._feed.next_pack(f"p{n}") is not None for n in range(4)] == [True, True, True, False]
    assert not made._feed.is_sharing


def test_sharing_a_run_keeps_none_in_waiting(play: Play) -> None:
    runs = [begun(play, owner, fitting=4, max_pack_size=1) for owner in ("ada", "bob")]
    for made in runs:
        assert made._feed is not None
        assert [made._feed.next_pack(f"p{n}") is not None for n in range(3)] == [True, True, False]
        assert made._feed.is_sharing
