"""Rungs: which trials are promoted, regardless of worker failures and restarts."""

from collections.abc import Callable
from typing import Any

import pytest
from running import Running

from studies.errors import StoreUnavailable
from studies.states import TrialState
from studies.store import Store
from workers.worker_failures import WorkerFailure

__all__: list[str] = []

ASHA = {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}


def value(trial: str, epoch: int) -> float:
    """Return a value that grows with the epochs; good trials are spread over the numbers."""
    return (int(trial.rpartition(".")[2]) * 7 % 27) / 27 + epoch / 100


def study(**fields: Any) -> dict[str, Any]:
    return {"pruner": ASHA, "budget": {"trials_per_arm": 27, "epochs": 9}, **fields}


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median", ASHA])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_every_trial_ends_and_every_arm_completes_one(store: Store, pruner: Any, sampler: str) -> None:
    running = Running(store, **study(pruner=pruner, sampler=sampler))
    running.train_all(value=value)
    assert running.scheduler.is_finished
    assert set(running.states()) == {"completed", "pruned"}
    for arm in ("adamp", "adamw"):
        assert any(t.state is TrialState.COMPLETED for t in running.trials() if t.arm == arm)


def test_arms_with_equal_trials_train_equal_epochs(store: Store) -> None:
    running = Running(store, **study())
    running.train_all(value=value)
    epochs = {arm: sum(t.epochs_done for t in running.trials() if t.arm == arm) for arm in ("adamp", "adamw")}
    assert epochs == {"adamp": 27 + 9 * 2 + 3 * 6, "adamw": 27 + 9 * 2 + 3 * 6}


def test_promoted_trials_go_before_new_ones_and_resume_from_their_checkpoints(
    store: Store,
) -> None:
    running = Running(store, slots=1, **study(arms=["adamp"], resources={"max_pack_size": 9}))
    first = running.begin("a")
    assert (first.from_epoch, first.to_epoch, len(first.members)) == (0, 1, 9)
    assert first.checkpoints is not None
    running.finish(first, value=value)
    second = running.begin("b")
    assert (second.from_epoch, second.to_epoch, len(second.members)) == (1, 3, 3)
    assert all(member.checkpoint is not None for member in second.members)
    best = sorted(first.members, key=lambda member: -value(member.trial_id, 1))[:3]
    assert {member.trial_id for member in second.members} == {member.trial_id for member in best}
    running.finish(second, value=value)
    third = running.begin("c")
    assert (third.from_epoch, third.to_epoch, len(third.members)) == (3, 9, 1)


def test_rungs_count_intervals_of_steps(store: Store) -> None:
    budget = {"trials_per_arm": 9, "steps": 45, "evaluate_every": 5}
    running = Running(store, slots=1, **study(arms=["adamp"], budget=budget))
    pack = running.begin("a")
    assert (pack.to_epoch, pack.epochs, pack.interval_steps) == (1, 9, 5)
    # 9 trials to interval 1, 3 of them to 3, and one to 9.
    assert pack.steps_ahead == (9 + 3 * 2 + 6) * 5
    running.finish(pack, value=value)
    running.train_all(value=value)
    assert sorted(running.states()) == ["completed"] + ["pruned"] * 8


def test_a_checkpoint_is_outdated_once_its_trial_has_ended_or_passed_its_next_rung(store: Store) -> None:
    running = Running(store, slots=1, **study(arms=["adamp"], resources={"max_pack_size": 9}))
    running.finish(running.begin("a"), value=value)
    assert running.recorder.outdated_checkpoints() == ()
    second = running.begin("b")
    assert running.recorder.outdated_checkpoints() == (), "a retry may still need it"
    running.finish(second, value=value)
    assert set(running.recorder.outdated_checkpoints()) == {member.checkpoint for member in second.members}
    running.train_all(value=value, at_once=1)
    given_up = running.recorder.outdated_checkpoints()
    assert len(given_up) == len(set(given_up)) == 27 + 9 - 3


def test_a_trial_whose_worker_failed_resumes_from_its_last_rung(store: Store) -> None:
    running = Running(store, slots=1, **study(arms=["adamp"], resources={"max_pack_size": 9}))
    running.finish(running.begin("a"), value=value)
    second = running.begin("b")
    running.report(second, epoch=2, value=value)
    running.recorder.ended("b", worker_failure=WorkerFailure("its worker was lost"))
    again = running.begin("c")
    assert (again.from_epoch, again.to_epoch) == (1, 3)
    assert {m.checkpoint for m in again.members} == {m.checkpoint for m in second.members}
    assert {m.attempt for m in again.members} == {2}
    running.finish(again, value=value)
    running.train_all(value=value, at_once=1)
    assert sum(t.epochs_done for t in running.trials()) == 27 + 9 * 2 + 3 * 6
    for trial in running.trials():
        assert [m.epoch for m in store.measurements(trial.id)] == list(range(1, trial.epochs_done + 1))


