"""Trials that wait at rungs are promoted or pruned, and a run killed at any moment loses no decision."""

from dataclasses import replace
from typing import Any

import pytest
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report

from studies.promotion import Ladder, PromotionDecision
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.trials import NewTrial, PendingTrial

__all__: list[str] = []

EPOCHS = 9
FIT = {
    "workload": "digits-mlp",
    "optimizer": "adamp",
    "batch_size": 32,
    "device": "cpu",
    "width": 8,
    "trial_steps_per_s": {1: 10.0, 8: 60.0},
}


def asha(play: SimulatedDispatcher, *, trials: int = 6, **fields: Any) -> SimulatedRun:
    """Submit and claim a study of one arm with rungs at epochs 1 and 3."""
    return play.run(
        **{"arms": ["adamp"], "pruner": "asha", "budget": {"trials_per_arm": trials, "epochs": EPOCHS}}
        | fields
    )


def begin(run: SimulatedRun, *numbers: int, to_epoch: int = 1) -> tuple[PendingTrial, ...]:
    defaults = run.writer.plan().arms[0].defaults
    pending = run.writer.create(
        [NewTrial("adamp", n, "sampled", defaults, seed=7, to_epoch=to_epoch) for n in numbers]
    )
    run.writer.start(pending)
    return pending


def reach(run: SimulatedRun, trial: PendingTrial, value: float | None, *, pack_size: int = 1) -> None:
    """Report a trial's epochs up to its rung, with a checkpoint there."""
    for epoch in range(trial.epochs_done + 1, trial.to_epoch + 1):
        left = f"file:///checkpoints/{trial.id}-{epoch}.pt" if epoch == trial.to_epoch else None
        run.writer.record(
            [report(trial, epoch, validation_metric=value, checkpoint=left, pack_size=pack_size)]
        )


def promote(run: SimulatedRun, trial: PendingTrial, to_epoch: int) -> PendingTrial:
    (going,) = run.writer.settle(promoted=[(trial.id, trial.attempt, to_epoch)], pruned=[])
    return going


def ladder_of(run: SimulatedRun, *, trials: int = 6) -> Ladder:
    """Return a ladder filled from the database, as a run that resumes the study fills it."""
    ladder = Ladder(run.study.spec.pruner, epochs=EPOCHS, trials=trials, maximize=True)
    values = run.writer.rung_values()
    for trial in run.writer.trials():
        ladder.restore(
            trial.number,
            trial.state,
            epochs_done=trial.epochs_done,
            to_epoch=trial.to_epoch,
            values=values.get(trial.id, {}),
        )
    return ladder


def settle(run: SimulatedRun, decision: PromotionDecision) -> tuple[PendingTrial, ...]:
    trials = {trial.number: trial for trial in run.writer.queued_trials()}
    promoted = [
        (trials[number].id, trials[number].attempt, to_epoch) for number, to_epoch in decision.promoted
    ]
    return run.writer.settle(
        promoted=promoted, pruned=[(trials[number].id, trials[number].attempt) for number in decision.pruned]
    )


def everything(run: SimulatedRun) -> object:
    return (
        run.writer.trials(),
        run.every_event(),
        [run.store.measurements(trial.id) for trial in run.writer.trials()],
    )


def test_a_new_trial_has_its_first_rung(play: SimulatedDispatcher) -> None:
    run = asha(play)
    first, second = run.writer.create(
        [
            NewTrial("adamp", 0, "default", {"lr": 0.1}, seed=7, to_epoch=3, bracket=1),
            NewTrial("adamp", 1, "sampled", {"lr": 0.2}, seed=7),
        ]
    )
    assert (first.to_epoch, first.bracket, first.epochs_done, first.checkpoint, first.is_waiting) == (
        3,
        1,
        0,
        None,
        False,
    )
    assert second.to_epoch == EPOCHS, "by default a trial is trained to its last epoch"
    assert (run.trial(first).to_epoch, run.trial(first).bracket, run.trial(first).pack_size) == (3, 1, None)
    assert run.writer.queued_trials() == (first, second)


