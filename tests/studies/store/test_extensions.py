"""Extending a completed study: it is queued again, and none of its trials change."""

import pytest
from simulated_dispatch import SimulatedDispatcher
from trained_studies import Trained

from studies.errors import IllegalMove, SpecInvalid, StudyNotFound, SuiteNotFound, VersionConflict
from studies.extension import Extension, more_seeds
from studies.states import StudyMove, StudyState
from studies.store import Store

__all__: list[str] = []


def finished(play: SimulatedDispatcher, **fields: object) -> str:
    """Return the id of a completed study with these fields."""
    run = play.run(**fields)
    for arm in run.writer.plan().arms:
        for trial in run.begin(*range(run.study.spec.budget.trials_per_arm), arm=arm.name):
            run.complete(trial, 0.9)
    run.writer.close(StudyMove.FINISH)
    return run.claim.study_id


def test_an_extended_study_is_queued_and_claimed_like_any_other(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    before = play.store.study(study_id)
    after = play.extend(study_id, seeds=5, trials_per_arm=5, arms=["sgdp"])
    assert (after.state, after.ended_at, after.state_reason, after.version) == (
        StudyState.QUEUED,
        None,
        None,
        before.version + 1,
    )
    assert after.started_at == before.started_at
    assert (after.progress.trials, after.progress.finished, after.progress.confirmations) == (15, 6, 30)
    assert [(arm.name, arm.position, arm.progress.trials) for arm in play.store.arms(study_id)] == [
        ("adamp", 0, 5),
        ("adamw", 1, 5),
        ("sgdp", 2, 5),
    ]
    run = play.claim()
    assert run.claim.study_id == study_id
    assert [arm.trials for arm in run.writer.plan().arms] == [5, 5, 5]
    run.complete(run.begin(3)[0], 0.95)
    assert run.writer.close(StudyMove.FINISH) is StudyState.COMPLETED
    assert run.study.ended_at is not None


def test_an_extension_changes_no_stored_trial(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    before = play.store.study_record(study_id)
    play.extend(study_id, replicates=2)
    after = play.store.study_record(study_id)
    assert (after.trials, after.confirmations, after.measurements) == (
        before.trials,
        before.confirmations,
        before.measurements,
    )
    assert [(arm.optimizer, arm.space, arm.best) for arm in after.arms] == [
        (arm.optimizer, arm.space, arm.best) for arm in before.arms
    ]


def test_the_event_of_an_extension_holds_what_was_added(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    play.extend(study_id, seeds=5, arms=[{"optimizer": "adamw", "name": "fixed", "space": {"lr": 0.1}}])
    *_, extended, moved = play.store.events(study_id)
    arm = {"optimizer": "adamw", "name": "fixed", "space": {"lr": {"kind": "fixed", "value": 0.1}}}
    assert (extended.kind, extended.data) == ("study.extended", {"arms": [arm], "seeds": 5})
    assert (moved.kind, moved.data) == ("study.state", {"from": "completed", "to": "queued", "reason": None})
    finish = play.claim()
    finish.writer.close(StudyMove.FINISH)
    play.extend(study_id, seeds=6)
    assert play.store.events(study_id)[-2].data == {"seeds": 6}


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (None, "cannot extend a study that is queued: .* pause, stop, cancel$"),
        (StudyMove.PAUSE, "cannot extend a study that is paused: "),
        (StudyMove.CANCEL, "cannot extend a study that is cancelled: "),
    ],
)
def test_only_a_completed_study_can_be_extended(
    play: SimulatedDispatcher, move: StudyMove | None, message: str
) -> None:
    study_id = play.submit()
    if move is not None:
        play.store.move(study_id, move)
    with pytest.raises(IllegalMove, match=message):
        play.extend(study_id, seeds=5)


def test_a_refused_extension_leaves_the_study_unchanged(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    before = play.store.study(study_id)
    with pytest.raises(VersionConflict):
        play.store.extend(study_id, Extension(seeds=5), if_version=before.version - 1)
    with pytest.raises(SpecInvalid, match="/trials_per_arm: expected at least 3"):
        play.extend(study_id, seeds=5, trials_per_arm=2)
    with pytest.raises(SpecInvalid, match="the extension adds nothing"):
        play.extend(study_id)
    assert play.store.study(study_id) == before
    assert (
        play.store.extend(study_id, Extension(seeds=5), if_version=before.version).state is StudyState.QUEUED
    )


def test_planning_an_extension_stores_nothing(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    before, stamp = play.store.study(study_id), play.store.change_stamps([study_id, "nothing"])
    spec, plan = play.store.plan_extension(study_id, Extension(trials_per_arm=5))
    assert (play.store.study(study_id), play.store.change_stamps([study_id])) == (before, stamp)
    after = play.extend(study_id, trials_per_arm=5)
    assert (after.spec, play.claim().writer.plan()) == (spec, plan)
    assert list(stamp) == [study_id]
    assert play.store.change_stamps([study_id]) != stamp
    with pytest.raises(IllegalMove, match="cannot extend a study that is running"):
        play.store.plan_extension(study_id, Extension(seeds=5))


def test_a_study_cannot_be_moved_by_extend(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    with pytest.raises(IllegalMove, match="expected one of cancel, pause, resume, stop, got 'extend'"):
        play.store.move(study_id, StudyMove.EXTEND)


def test_reading_or_extending_what_is_missing_raises(play: SimulatedDispatcher) -> None:
    with pytest.raises(StudyNotFound):
        play.extend("nothing\0", seeds=5)
    with pytest.raises(StudyNotFound):
        play.store.study_record("nothing")
    with pytest.raises(SuiteNotFound, match="there is no suite 'nowhere'"):
        play.store.study_ids_of_suite("nowhere")


def test_more_seeds_for_a_stopped_study_do_not_resume_its_search(play: SimulatedDispatcher) -> None:
    run = play.run(budget={"trials_per_arm": 50, "epochs": 2})
    for trial in run.begin(0, 1, 2):
        run.complete(trial, 0.9)
    run.begin(0, arm="adamw")
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    assert run.study.progress.trials == 100
    study = play.store.extend(run.claim.study_id, more_seeds(run.study.spec))
    assert (study.state, study.spec.budget.trials_per_arm, study.progress.trials) == (StudyState.QUEUED, 3, 4)
    assert [arm.trials for arm in play.claim().writer.plan().arms] == [3, 1]


def test_more_trials_for_a_stopped_study_resume_its_search(play: SimulatedDispatcher) -> None:
    run = play.run(budget={"trials_per_arm": 50, "epochs": 2})
    run.begin(0)
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    study = play.extend(run.claim.study_id, trials_per_arm=50)
    assert (study.spec.budget.trials_per_arm, study.progress.trials) == (50, 100)


def test_new_arms_of_a_stopped_study_get_the_budget_that_it_used(play: SimulatedDispatcher) -> None:
    run = play.run(budget={"trials_per_arm": 50, "epochs": 2})
    run.begin(0, 1)
    run.begin(0, 1, arm="adamw")
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    play.extend(run.claim.study_id, arms=["sgdp"])
    assert [arm.progress.trials for arm in play.store.arms(run.claim.study_id)] == [2, 2, 2]


def test_confirmation_runs_that_a_stop_cancelled_are_missing_after_an_extension(
    play: SimulatedDispatcher,
) -> None:
    run = play.run(arms=["adamp"], confirmation={"seeds": 2})
    for trial in run.begin(0, 1, 2):
        run.complete(trial, 0.9)
    run.confirm(0)
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    assert run.study.progress.confirmations == 2
    assert play.extend(run.claim.study_id, trials_per_arm=4).progress.confirmations == 2 + 4, (
        "the two cancelled runs are still listed"
    )
    run = play.claim()
    run.complete(run.begin(3)[0], 0.95)
    assert run.study.progress.confirmations == 2 + 4
    run.confirm(0, 3, first=2)
    assert run.study.progress.confirmations == 2 + 4


def test_confirmation_runs_from_before_an_extension_count_after_it(store: Store) -> None:
    study = Trained(store, confirmation={"seeds": 2}).train().confirm().close()
    before = store.study(study.id).progress
    after = store.extend(study.id, Extension(seeds=3)).progress
    assert (after.confirmations_finished, after.confirmations) == (before.confirmations_finished, 2 * 2 * 3)
