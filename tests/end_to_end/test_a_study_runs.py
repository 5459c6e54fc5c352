"""Whole studies with a real dispatcher, Ray, SQLite and data."""

import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from dispatcher_process import DispatcherProcess, until

from studies.analysis.analyse import analyse
from studies.states import StudyMove, StudyState, TrialState
from workers.catalog import installed_catalog

__all__: list[str] = []

Own = Callable[[], AbstractContextManager[DispatcherProcess]]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ONE = {"max_pack_size": 1}


def test_a_study_on_real_data_finds_each_arms_best_and_stores_every_epoch(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "digits-mlp", arms=["adamp", "sgdp", "adamw"], trials=3, epochs=4, sampler="tpe"
    )
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    assert study.progress.finished == 9
    assert study.progress.epochs_done == 36
    for arm in dispatcher.store.arms(study_id):
        assert arm.best is not None
        assert arm.best.value > 0.5, "ten classes: chance is 0.1"
        assert arm.best.test_value is not None
        first = dispatcher.store.trials(study_id, arm=arm.name, order="number").items[0]
        assert first.origin == "default"
        assert first.parameters == arm.defaults
    of_pairs = {(t.pair_index, t.seed) for t in dispatcher.store.every_trial(study_id)}
    assert sorted(str(pair) for pair, _ in of_pairs) == ["0", "1", "None"], (
        "every arm must start from the same weights and data order"
    )
    for trial in dispatcher.store.every_trial(study_id):
        measured = dispatcher.store.measurements(trial.id)
        assert [m.epoch for m in measured] == [1, 2, 3, 4]
        assert all(a.elapsed_s < b.elapsed_s for a, b in itertools.pairwise(measured))
        for m in measured:
            assert None not in {
                m.train_loss,
                m.validation_loss,
                m.validation_metric,
                m.weight_norm,
                m.effective_step,
                m.gradient_cosine,
            }
            assert (m.projected_fraction is not None) == (trial.arm != "adamw")
        assert trial.worker is not None


def test_a_workload_with_its_own_batches_is_pruned_and_confirmed_by_any_of_its_metrics(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "two-metrics",
        arms=["adamp", "adamw"],
        trials=4,
        epochs=3,
        pruner={"kind": "asha", "min_epochs": 1},
        confirmation={"seeds": 2},
        objective={"metric": "near", "compare": ["absolute error"]},
    )
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    # 8, or fewer if the defaults of an arm are its best configuration.
    assert 4 <= study.progress.confirmations_finished == study.progress.confirmations
    assert (study.workload_card.metric, study.workload_card.direction) == ("near", "maximize")
    trials = dispatcher.store.every_trial(study_id)
    assert {trial.state for trial in trials} == {TrialState.COMPLETED, TrialState.PRUNED}
    others = ["squared error", "absolute error"]
    for arm in dispatcher.store.arms(study_id):
        assert arm.best is not None
        assert arm.best.value == max(t.value for t in trials if t.arm == arm.name and t.value is not None)
        assert arm.best.test_value is not None
        assert list(arm.best.test_metrics) == others
    measured = dispatcher.store.measurements(trials[0].id)
    assert measured[0].validation_metric is not None
    assert measured[0].validation_loss is None
    assert list(measured[0].metrics) == others
    squared, absolute = analyse(dispatcher.store.study_record(study_id)).metrics
    assert (squared.is_compared, absolute.is_compared, [pair.n for pair in absolute.pairs]) == (
        False,
        True,
        [2],
    )
    assert all(each.completed == 2 for metric in (squared, absolute) for each in metric.confirmed)


def test_packs_trained_one_after_another_are_reproducible(dispatcher: DispatcherProcess) -> None:
    resources = {"max_concurrent_packs": 1}
    # This study measures the stack width, which is stored, so that it cannot change during the next two.
    dispatcher.closed(
        dispatcher.submit("digits-mlp", arms=["adamp", "sgdp"], trials=6, epochs=1, resources=resources)
    )
    outcomes = []
    for _ in range(2):
        study_id = dispatcher.submit(
            "digits-mlp",
            arms=["adamp", "sgdp"],
            trials=6,
            epochs=2,
            sampler="tpe",
            seed=7,
            resources=resources,
        )
        dispatcher.closed(study_id)
        outcomes.append(
            [
                (t.arm, t.number, t.parameters, t.state, t.value, t.test_value)
                for t in dispatcher.store.every_trial(study_id)
            ]
        )
    assert outcomes[0] == outcomes[1]