def test_a_trial_waits_at_its_rung_with_its_checkpoint(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0, to_epoch=3)
    reach(run, trial, 0.5, pack_size=4)
    found = run.trial(trial)
    assert (found.state, found.attempt, found.epochs_done, found.to_epoch, found.is_waiting) == (
        TrialState.QUEUED,
        1,
        3,
        3,
        True,
    )
    assert (found.pack_size, found.cost_s, found.ended_at) == (4, 1.5, None)
    (waiting,) = run.writer.queued_trials()
    assert (waiting.is_waiting, waiting.epochs_done, waiting.checkpoint) == (
        True,
        3,
        f"file:///checkpoints/{trial.id}-3.pt",
    )
    assert run.study.progress.running == 0


def test_without_a_checkpoint_a_trial_does_not_wait(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    run.writer.record([report(trial, 1)])
    assert run.trial(trial).state is TrialState.RUNNING
    (again,) = run.writer.requeue([(trial.id, 1)], reason="the pack ended without an outcome", max_retries=3)
    assert (again.epochs_done, again.attempt) == (0, 2)


def test_a_trial_that_ends_at_a_rung_does_not_wait(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    run.writer.record([report(trial, 1, ended="diverged", reason="nan", checkpoint="file:///never")])
    assert run.trial(trial).state is TrialState.DIVERGED
    assert run.writer.queued_trials() == ()


def test_the_last_epoch_is_not_a_rung(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0, to_epoch=EPOCHS)
    run.writer.record([report(trial, EPOCHS, checkpoint="file:///never")])
    assert run.trial(trial).state is TrialState.RUNNING


def test_later_reports_of_a_waiting_trial_are_dropped(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    here = report(trial, 1, checkpoint="file:///here")
    assert run.writer.record([here, report(trial, 2)]) == {trial.id}
    assert run.writer.record([here]) == frozenset()
    assert (run.trial(trial).epochs_done, len(run.store.measurements(trial.id))) == (1, 1)


def test_a_promoted_trial_resumes_from_its_checkpoint_at_the_same_attempt(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    began = run.trial(trial).started_at
    going = promote(run, trial, 3)
    assert (going.attempt, going.epochs_done, going.to_epoch, going.is_waiting) == (1, 1, 3, False)
    assert going.checkpoint == f"file:///checkpoints/{trial.id}-1.pt"
    place = {"trial": trial.id, "arm": "adamp", "phase": "search", "number": 0}
    assert run.every_event()[-1] == ("trial.promoted", {**place, "from_epoch": 1, "to_epoch": 3})
    run.writer.start([going])
    assert (run.trial(trial).state, run.trial(trial).started_at) == (TrialState.RUNNING, began)
    reach(run, going, 0.6)
    assert (run.trial(trial).epochs_done, run.trial(trial).is_waiting) == (3, True)


def test_promoted_trials_of_several_starts_are_one_pack(play: SimulatedDispatcher) -> None:
    run = asha(play)
    trials = [begin(run, number)[0] for number in range(3)]
    for trial in trials:
        reach(run, trial, 0.5)
    going = [promote(run, trial, 3) for trial in trials[:2]]
    run.writer.start(going)
    run.writer.record([replace(report(trial, 2), worker="node:1") for trial in going])
    packs = run.store.live(run.claim.study_id).packs
    [pack] = [pack for pack in packs if pack.running]
    assert (pack.worker, pack.trials, pack.running) == ("node:1", 2, 2)
    # It goes on after the first epoch, and has trained one of each trial since then.
    assert pack.epochs_done == 2
    assert all(pack.started_at > other.started_at for other in packs if other is not pack)
    assert sum(pack.trials for pack in packs) == 3


def test_a_trial_pruned_at_a_rung_has_no_value(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    assert run.writer.settle(promoted=[], pruned=[(trial.id, 1)]) == ()
    found = run.trial(trial)
    assert (found.state, found.value, found.reason, found.epochs_done) == (TrialState.PRUNED, None, None, 1)
    assert found.ended_at is not None
    place = {"trial": trial.id, "arm": "adamp", "phase": "search", "number": 0}
    assert run.every_event()[-1] == (
        "trial.finished",
        {**place, "state": "pruned", "value": None, "reason": None},
    )
    assert run.study.progress.pruned == 1


def test_only_trials_waiting_at_the_named_attempt_are_promoted_or_pruned(play: SimulatedDispatcher) -> None:
    run = asha(play)
    new = run.writer.create([NewTrial("adamp", 9, "sampled", {"lr": 0.1}, seed=7, to_epoch=1)])[0]
    running, waiting, gone = begin(run, 0, 1, 2)
    reach(run, waiting, 0.5)
    reach(run, gone, 0.4)
    promote(run, gone, 3)
    foreign = asha(play)
    (elsewhere,) = begin(foreign, 0)
    reach(foreign, elsewhere, 0.5)
    before = everything(run), everything(foreign)
    ids = [(trial.id, 1) for trial in (new, running, gone, elsewhere)] + [(waiting.id, 2), ("nothing", 1)]
    assert run.writer.settle(promoted=[(*one, 3) for one in ids], pruned=ids) == ()
    assert (everything(run), everything(foreign)) == before


def test_a_trial_both_promoted_and_pruned_is_promoted(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    assert len(run.writer.settle(promoted=[(trial.id, 1, 3)], pruned=[(trial.id, 1)])) == 1
    assert run.trial(trial).state is TrialState.QUEUED


def test_a_waiting_trial_is_neither_started_nor_requeued(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    before = everything(run)
    run.writer.start([trial])
    assert (
        run.writer.requeue([(trial.id, 1)], reason="its pack was lost after its last report", max_retries=3)
        == ()
    )
    assert everything(run) == before


def test_a_lost_trial_resumes_from_its_checkpoint(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    going = promote(run, trial, 3)
    run.writer.start([going])
    run.writer.record([report(going, 2, validation_metric=0.6)])
    (again,) = run.writer.requeue([(trial.id, 1)], reason="its worker was lost", max_retries=3)
    assert (again.attempt, again.epochs_done, again.to_epoch, again.checkpoint) == (2, 1, 3, going.checkpoint)
    found = run.trial(trial)
    assert (found.state, found.retries, found.epochs_done, found.cost_s) == (TrialState.QUEUED, 1, 1, 0.5)
    assert [m.epoch for m in run.store.measurements(trial.id)] == [1], (
        "measurements beyond the checkpoint must be deleted"
    )
    assert run.study.progress.epochs_done == 1, "an epoch that is trained again must count once"
    assert run.writer.record([report(going, 3, checkpoint="file:///late")]) == frozenset(), (
        "a late report of the lost worker must be dropped"
    )
    run.writer.start([again])
    reach(run, again, 0.6)
    assert [m.epoch for m in run.store.measurements(trial.id)] == [1, 2, 3]


def test_a_trial_with_an_unusable_checkpoint_starts_again_and_keeps_its_promotion(
    play: SimulatedDispatcher,
) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    going = promote(run, trial, 3)
    run.writer.start([going])
    (again,) = run.writer.requeue(
        [(trial.id, 1)], reason="its checkpoint is torn", max_retries=3, from_start=True
    )
    assert (again.epochs_done, again.to_epoch, again.checkpoint, run.trial(trial).cost_s) == (0, 3, None, 0.0)
    assert run.store.measurements(trial.id) == ()
    run.writer.start([again])
    (lost,) = run.writer.requeue([(trial.id, 2)], reason="its worker was lost", max_retries=3)
    assert (lost.epochs_done, lost.checkpoint) == (0, None)


def test_a_trial_requeued_twice_is_requeued_once(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    run.writer.start([promote(run, trial, 3)])
    lost = [(trial.id, 1)]
    assert len(run.writer.requeue([*lost, *lost], reason="lost", max_retries=3)) == 1
    assert run.writer.requeue(lost, reason="lost", max_retries=3, from_start=True) == ()
    assert (run.trial(trial).attempt, run.trial(trial).epochs_done) == (2, 1)


def test_a_late_report_of_a_superseded_attempt_is_dropped_after_a_promotion(
    play: SimulatedDispatcher,
) -> None:
    run = asha(play)
    (trial,) = begin(run, 0)
    (again,) = run.writer.requeue([(trial.id, 1)], reason="its worker went silent", max_retries=3)
    run.writer.start([again])
    reach(run, again, 0.5)
    going = promote(run, again, 3)
    run.writer.start([going])
    before = everything(run)
    late = [report(trial, epoch, validation_metric=0.9, checkpoint="file:///late") for epoch in (1, 2, 3)]
    assert run.writer.record(late) == frozenset()
    assert run.writer.settle(promoted=[(trial.id, 1, 9)], pruned=[(trial.id, 1)]) == ()
    assert run.writer.requeue([(trial.id, 1)], reason="lost", max_retries=0) == ()
    assert everything(run) == before


def test_a_run_killed_before_a_decision_leaves_it_to_the_next(play: SimulatedDispatcher) -> None:
    run = asha(play)
    trials = begin(run, 0, 1, 2, 3)
    ladder = ladder_of(run)
    for trial, value in zip(trials[:3], (0.2, 0.9, 0.5), strict=True):
        reach(run, trial, value)
        ladder.wait(trial.number, value)
    wanted = ladder.settle()
    assert wanted == PromotionDecision(promoted=((1, 3),))
    run.lapse()
    again = play.claim()
    found = {trial.number: trial for trial in again.writer.trials()}
    assert [(found[n].attempt, found[n].is_waiting) for n in range(4)] == [
        (1, True),
        (1, True),
        (1, True),
        (2, False),
    ]
    rebuilt = ladder_of(again)
    assert rebuilt.settle() == wanted
    (going,) = settle(again, wanted)
    assert (going.number, going.to_epoch, going.attempt) == (1, 3, 1)
    assert ladder_of(again).settle() == PromotionDecision(), "a repeated decision must change nothing"


def test_a_run_killed_after_a_decision_promotes_no_trial_twice(play: SimulatedDispatcher) -> None:
    run = asha(play)
    trials = begin(run, 0, 1, 2)
    for trial, value in zip(trials, (0.2, 0.9, 0.5), strict=True):
        reach(run, trial, value)
    settle(run, ladder_of(run).settle())
    run.lapse()
    again = play.claim()
    assert ladder_of(again).settle() == PromotionDecision()
    assert [trial.number for trial in again.writer.queued_trials() if not trial.is_waiting] == [1]


@pytest.mark.parametrize(("at", "expected"), [("last", {1: 0.5, 3: 0.3}), ("best", {1: 0.5, 3: 0.6})])
def test_a_rungs_value_is_the_studys_objective_there(
    play: SimulatedDispatcher, at: str, expected: dict[int, float]
) -> None:
    run = asha(play, objective={"at": at})
    (trial,) = begin(run, 0)
    reach(run, trial, 0.5)
    run.writer.start([going := promote(run, trial, 3)])
    run.writer.record([report(going, 2, validation_metric=0.6)])
    run.writer.record([report(going, 3, validation_metric=0.3, checkpoint="file:///3")])
    assert run.writer.rung_values() == {trial.id: expected}


def test_the_best_so_far_of_a_minimized_metric_is_the_smallest(play: SimulatedDispatcher) -> None:
    run = asha(play, workload="char-lm", objective={"at": "best"})
    (trial,) = begin(run, 0, to_epoch=3)
    for epoch, value in enumerate((2.0, 1.5, 1.8), start=1):
        run.writer.record([report(trial, epoch, validation_metric=value)])
    assert run.writer.rung_values() == {trial.id: {1: 2.0, 3: 1.5}}


def test_a_rungs_value_that_is_not_finite_is_none_and_other_brackets_have_other_rungs(
    play: SimulatedDispatcher,
) -> None:
    run = asha(play, pruner="hyperband")
    defaults = run.writer.plan().arms[0].defaults
    first, second = run.writer.create(
        [NewTrial("adamp", n, "sampled", defaults, seed=7, to_epoch=(1, 3)[n], bracket=n) for n in range(2)],
    )
    run.writer.start([first, second])
    reach(run, first, None)
    reach(run, second, 0.5)
    assert run.writer.rung_values() == {first.id: {1: None}, second.id: {3: 0.5}}


def test_without_a_pruner_there_are_no_rungs(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.complete(run.begin(0)[0], 0.9)
    assert run.writer.rung_values() == {}


def test_trials_still_waiting_when_the_budget_is_spent_are_pruned(play: SimulatedDispatcher) -> None:
    run = asha(play)
    waiting, running = begin(run, 0, 1)
    reach(run, waiting, 0.5)
    assert run.writer.close(StudyMove.FINISH) is StudyState.COMPLETED
    assert (run.trial(waiting).state, run.trial(waiting).reason) == (TrialState.PRUNED, None)
    assert run.trial(running).state is TrialState.CANCELLED


@pytest.mark.parametrize("verb", [StudyMove.STOP, StudyMove.CANCEL])
def test_waiting_trials_of_a_stopped_or_cancelled_study_are_cancelled(
    play: SimulatedDispatcher, verb: StudyMove
) -> None:
    run = asha(play)
    (waiting,) = begin(run, 0)
    reach(run, waiting, 0.5)
    play.store.move(run.claim.study_id, verb)
    run.writer.close(StudyMove.FINISH)
    assert run.trial(waiting).state is TrialState.CANCELLED


def test_waiting_trials_of_a_failed_study_are_cancelled(play: SimulatedDispatcher) -> None:
    run = asha(play)
    (waiting,) = begin(run, 0)
    reach(run, waiting, 0.5)
    run.writer.close(StudyMove.FAIL, reason="it broke down")
    assert (run.trial(waiting).state, run.trial(waiting).reason) == (TrialState.CANCELLED, "it broke down")


def test_a_pruned_trial_is_not_on_a_curve_but_its_seconds_count(play: SimulatedDispatcher) -> None:
    run = asha(play)
    pruned, done = begin(run, 0, 1)
    reach(run, pruned, 0.99)
    run.writer.settle(promoted=[], pruned=[(pruned.id, 1)])
    reach(run, done, 0.5)
    run.writer.start([going := promote(run, done, EPOCHS)])
    run.writer.record([report(going, EPOCHS, elapsed_s=4.0, ended="completed", value=0.7, best_epoch=EPOCHS)])
    (arm,) = play.store.arms(run.claim.study_id)
    assert arm.best is not None
    assert (arm.best.number, arm.best.value, arm.progress.pruned, arm.progress.completed) == (1, 0.7, 1, 1)
    (curve,) = play.store.curves(run.claim.study_id)
    assert [(point.trials, point.value, point.elapsed_s) for point in curve.points] == [(1, 0.7, 4.5)]


def test_progress_counts_the_epochs_that_the_pruner_leaves(play: SimulatedDispatcher) -> None:
    run = asha(play, trials=9)
    # Nine to epoch 1, three from there to 3, one to 9.
    assert run.study.progress.epochs == 9 * 1 + 3 * 2 + 1 * 6


def test_a_stack_width_is_stored_until_it_is_measured_again(play: SimulatedDispatcher) -> None:
    run = asha(play)
    run.writer.record_stack_width({**FIT, "reason": "too slow", "bytes_per_member": 100})
    run.writer.record_stack_width(FIT)
    run.writer.record_stack_width({**FIT, "device": "NVIDIA H100", "width": 64})
    run.writer.record_stack_width({**FIT, "workload": "char-lm", "width": 1})
    newest, older = run.writer.stack_widths("digits-mlp")
    assert (newest.device, newest.width, older.device, older.width, older.reason) == (
        "NVIDIA H100",
        64,
        "cpu",
        8,
        None,
    )
    assert older.trial_steps_per_s == {1: 10.0, 8: 60.0}
    assert run.writer.stack_widths("nothing") == ()


def test_an_arm_shows_the_newest_stack_width_of_its_optimizer_and_batch_size(
    play: SimulatedDispatcher,
) -> None:
    run = asha(play, arms=["adamp", "adamw"])
    assert [arm.fit for arm in play.store.arms(run.claim.study_id)] == [None, None]
    run.writer.record_stack_width(FIT)
    run.writer.record_stack_width({**FIT, "batch_size": 64, "width": 2})
    first, second = play.store.arms(run.claim.study_id)
    assert first.fit is not None
    assert (first.fit.width, second.fit) == (8, None)


def test_an_invalid_stack_width_is_refused(play: SimulatedDispatcher) -> None:
    run = asha(play)
    with pytest.raises(ValueError, match="width"):
        run.writer.record_stack_width({name: value for name, value in FIT.items() if name != "width"})
    assert run.writer.stack_widths("digits-mlp") == ()


def test_thousands_of_trials_are_promoted_in_one_call(store: Store) -> None:
    play = SimulatedDispatcher(store)
    run = asha(play, trials=2500)
    trials = begin(run, *range(2500))
    run.writer.record([report(trial, 1, checkpoint="file:///here") for trial in trials])
    ladder = ladder_of(run, trials=2500)
    decision = ladder.settle()
    assert len(settle(run, decision)) == 2500 // 3
    run.writer.start(going := [trial for trial in run.writer.queued_trials() if not trial.is_waiting])
    assert (
        len(run.writer.requeue([(trial.id, 1) for trial in going], reason="lost", max_retries=3)) == 2500 // 3
    )
    run.writer.close(StudyMove.FINISH)
    assert run.study.progress.pruned == 2500 - 2500 // 3