def test_only_members_with_unusable_checkpoints_start_over(store: Store) -> None:
    running = Running(store, slots=1, **study(arms=["adamp"], resources={"max_pack_size": 9}))
    running.finish(running.begin("a"), value=value)
    second = running.begin("b")
    broken = second.members[0].trial_id
    running.recorder.ended("b", restart_reason="no checkpoint there", unusable=[broken])
    assert running.recorder.outdated_checkpoints() == (second.members[0].checkpoint,)
    others = running.begin("c")
    assert (others.from_epoch, others.to_epoch, len(others.members)) == (1, 3, 2)
    running.finish(others, value=value)
    packs = running.train_all(value=value, at_once=1)
    (anew,) = [
        pack
        for pack in packs
        if any(member.trial_id == broken for member in pack.members) and pack.from_epoch == 0
    ]
    assert (anew.to_epoch, len(anew.members)) == (3, 1)
    assert store.trial(broken).retries == 0
    assert sum(t.epochs_done for t in running.trials()) == 27 + 9 * 2 + 3 * 6


@pytest.mark.parametrize(
    ("pruner", "at"), [("asha", "last"), ("asha", "best"), ("hyperband", "last"), ("median", "best")]
)
def test_a_scheduler_loaded_at_any_rung_continues_as_the_previous_one(
    store: Store, pruner: str, at: str
) -> None:
    fields = study(
        pruner=pruner,
        sampler="tpe",
        objective={"at": at},
        resources={"max_concurrent_packs": 1, "max_pack_size": 4},
    )

    def diverging(trial: str, epoch: int) -> float | None:
        number = int(trial.rpartition(".")[2])
        return (
            None
            if number % 8 == 5 and epoch == 2
            else value(trial, epoch) + (0.5 if epoch == number % 3 + 1 else 0.0)
        )

    whole, cut = Running(store, **fields), Running(store, **fields)
    expected, got = (
        [(p.from_epoch, p.to_epoch, [m.parameters for m in p.members]) for p in packs]
        for packs in (whole.train_all(value=diverging, at_once=1), cut.train_reloading(value=diverging))
    )
    assert got == expected
    assert cut.states() == whole.states()


def test_a_run_that_leaves_requeues_trials_from_their_rungs(store: Store) -> None:
    running = Running(store, slots=2, **study(arms=["adamp"], resources={"max_pack_size": 9}))
    running.finish(running.begin("a"), value=value)
    running.report(running.begin("b"), epoch=2, value=value)
    running.scheduler.requeue_all(reason="its run was asked to leave")
    running.reload()
    again = running.begin("c")
    assert (again.from_epoch, again.to_epoch, len(again.members)) == (1, 3, 3)
    running.finish(again, value=value)
    running.train_all(value=value)
    assert {t.retries for t in running.trials()} == {0}


def test_a_study_fails_if_every_trial_diverges_after_its_first_rung(store: Store) -> None:
    running = Running(store, **study())
    running.train_all(value=lambda trial, epoch: value(trial, epoch) if epoch == 1 else None)
    assert running.scheduler.is_finished
    assert "has a usable value" in str(running.recorder.failure_reason())
    assert {"diverged"} <= set(running.states()) <= {"diverged", "pruned", "queued"}


def answer_lost(write: Callable[..., Any]) -> Callable[..., Any]:
    """Return a write that takes effect but whose first answer is lost."""
    is_first = True

    def written(*args: Any, **options: Any) -> Any:
        nonlocal is_first
        answer = write(*args, **options)
        if is_first:
            is_first = False
            raise StoreUnavailable("the connection was closed")
        return answer

    return written


def test_a_stored_report_whose_answer_was_lost_still_brings_its_trials_to_their_rung(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(store, **study())
    monkeypatch.setattr(running.writer, "record", answer_lost(running.writer.record))
    running.train_all(value=value)
    undisturbed = Running(store, **study())
    undisturbed.train_all(value=value)
    assert running.states() == undisturbed.states()


def test_trials_whose_creation_lost_its_answer_are_created_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, undisturbed = (Running(store, confirmation={"seeds": 2}, **study()) for _ in range(2))
    lost = {phase: answer_lost(running.writer.create) for phase in ("search", "confirmation")}
    monkeypatch.setattr(running.writer, "create", lambda new: lost[new[0].phase](new))
    for each in (running, undisturbed):
        each.train_all(value=lambda trial, epoch: value(trial.replace(".c", "."), epoch))
    assert running.scheduler.is_finished
    assert running.states() == undisturbed.states()
    assert len(running.confirmations()) == len(undisturbed.confirmations()) > 0


def test_trials_whose_requeueing_lost_its_answer_are_retried(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(store, **study())
    pack = running.begin("a")
    monkeypatch.setattr(running.writer, "requeue", answer_lost(running.writer.requeue))
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    again = running.begin("b")
    assert [member.trial_id for member in again.members] == [member.trial_id for member in pack.members]
    assert {member.attempt for member in again.members} == {2}
