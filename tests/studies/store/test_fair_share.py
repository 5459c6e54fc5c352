"""Fair shares: the order of the queue, how many packs each run may train, and which run yields."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from catalogs import study_body
from hypothesis import given
from hypothesis import strategies as st
from simulated_dispatch import SimulatedDispatcher, SimulatedRun

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.store.fair_share import Contender, allot, pack_limit
from studies.store.tables import study

__all__: list[str] = []

MACHINES = "10.0.0.1:6379"


def submit(play: SimulatedDispatcher, owner: str | None, priority: str = "normal") -> str:
    """Submit a study of an owner and return its id."""
    spec = parse_spec(study_body(resources={"priority": priority}))
    return play.store.submit(spec, by=Actor(name=owner, role="admin")).id


def run(
    play: SimulatedDispatcher,
    owner: str | None,
    priority: str = "normal",
    *,
    wanted: int = 100,
    machines: str = MACHINES,
) -> SimulatedRun:
    """Submit a study, claim it and report how many packs it wants."""
    study_id = submit(play, owner, priority)
    found = play.claim()
    assert found.claim.study_id == study_id
    found.writer.renew(wanted=wanted, machines=machines)
    return found


def limits(*runs: SimulatedRun, slots: int = 8) -> list[int]:
    """Return how many packs each run may train."""
    return [each.writer.pack_limit(slots=slots)[0] for each in runs]


def yielding(*runs: SimulatedRun) -> list[bool]:
    """Return which runs should yield."""
    return [each.writer.pack_limit(slots=8)[1] for each in runs]


def age(store: Store, seconds: float, *study_ids: str) -> None:
    """Move the times of some or all studies into the past."""
    with store._database.write() as connection:
        for row in connection.execute(study.select()).all():
            if row.id in study_ids or not study_ids:
                past = {
                    name: None if (at := getattr(row, name)) is None else at - timedelta(seconds=seconds)
                    for name in ("created_at", "turn_at")
                }
                connection.execute(study.update().where(study.c.id == row.id).values(**past))


def test_a_single_study_gets_all_machines(play: SimulatedDispatcher) -> None:
    assert limits(run(play, "ada")) == [8]


def test_two_owners_get_equal_shares(play: SimulatedDispatcher) -> None:
    assert limits(run(play, "ada"), run(play, "bob")) == [4, 4]


def test_an_owner_gains_nothing_by_submitting_more_studies(play: SimulatedDispatcher) -> None:
    runs = [run(play, owner) for owner in ("ada", "ada", "ada", "bob")]
    *adas, bobs = limits(*runs, slots=12)
    assert (sum(adas), bobs) == (6, 6)
    assert sorted(adas) == [2, 2, 2]


def test_studies_on_an_open_service_get_equal_shares(play: SimulatedDispatcher) -> None:
    assert limits(run(play, None), run(play, None)) == [4, 4]


def test_a_small_study_is_not_starved_by_a_large_one(play: SimulatedDispatcher) -> None:
    large, small = run(play, "ada", wanted=10_000), run(play, "bob", wanted=2)
    assert limits(large, small) == [6, 4], "the large study gets the slots that the small one does not want"
    small.writer.renew(wanted=0)
    assert limits(large) == [8]
    small.writer.renew(wanted=50)
    assert limits(large, small) == [4, 4]


def test_a_priority_weighs_three_times_the_one_below(play: SimulatedDispatcher) -> None:
    runs = [run(play, "ada", priority) for priority in ("high", "normal", "low")]
    assert limits(*runs, slots=13) == [9, 3, 1]


def test_if_studies_outnumber_slots_they_rotate_in_time_slices(play: SimulatedDispatcher) -> None:
    runs = [run(play, owner) for owner in ("ada", "bob", "eve")]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with play.store._database.read() as connection:
        turns = [
            [
                pack_limit(
                    connection,
                    each.claim.study_id,
                    slots=1,
                    time_slice_s=120.0,
                    now=start + timedelta(seconds=150 * n),
                )
                for each in runs
            ]
            for n in range(12)
        ]
    assert all(sum(turn) == 1 for turn in turns)
    assert all(sum(turn[n] for turn in turns) >= 3 for n in range(3))


def test_a_study_that_needs_gpus_shares_them_only_with_those_that_need_them_too(
    play: SimulatedDispatcher,
) -> None:
    spec = parse_spec(study_body(resources={"gpus_per_pack": 1.0}))
    ada = run(play, "ada")
    play.store.submit(spec, by=Actor(name="bob", role="submitter"))
    bob = play.claim()
    bob.writer.renew(wanted=1, machines=MACHINES)
    assert limits(bob, slots=1) == [1]
    assert limits(ada, slots=8) == [7], "a pack on the GPU also needs a core"


def test_runs_on_other_machines_do_not_count(play: SimulatedDispatcher) -> None:
    here, there = run(play, "ada"), run(play, "bob", machines="10.0.0.2:6379")
    assert limits(here, there) == [8, 8]


def test_a_run_that_is_lost_paused_or_has_not_reported_yet_does_not_count(play: SimulatedDispatcher) -> None:
    here, lost = run(play, "ada"), run(play, "bob")
    lost.lapse()
    assert limits(here) == [8]
    submit(play, "eve")
    play.claim(lease_s=600.0)
    assert limits(here) == [8], "the run has not yet reported how many packs it wants"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "ada", "bob", "eve"]),
            st.integers(0, 2),
            st.one_of(st.integers(0, 9), st.just(math.inf)),
        ),
        max_size=6,
    ),
    st.integers(0, 20),
)
def test_allotments_use_every_wanted_slot_once_and_never_exceed_what_a_study_wants(
    drawn: list[tuple[str | None, int, float]], slots: int
) -> None:
    studies = [
        Contender(str(n), owner, priority, wanted) for n, (owner, priority, wanted) in enumerate(drawn)
    ]
    given_out = allot(studies, slots)
    assert all(0 <= given_out[each.study_id] <= each.wanted for each in studies)
    assert sum(given_out.values()) == min(slots, sum(each.wanted for each in studies))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_owners_are_served_equally_over_a_full_rotation_of_time_slices(
    owners: int, studies: int, slots: int
) -> None:
    shares = [Contender(f"{owner}-{n}", str(owner), 1) for owner in range(owners) for n in range(studies)]
    turns = [allot(shares, slots, time_slice=turn) for turn in range(owners * studies)]
    sums = [
        sum(turn[each.study_id] for turn in turns for each in shares if each.owner == str(owner))
        for owner in range(owners)
    ]
    assert max(sums) == min(sums)
    each = [sum(turn[share.study_id] for turn in turns) for share in shares]
    assert min(each) > 0, "every owner must get slots"


@pytest.mark.parametrize("owners", [("ada", "ada", "ada"), ("ada", "bob", "eve")])
def test_slots_that_a_higher_priority_leaves_rotate_equally_among_the_others(
    owners: tuple[str, str, str],
) -> None:
    high, *normal = (Contender(str(n), owner, 2 if n == 0 else 1) for n, owner in enumerate(owners))
    turns = [allot([high, *normal], 2, time_slice=turn) for turn in range(60)]
    assert [sum(turn[each.study_id] for turn in turns) for each in (high, *normal)] == [60, 30, 30]


@given(
    st.lists(st.tuples(st.sampled_from(["ada", "bob", "eve"]), st.integers(0, 2)), min_size=1, max_size=6),
    st.integers(1, 30),
)
def test_owners_of_one_priority_differ_by_at_most_one_pack(drawn: list[tuple[str, int]], slots: int) -> None:
    studies = [Contender(str(n), owner, 1) for n, (owner, _) in enumerate(drawn)]
    allotment = allot(studies, slots)
    sums = [
        sum(allotment[each.study_id] for each in studies if each.owner == owner)
        for owner in {each.owner for each in studies}
    ]
    assert max(sums) - min(sums) <= 1


def test_an_owner_without_a_run_is_claimed_before_one_with_a_run(play: SimulatedDispatcher) -> None:
    first, second = submit(play, "ada"), submit(play, "ada")
    third = submit(play, "bob")
    assert [play.claim().claim.study_id for _ in range(3)] == [first, third, second]


def test_high_priority_is_claimed_first_and_low_last(play: SimulatedDispatcher) -> None:
    low, normal, high = (submit(play, "ada", priority) for priority in ("low", "normal", "high"))
    assert [play.claim().claim.study_id for _ in range(3)] == [high, normal, low]


def test_owners_are_claimed_in_rotation(play: SimulatedDispatcher) -> None:
    adas, bobs = [submit(play, "ada") for _ in range(3)], [submit(play, "bob") for _ in range(3)]
    claimed: list[str] = []
    for _ in range(6):
        found = play.claim()
        claimed.append(found.claim.study_id)
        found.writer.close(StudyMove.FINISH)
    assert claimed == [adas[0], bobs[0], adas[1], bobs[1], adas[2], bobs[2]]


def test_an_owner_with_two_runs_yields_to_an_owner_without_one(play: SimulatedDispatcher) -> None:
    first, second, third = run(play, "ada"), run(play, "bob"), run(play, "ada")
    submit(play, "eve")
    assert yielding(first, second, third) == [False] * 3, "a slot may be about to become free"
    age(play.store, 20.0)
    assert yielding(first, second, third) == [False] * 3, "no run has used its time slice yet"
    age(play.store, 200.0)
    assert yielding(first, second, third) == [True, False, False]
    play.store.release(first.claim)
    assert play.claim().study.owner == "eve"
    assert yielding(second, third) == [False, False]


def test_a_run_that_yielded_waits_for_the_next_time_slice(play: SimulatedDispatcher) -> None:
    ada = run(play, "ada")
    submit(play, "bob")
    age(play.store, 200.0)
    assert yielding(ada) == [True]
    play.store.release(ada.claim)
    bob = play.claim()
    bob.writer.renew(wanted=5, machines=MACHINES)
    assert (bob.study.owner, yielding(bob)) == ("bob", [False])
    age(play.store, 200.0)
    assert yielding(bob) == [True]


def test_no_run_yields_to_an_owner_who_has_a_run(play: SimulatedDispatcher) -> None:
    runs = [run(play, "ada"), run(play, "bob")]
    submit(play, "ada")
    age(play.store, 500.0)
    assert yielding(*runs) == [False, False]


def test_no_run_yields_on_an_open_service(play: SimulatedDispatcher) -> None:
    runs = [run(play, None), run(play, None)]
    submit(play, None)
    age(play.store, 500.0)
    assert yielding(*runs) == [False, False]


def test_the_lowest_priority_yields_to_a_higher_one_before_its_time_slice_ends(
    play: SimulatedDispatcher,
) -> None:
    low, normal = run(play, "ada", "low"), run(play, "ada")
    waiting = submit(play, "ada", "high")
    age(play.store, 20.0, waiting)
    assert yielding(low, normal) == [True, False]
    play.store.release(low.claim)
    assert play.claim().claim.study_id == waiting


def test_only_one_run_yields_until_its_place_is_taken(play: SimulatedDispatcher) -> None:
    first, second = run(play, "ada", "low"), run(play, "ada", "low")
    waiting = submit(play, "ada", "high")
    age(play.store, 20.0, waiting)
    assert yielding(first, second) == [True, False]
    play.store.release(first.claim)
    assert yielding(second) == [False], "the replacement may still be starting"
    age(play.store, 20.0)
    assert yielding(second) == [True], "no replacement started"


def test_a_lower_priority_never_displaces_a_higher_one(play: SimulatedDispatcher) -> None:
    runs = [run(play, "ada"), run(play, "ada", "high")]
    submit(play, "bob", "low")
    age(play.store, 500.0)
    assert yielding(*runs) == [False, False]


@pytest.mark.parametrize("owner", ["ada", None])
def test_the_time_slice_of_a_study_never_starts_in_the_future(
    play: SimulatedDispatcher, owner: str | None
) -> None:
    found = run(play, owner)
    with play.store._database.read() as connection:
        (at,) = connection.execute(
            study.select().with_only_columns(study.c.turn_at).where(study.c.id == found.claim.study_id)
        ).one()
    assert at <= datetime.now(UTC)
