"""Pairs are added until arms are decided, by looks that depend on stored trials alone."""

import zlib
from collections import Counter
from typing import Any

import pytest
from running import Running

from studies.errors import SpecInvalid
from studies.extension import most_search_trials
from studies.paired_looks import study_looks
from studies.store import Store
from studies.views import TrialView
from workers.pack_protocol import Pack

__all__: list[str] = []

ARMS = ["adamp", "adamw", "stepper"]


def study(*, paired: int = 16, most: int = 40, trials: int = 20, **fields: Any) -> dict[str, Any]:
    until = {"max_pairs": most, **fields.pop("until", {})}
    return {
        "arms": ARMS,
        "budget": {"trials_per_arm": trials, "epochs": 1, "replicates": fields.pop("replicates", 1)},
        "search": {"paired": paired, "verdict_at": 4, "until": until},
        **fields,
    }


class Values:
    """Validation values of trials: noise for each arm and seed, and a lead of some arms."""

    def __init__(self, store: Store, **leads: float) -> None:
        self._store, self._leads = store, leads
        self._known: dict[str, TrialView] = {}

    def __call__(self, trial: str, epoch: int) -> float:
        del epoch
        found = self._known.setdefault(trial, self._store.trial(trial))
        noise = zlib.crc32(f"{found.arm} {found.seed}".encode()) % 1009 / 1009
        return self._leads.get(found.arm, 0.0) + noise / 100


def drawn(running: Running) -> dict[str, list[int]]:
    """Return the pairs of each arm and replicate that were trained."""
    found: dict[str, list[int]] = {}
    for t in running.trials():
        if t.pair_index is not None:
            found.setdefault(f"{t.arm}/{t.replicate}", []).append(t.pair_index)
    return found


def others(running: Running) -> dict[str, int]:
    """Return how many trials of each arm are not paired."""
    trials = running.trials()
    return {arm: sum(t.arm == arm and t.pair_index is None for t in trials) for arm in running.recorder.arms}


def test_a_clear_difference_needs_no_more_pairs_and_a_tie_all_of_them(store: Store) -> None:
    clear = Running(store, **study())
    clear.train_all(value=Values(store, adamp=0.5, adamw=0.2))
    assert {len(pairs) for pairs in drawn(clear).values()} == {16}
    tied = Running(store, **study())
    tied.train_all(value=lambda trial, _epoch: 0.5 + store.trial(trial).seed % 97 / 1000)
    assert {len(pairs) for pairs in drawn(tied).values()} == {40}
    for running in (clear, tied):
        assert others(running) == dict.fromkeys(ARMS, 4), "the budget of default and sampler is the same"
        assert running.scheduler.is_finished
        assert {arm.trials for arm in running.writer.plan().arms} == {len(running.trials()) / 3}
        assert store.study(running.study.id).progress.trials == len(running.trials())
        most = most_search_trials(running.study.spec, running.writer.plan())
        assert most == 3 * 44, "pairs that were added are not counted twice"


def test_blocks_end_at_looks_and_the_sampler_waits_for_the_last(store: Store) -> None:
    running = Running(store, **study(until={"pairs": [["adamw", "adamp"]]}))
    packs: list[Pack] = running.train_all(value=Values(store, stepper=0.5))
    assert packs
    found = study_looks(running.study.spec, running.writer.plan().workload, running.trials())
    assert found.following is None
    assert {len(pairs) for pairs in drawn(running).values()} == {found.planned[found.done - 1]}
    assert found.planned[0] == 16
    for arm in ARMS:
        indices = [t.pair_index for t in running.trials() if t.arm == arm]
        pairs = len(indices) - 4
        assert indices == [None, *range(pairs), None, None, None]


def test_losers_that_are_dropped_get_no_more_pairs(store: Store) -> None:
    running = Running(store, **study(until={"drop_losers": True}))
    running.train_all(value=Values(store, stepper=-0.5))
    pairs = {arm: len(indices) for arm, indices in drawn(running).items()}
    assert pairs["stepper/0"] == 16
    assert pairs["adamp/0"] == pairs["adamw/0"] > 16
    assert others(running) == dict.fromkeys(ARMS, 4)


def test_the_plan_holds_all_pairs_of_an_arm_that_was_dropped_again(store: Store) -> None:
    running = Running(store, **study(until={"drop_losers": True}))
    value = Values(store, stepper=-0.5)
    running.train_all(value=value)
    for totals in ({"arms": [{"optimizer": "adamw", "name": "again"}]}, {"trials_per_arm": 24}):
        running.close()
        running.extend(**totals)
        running.train_all(value=value)
        assert running.scheduler.is_finished
    found = Counter(trial.arm for trial in running.trials())
    assert {arm.name: arm.trials for arm in running.writer.plan().arms} == found


