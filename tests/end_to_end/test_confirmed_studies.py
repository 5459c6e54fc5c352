"""Confirmed studies, and what happens to confirmations when a run is killed or the owner acts.

Real dispatcher, Ray and SQLite.
"""

import os
import signal
from collections import Counter
from typing import Any, cast

import pytest
from dispatcher_process import DispatcherProcess, until

from studies.analysis.analyse import analyse
from studies.extension import Extension
from studies.spec import ArmSpec
from studies.states import StudyState, TrialState
from studies.statistics.until_decided import looks
from studies.views import TrialView

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ONE = {"max_pack_size": 1}


def confirmations(dispatcher: DispatcherProcess, study_id: str) -> tuple[TrialView, ...]:
    return dispatcher.store.every_trial(study_id, phase="confirmation")


def test_every_arm_is_confirmed_on_the_same_fresh_seeds_and_the_environment_is_stored(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "digits-mlp", arms=["adamp", "adamw"], trials=3, epochs=3, replicates=2, confirmation={"seeds": 3}
    )
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    assert (study.progress.trials, study.progress.finished) == (12, 12)
    seeds = [
        {t.seed for t in confirmations(dispatcher, study_id) if t.arm == arm} for arm in ("adamp", "adamw")
    ]
    assert seeds[0] == seeds[1]
    assert len(seeds[0]) == 3
    for trial in confirmations(dispatcher, study_id):
        assert (trial.state, trial.epochs_done) == (TrialState.COMPLETED, 3)
        assert trial.test_value is not None
    assert {"python", "torch", "ray", "cpu"} <= set(study.environment)
    analysis = analyse(dispatcher.store.study_record(study_id))
    assert all(row.completed == 3 for row in analysis.confirmed)
    (pair,) = analysis.pairs
    assert (pair.covers, pair.n) == ("replicates", 2)
    layers = dispatcher.store.study_layers(study_id)
    assert [(of.arm, of.configuration, len(of.trials)) for of in layers.arms] == [
        ("adamp", "best", 3),
        ("adamw", "best", 3),
    ]
    for of in layers.arms:
        assert layers.scale_invariance.keys() == set(of.names)
        assert [m.epoch for m in of.epochs] == [1, 2, 3]
    searched = [trial.id for trial in dispatcher.store.every_trial(study_id) if trial.origin == "sampled"]
    assert dispatcher.store.layers_of(study_id, searched) == {}


def test_a_killed_run_confirms_nothing_twice_and_its_study_can_be_extended(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit("slow-plane", trials=2, resources=ONE, confirmation={"seeds": 2})
    before = until(
        lambda: [t for t in confirmations(dispatcher, study_id) if t.state is TrialState.COMPLETED],
        what="a confirmation that is completed",
    )
    os.kill(dispatcher.run_of(study_id), signal.SIGKILL)
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    first = confirmations(dispatcher, study_id)
    assert all(trial in first for trial in before), "a completed run changed"
    assert len({(t.confirms, t.seed) for t in first}) == len(first)
    assert {t.state for t in first} == {TrialState.COMPLETED}
    dispatcher.store.extend(study_id, Extension(arms=(ArmSpec(optimizer="sgd"),), trials_per_arm=3, seeds=3))
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    record = dispatcher.store.study_record(study_id)
    assert all(trial in record.confirmations for trial in first), "an extension must not change existing runs"
    assert {(t.arm, t.number) for t in record.trials} == {
        (arm, n) for arm in ("adamp", "sgd") for n in range(3)
    }
    assert len(record.confirmations) == len({(t.arm, t.confirms, t.seed) for t in record.confirmations})
    assert all(row.completed == 3 for row in analyse(record).confirmed)


def test_a_paired_study_whose_run_is_killed_ends_with_the_pairs_of_one_that_was_not_and_a_new_arm_gets_them(
    dispatcher: DispatcherProcess,
) -> None:
    fields: dict[str, Any] = {
        "arms": ["adamp", {"optimizer": "sgd", "space": {"momentum": {"low": 0.5, "high": 0.9}}}],
        "trials": 10,
        "search": {"paired": 8},
        "pruner": "asha",
        "epochs": 4,
        "resources": {"max_pack_size": 4},
    }

    def pairs(study_id: str) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {}
        for trial in sorted(dispatcher.store.every_trial(study_id), key=lambda t: t.number):
            if trial.pair_index is not None:
                assert (trial.state, trial.epochs_done) == (TrialState.COMPLETED, trial.to_epoch)
                found.setdefault(trial.arm, []).append((trial.pair_index, trial.seed, trial.parameters))
        return found

    whole = dispatcher.submit("slow-plane", **fields)
    assert dispatcher.closed(whole).state is StudyState.COMPLETED
    killed = dispatcher.submit("slow-plane", **fields)
    until(
        lambda: [
            t for t in dispatcher.store.every_trial(killed) if t.pair_index is not None and t.epochs_done
        ],
        what="a paired trial in training",
    )
    os.kill(dispatcher.run_of(killed), signal.SIGKILL)
    assert dispatcher.closed(killed).state is StudyState.COMPLETED
    assert pairs(killed) == pairs(whole)
    assert [len(of_arm) for of_arm in pairs(whole).values()] == [8, 8]
    dispatcher.store.extend(killed, Extension(arms=(ArmSpec(optimizer="adamw"),)))
    assert dispatcher.closed(killed).state is StudyState.COMPLETED
    arms = pairs(killed)
    assert {name: arms[name] for name in ("adamp", "sgd")} == pairs(whole)
    lrs = [
        [(seed, parameters["lr"]) for _, seed, parameters in cast("list[Any]", arms[name])]
        for name in ("adamp", "adamw")
    ]
    assert lrs[0] == lrs[1]


def test_a_study_adds_pairs_until_its_arms_are_decided_and_then_confirms(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "plane",
        arms=["adamp", "adamw"],
        trials=10,
        search={"paired": 8, "until": {"max_pairs": 16}},
        confirmation={"seeds": 1},
    )
    study = dispatcher.closed(study_id, timeout_s=200)
    assert study.state is StudyState.COMPLETED
    assert study.progress.trials == study.progress.finished
    record = dispatcher.store.study_record(study_id)
    paired = Counter(trial.arm for trial in record.trials if trial.pair_index is not None)
    assert paired["adamp"] == paired["adamw"]
    assert paired["adamp"] in looks(8, 16)
    assert {trial.state for trial in record.confirmations} == {TrialState.COMPLETED}
