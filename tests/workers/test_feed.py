"""The feed that hands out packs: fair between arms, fed by a real store, taken up where its record stands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import catalog, study_body

from studies.spec import parse_spec
from studies.states import TrialState
from studies.store import Claim, Store
from workers.pack import EpochReport, Measurement, MemberReport, Outcome, Pack
from workers.tune import PackFeed

__all__: list[str] = []


class Running:
    """A study on record and the feed of its run."""

    def __init__(self, store: Store, **fields: Any) -> None:
        self.store = store
        self.study = store.submit(parse_spec(study_body(sampler="random", **fields)))
        claim = store.claim_next(dispatcher="here", lease_s=60.0)
        assert claim is not None
        self.claim: Claim = claim
        self.feed = self.take_up()

    def take_up(self) -> PackFeed:
        """Return a feed made from the record alone."""
        self.writer = self.store.run_writer(self.claim, lease_s=60.0)
        return PackFeed(self.study.spec, self.writer.plan(), writer=self.writer, record=self.writer.trials(), patience_s=1.0)

    def begin(self, pack_id: str) -> Pack:
        """Hand out the next pack and start it."""
        pack = self.feed.next_pack(pack_id)
        assert pack is not None
        self.feed.started(pack_id)
        return pack

    def finish(self, pack: Pack, *, value: float | None = 0.5) -> None:
        """Report every epoch of a pack of one; None lets it diverge in its first."""
        (member,) = pack.members
        last = pack.to_epoch if value is not None else 1
        for epoch in range(1, last + 1):
            outcome = None
            if epoch == last:
                outcome = (
                    Outcome(state="diverged", reason="training loss became nan")
                    if value is None
                    else Outcome(state="completed", value=value, best_epoch=epoch, test_value=value)
                )
            said = MemberReport(
                trial_id=member.trial_id, attempt=member.attempt, measurement=Measurement(epoch=epoch, elapsed_s=float(epoch)), outcome=outcome
            )
            self.feed.reported(pack.pack_id, EpochReport(pack_id=pack.pack_id, epoch=epoch, members=(said,)), worker="here:1")
        self.feed.ended(pack.pack_id)

    def states(self) -> list[str]:
        """Return the states of all trials, by arm and number."""
        return [t.state.value for t in sorted(self.store.every_trial(self.study.id), key=lambda t: (t.arm, t.number))]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    opened.announce(catalog(), dispatcher="here")
    yield opened
    opened.close()


def test_arms_take_turns_and_each_begins_with_its_defaults(store: Store) -> None:
    running = Running(store)
    packs = [running.begin(f"p{n}") for n in range(6)]
    assert [pack.optimizer for pack in packs] == ["adamp", "adamw"] * 3
    defaults = {arm.name: arm.defaults for arm in store.arms(running.study.id)}
    assert [pack.members[0].parameters == defaults[pack.optimizer] for pack in packs] == [True, True, False, False, False, False]
    assert len({pack.members[0].seed for pack in packs}) == 1
    assert running.feed.next_pack("p7") is None
    assert not running.feed.is_spent
    for pack in packs:
        running.finish(pack)
    assert running.feed.is_spent
    assert running.states() == ["completed"] * 6


def test_a_trial_is_queued_until_its_pack_really_starts(store: Store) -> None:
    running = Running(store)
    assert running.feed.next_pack("p") is not None
    assert running.states() == ["queued"]
    running.feed.started("p")
    assert running.states() == ["running"]


def test_a_lost_worker_returns_its_trial_to_the_head_of_the_queue(store: Store) -> None:
    running = Running(store)
    first = running.begin("a")
    running.feed.ended("a", lost="its worker was lost")
    again = running.begin("b")
    assert again.members[0].trial_id == first.members[0].trial_id
    assert again.members[0].parameters == first.members[0].parameters
    assert again.members[0].attempt == 2


def test_what_a_lost_worker_still_says_is_refused(store: Store) -> None:
    running = Running(store)
    lost = running.begin("a")
    running.feed.ended("a", lost="its worker was lost")
    running.begin("b")
    running.finish(lost, value=0.9)
    trial = store.trial(lost.members[0].trial_id)
    assert (trial.state, trial.value, trial.epochs_done) == (TrialState.RUNNING, None, 0)


def test_a_python_error_fails_the_trial_without_a_second_try(store: Store) -> None:
    running = Running(store)
    running.begin("a")
    running.feed.ended("a", failure="ValueError: no such layer")
    (trial,) = store.every_trial(running.study.id)
    assert (trial.state, trial.reason, trial.attempt) == (TrialState.FAILED, "ValueError: no such layer", 1)


def test_a_workload_that_only_fails_is_given_up_before_the_whole_budget_is_spent(store: Store) -> None:
    running = Running(store, budget={"trials_per_arm": 40, "epochs": 1})
    for n in range(10):
        running.begin(f"p{n}")
        running.feed.ended(f"p{n}", failure="ValueError: no such layer")
    assert running.feed.next_pack("one more") is None
    assert running.feed.is_spent


def test_divergence_is_a_result_and_is_charged(store: Store) -> None:
    running = Running(store)
    for n in range(6):
        running.finish(running.begin(f"p{n}"), value=None)
    assert running.feed.is_spent
    assert running.states() == ["diverged"] * 6


def test_no_more_packs_than_the_study_allows_are_in_flight(store: Store) -> None:
    running = Running(store, resources={"max_concurrent_packs": 1})
    pack = running.begin("a")
    assert running.feed.next_pack("b") is None
    running.finish(pack)
    assert running.feed.next_pack("b") is not None


def test_a_draining_feed_hands_out_nothing(store: Store) -> None:
    running = Running(store)
    running.feed.is_draining = True
    assert running.feed.next_pack("a") is None
    running.feed.is_draining = False
    assert running.feed.next_pack("a") is not None


def test_a_feed_made_from_the_record_goes_on_as_the_last_one_would_have(store: Store) -> None:
    whole, cut = Running(store), Running(store)
    expected = []
    for n in range(6):
        pack = whole.begin(f"p{n}")
        expected.append((pack.optimizer, pack.members[0].parameters))
        whole.finish(pack, value=0.1 * n)
    got = []
    for n in range(6):
        if n == 3:
            cut.feed = cut.take_up()
        pack = cut.begin(f"p{n}")
        got.append((pack.optimizer, pack.members[0].parameters))
        cut.finish(pack, value=0.1 * n)
    assert got == expected


def test_trials_that_the_record_holds_as_queued_come_first(store: Store) -> None:
    running = Running(store)
    pack = running.begin("a")
    running.writer.give_back([(pack.members[0].trial_id, 1)], reason="handed over", max_retries=3, is_charged=False)
    running.feed = running.take_up()
    again = running.begin("b")
    assert again.members[0].trial_id == pack.members[0].trial_id
    assert again.members[0].attempt == 2