@pytest.mark.parametrize("replicates", [1, 2])
def test_a_run_loaded_at_any_moment_decides_as_before(store: Store, replicates: int) -> None:
    limits = {"max_concurrent_packs": 1, "max_pack_size": 6}
    fields = study(paired=16 // replicates, most=40 // replicates, replicates=replicates, resources=limits)
    fields["budget"]["trials_per_arm"] = 12 if replicates == 2 else 20
    value = Values(store, adamp=0.004)
    whole, cut = Running(store, **fields), Running(store, **fields)
    whole.train_all(value=value, at_once=1)
    cut.train_reloading(value=value)
    seen = [
        [(t.arm, t.number, t.pair_index, t.parameters, t.seed, t.value) for t in running.trials()]
        for running in (whole, cut)
    ]
    assert seen[0] == seen[1]
    assert max(len(pairs) for pairs in drawn(whole).values()) > 16 // replicates
    assert store.study(whole.study.id).progress.trials == len(whole.trials())


def test_epochs_of_pairs_that_were_added_are_planned_as_epochs_of_pairs(store: Store) -> None:
    fields = study(pruner="asha")
    fields["budget"]["epochs"] = 3
    running = Running(store, **fields)
    running.train_all(value=lambda trial, _epoch: 0.5 + store.trial(trial).seed % 97 / 1000)
    assert {len(pairs) for pairs in drawn(running).values()} == {40}
    progress = store.study(running.study.id).progress
    assert progress.epochs == progress.epochs_done


def test_an_arm_that_is_added_later_gets_the_pairs_of_the_others(store: Store) -> None:
    running = Running(store, **study(arms=["adamp", "adamw"]))
    running.train_all(value=lambda trial, _epoch: 0.5 + store.trial(trial).seed % 97 / 1000)
    running.close()
    before = running.trials()
    running.extend(arms=["stepper"])
    running.train_all(value=Values(store, stepper=0.9))
    assert [t for t in running.trials() if t.arm != "stepper"] == before
    assert {len(pairs) for pairs in drawn(running).values()} == {40}
    running.close()
    running.extend(trials_per_arm=24)
    running.train_all(value=Values(store))
    assert {len(pairs) for pairs in drawn(running).values()} == {40}
    assert others(running) == dict.fromkeys(ARMS, 8)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_an_arm_that_is_added_after_an_early_decision_gets_pairs_until_it_is_decided(
    store: Store, sampler: str
) -> None:
    running = Running(store, **study(arms=["adamp", "adamw"], sampler=sampler))
    value = Values(store, adamp=0.3)
    running.train_all(value=value)
    assert {len(pairs) for pairs in drawn(running).values()} == {16}
    running.close()
    running.extend(arms=["stepper"])
    running.train_all(value=value)
    assert running.scheduler.is_finished
    pairs = {arm: len(indices) for arm, indices in drawn(running).items()}
    assert len(set(pairs.values())) == 1
    assert pairs["adamw/0"] > 16
    assert others(running) == dict.fromkeys(ARMS, 4)


def stopped(store: Store, *, is_training: bool) -> Running:
    """Return a tied study that was stopped in its second block, with a pack in training or without."""
    running = Running(store, **study(arms=["adamp", "adamw"], resources={"max_pack_size": 2}))
    packs = 0
    while len(drawn(running).get("adamp/0", ())) < 18:
        running.finish(running.begin(f"p{packs}"), value=Values(store))
        packs += 1
    if is_training:
        running.begin("last")
    running.close()
    return running


def test_a_stopped_study_adds_further_pairs_if_it_is_extended_by_trials_but_not_by_seeds(
    store: Store,
) -> None:
    running = stopped(store, is_training=False)
    before = running.trials()
    running.extend(seeds=1)
    running.train_all(value=Values(store))
    assert running.scheduler.is_finished
    assert running.trials() == before
    running.close()
    running.extend(trials_per_arm=20)
    running.train_all(value=lambda trial, _epoch: 0.5 + store.trial(trial).seed % 97 / 1000)
    assert {len(pairs) for pairs in drawn(running).values()} == {40}
    assert others(running) == {"adamp": 4, "adamw": 4}


def test_a_study_that_was_stopped_with_pairs_in_training_fills_up_its_block_when_it_is_extended(
    store: Store,
) -> None:
    running = stopped(store, is_training=True)
    running.extend(trials_per_arm=20)
    running.train_all(value=Values(store))
    assert running.scheduler.is_finished
    assert {len(pairs) for pairs in drawn(running).values()} == {20}
    assert others(running) == {"adamp": 4, "adamw": 4}


@pytest.mark.parametrize(
    ("search", "pointer"),
    [
        ({"paired": 16, "until": {"max_pairs": 16}}, "/search/until"),
        ({"paired": 4, "until": {"max_pairs": 16}}, "/search/until"),
        ({"paired": 16, "until": {"max_pairs": 40, "pairs": [["adamp", "sgd"]]}}, "/search/until/pairs/0"),
        ({"paired": 16, "until": {"max_pairs": 40, "pairs": []}}, "/search/until/pairs"),
        (
            {"paired": 16, "until": {"max_pairs": 40, "pairs": [["adamp", "adamw"], ["adamw", "adamp"]]}},
            "/search/until/pairs/1",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused(store: Store, search: Any, pointer: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Running(store, **{**study(), "search": search})
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
