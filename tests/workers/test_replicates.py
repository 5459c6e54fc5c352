"""Replicates: independent repetitions of an arm's search."""

from collections import Counter
from typing import Any

import pytest
from running import Running

from studies.seeds import confirmation_seed, trial_seed
from studies.states import TrialState
from studies.store import Store
from studies.views import TrialView

__all__: list[str] = []

ONE_AT_A_TIME = {"max_concurrent_packs": 1, "max_pack_size": 1}


def study(*, replicates: int = 2, trials: int = 6, epochs: int = 2, **fields: Any) -> dict[str, Any]:
    return {"budget": {"trials_per_arm": trials, "epochs": epochs, "replicates": replicates}, **fields}


def of(running: Running, arm: str, replicate: int) -> list[TrialView]:
    return [trial for trial in running.trials() if (trial.arm, trial.replicate) == (arm, replicate)]


def by_lr(store: Store, trial: str, epoch: int) -> float:
    """Return a value that depends on the configuration only."""
    return -abs(float(store.trial(trial).parameters["lr"]) - 0.01) + epoch / 1000


def test_each_replicate_has_its_own_seed_and_draws_and_starts_with_the_defaults(
    store: Store,
) -> None:
    running = Running(store, **study(replicates=3))
    running.train_all(value=lambda _trial, _epoch: 0.5)
    for arm in store.arms(running.study.id):
        assert [t.number for t in running.trials() if t.arm == arm.name] == list(range(18)), (
            "every replicate must draw its own sequence"
        )
        for replicate in range(3):
            trials = of(running, arm.name, replicate)
            assert len(trials) == 6
            assert {t.seed for t in trials} == {trial_seed(0, replicate)}
            assert [t.origin for t in trials] == ["default", *["sampled"] * 5]
            assert trials[0].parameters == arm.defaults
        sampled = [
            float(t.parameters["lr"]) for t in running.trials() if t.arm == arm.name and t.origin == "sampled"
        ]
        assert len(set(sampled)) == 15


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("random", "none"), ("qmc", "none"), ("tpe", "asha"), ("random", "hyperband")]
)
def test_the_first_of_several_replicates_equals_a_search_without_the_others(
    store: Store, sampler: str, pruner: str
) -> None:
    fields: dict[str, Any] = {
        "arms": ["adamp"],
        "sampler": sampler,
        "pruner": pruner,
        "resources": ONE_AT_A_TIME,
    }
    several, one = (Running(store, **study(replicates=r, trials=12, epochs=4, **fields)) for r in (3, 1))
    for running in (several, one):
        running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=1)
    expected = [(t.parameters, t.state, t.bracket, t.to_epoch, t.value) for t in one.trials()]
    assert [
        (t.parameters, t.state, t.bracket, t.to_epoch, t.value) for t in of(several, "adamp", 0)
    ] == expected
    assert any(t.parameters != e[0] for t, e in zip(of(several, "adamp", 1), expected, strict=True))


def test_packs_hold_one_replicate_while_arms_and_replicates_advance_together(store: Store) -> None:
    running = Running(store, slots=1, **study(trials=8, epochs=1, resources={"max_pack_size": 4}))
    packs = running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    assert {len({member.seed for member in pack.members}) for pack in packs} == {1}
    assert [pack.optimizer for pack in packs] == ["adamp", "adamw"] * 4
    assert Counter(pack.members[0].seed for pack in packs[:4]) == {trial_seed(0, 0): 2, trial_seed(0, 1): 2}


@pytest.mark.parametrize("pruner", ["none", "asha"])
def test_replicates_loaded_at_any_moment_continue_as_before(store: Store, pruner: str) -> None:
    fields = study(
        trials=9,
        epochs=4,
        sampler="tpe",
        pruner=pruner,
        resources={"max_concurrent_packs": 1, "max_pack_size": 3},
        confirmation={"seeds": 2},
    )
    whole, cut = Running(store, **fields), Running(store, **fields)
    whole.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=1)
    cut.train_reloading(value=lambda trial, epoch: by_lr(store, trial, epoch))
    for trials in (Running.trials, Running.confirmations):
        expected = [
            (t.arm, t.number, t.replicate, t.parameters, t.seed, t.state, t.value, t.confirms)
            for t in trials(whole)
        ]
        assert [
            (t.arm, t.number, t.replicate, t.parameters, t.seed, t.state, t.value, t.confirms)
            for t in trials(cut)
        ] == expected


def test_rungs_rank_a_trial_within_its_own_replicate(store: Store) -> None:
    running = Running(
        store,
        **study(
            trials=9,
            epochs=9,
            arms=["adamp"],
            pruner={"kind": "asha", "min_epochs": 1, "reduction_factor": 3},
        ),
    )
    running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch))
    for replicate in range(2):
        trials = of(running, "adamp", replicate)
        assert sum(t.epochs_done for t in trials) == 9 + 3 * 2 + 6
        (best,) = [t for t in trials if t.state is TrialState.COMPLETED]
        assert best.value == max(by_lr(store, t.id, 9) for t in trials)


def test_the_best_of_each_replicate_is_confirmed_and_equal_ones_once(store: Store) -> None:
    space = {"optimizer": "stepper", "space": {"lr": 0.01, "k": {"choices": [2, 3, 4]}, "rule": "plain"}}
    fields: dict[str, Any] = {"arms": [space], "confirmation": {"seeds": 2}, "sampler": "grid"}

    def value(best: tuple[int, int], trial: str) -> float:
        found = store.trial(trial)
        return 0.9 if found.parameters["k"] == best[found.replicate] else 0.5

    apart, alike = Running(store, **study(trials=4, **fields)), Running(store, **study(trials=4, **fields))
    apart.train_all(value=lambda trial, _epoch: value((2, 3), trial))
    alike.train_all(value=lambda trial, _epoch: value((2, 2), trial))
    for running, ks in ((apart, [2, 3, 5]), (alike, [2, 5])):
        assert Counter(t.parameters["k"] for t in running.confirmations()) == dict.fromkeys(ks, 2), (
            "trial 5 is a default configuration"
        )
        numbers = {t.number: t for t in running.trials()}
        for trial in running.confirmations():
            assert trial.confirms is not None
            assert (trial.parameters, trial.replicate) == (
                numbers[trial.confirms].parameters,
                numbers[trial.confirms].replicate,
            )


def test_adding_replicates_leaves_existing_ones_unchanged(store: Store) -> None:
    running = Running(
        store, **study(trials=4, arms=["adamp"], confirmation={"seeds": 2}, resources=ONE_AT_A_TIME)
    )
    running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=1)
    running.close()
    before, confirmed = running.trials(), running.confirmations()
    running.extend(replicates=3, seeds=3)
    running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=1)
    assert running.trials()[:8] == before
    assert running.confirmations()[: len(confirmed)] == confirmed
    assert [t.number for t in of(running, "adamp", 2)] == [8, 9, 10, 11]
    made = Counter(t.confirms for t in running.confirmations())
    assert set(made.values()) == {3}
    assert {confirmation_seed(0, index) for index in range(3)} == {t.seed for t in running.confirmations()}