def test_a_workload_that_raises_fails_its_trials_with_the_error_and_its_frames(
    dispatcher: DispatcherProcess,
) -> None:
    study = dispatcher.closed(dispatcher.submit("broken", trials=2))
    assert study.state is StudyState.FAILED
    assert study.state_reason is not None
    assert (
        "loss of workload 'broken' raised RuntimeError: the third layer has no weights" in study.state_reason
    )
    for trial in dispatcher.store.every_trial(study.id):
        assert trial.state is TrialState.FAILED
        assert trial.reason is not None
        assert trial.reason in study.state_reason
        assert 'tangent_plugin.py", line' in str(trial.traceback)


def test_a_missing_file_fails_a_whole_pack_at_once(dispatcher: DispatcherProcess) -> None:
    study = dispatcher.closed(
        dispatcher.submit("without-file", trials=3, resources={"max_concurrent_packs": 1})
    )
    assert study.state is StudyState.FAILED
    assert "points.csv" in str(study.state_reason)
    trials = dispatcher.store.every_trial(study.id)
    assert [(trial.state, trial.attempt) for trial in trials] == [(TrialState.FAILED, 1)] * 3
    assert all("load_data" in str(trial.traceback) for trial in trials)


def test_a_pack_too_large_for_the_machine_fails_the_study_with_the_reason(
    dispatcher: DispatcherProcess,
) -> None:
    study = dispatcher.closed(dispatcher.submit("plane", resources={"cpus_per_pack": 64.0}))
    assert study.state is StudyState.FAILED
    assert study.state_reason is not None
    assert "64 CPU" in study.state_reason


def test_a_paused_study_trains_nothing_until_it_is_resumed(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("slow-plane", trials=6, resources=ONE)
    dispatcher.epochs(study_id, 3)
    dispatcher.store.move(study_id, StudyMove.PAUSE)
    until(lambda: dispatcher.store.study(study_id).progress.running == 0, what="the trials in flight to end")
    before = dispatcher.store.study(study_id).progress
    assert before.completed > 0, "trials in flight must finish"
    time.sleep(2.0)
    assert dispatcher.store.study(study_id).progress == before
    assert dispatcher.store.study(study_id).state is StudyState.PAUSED
    dispatcher.store.move(study_id, StudyMove.RESUME)
    assert dispatcher.closed(study_id).progress.completed == 6


@pytest.mark.parametrize(
    ("verb", "after"), [(StudyMove.STOP, StudyState.COMPLETED), (StudyMove.CANCEL, StudyState.CANCELLED)]
)
def test_a_stopped_or_cancelled_study_ends_within_seconds_and_keeps_its_results(
    dispatcher: DispatcherProcess, verb: StudyMove, after: StudyState
) -> None:
    study_id = dispatcher.submit("slow-plane", trials=50, resources=ONE, confirmation={"seeds": 2})
    until(lambda: dispatcher.store.study(study_id).progress.completed >= 2, what="two completed trials")
    asked = time.monotonic()
    dispatcher.store.move(study_id, verb)
    study = dispatcher.closed(study_id, timeout_s=10.0)
    assert time.monotonic() - asked < 10.0
    assert study.state is after
    assert study.progress.completed >= 2
    assert study.progress.running == 0
    assert {t.state for t in dispatcher.store.every_trial(study_id)} <= {
        TrialState.COMPLETED,
        TrialState.CANCELLED,
    }
    assert not dispatcher.store.every_trial(study_id, phase="confirmation"), "no confirmation was requested"


def test_a_dispatcher_announces_the_installed_catalogue(dispatcher: DispatcherProcess) -> None:
    cards = dispatcher.store.catalog()
    ours = installed_catalog()
    assert cards.optimizers == ours.optimizers
    assert set(ours.workloads) | {"plane", "slow-plane", "broken", "deadly", "hanging", "greedy"} <= set(
        cards.workloads
    )


def test_a_dispatcher_that_stops_releases_its_study(own: Own) -> None:
    with own() as dispatcher:
        study_id = dispatcher.submit("slow-plane", trials=6, resources=ONE)
        dispatcher.epochs(study_id, 3)
        before = {t.id: t.epochs_done for t in dispatcher.store.every_trial(study_id)}
        asked = time.monotonic()
        assert dispatcher.stop() == 0
        assert time.monotonic() - asked < 10.0
        trials = dispatcher.store.every_trial(study_id)
        assert all(t.epochs_done >= before.get(t.id, 0) for t in trials), "a finished epoch was lost"
        assert all(t.state in {TrialState.QUEUED, TrialState.COMPLETED} for t in trials)
        assert all(t.retries == 0 for t in trials), "a graceful stop must not cost a retry"
        dispatcher.start()
        assert dispatcher.closed(study_id).progress.completed == 6
