"""Plans of studies are read once, and again after every change; a single statement needs no transaction."""

from collections.abc import Callable

import pytest
from commit_faults import Killed, commits
from simulated_dispatch import SimulatedDispatcher

from studies.extension import Extension
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []


class Statements:
    """The statements that a store sends.

    Attributes:
        sent: the statements so far, except those that begin a transaction.
        begun: how many transactions were begun.
    """

    def __init__(self, store: Store) -> None:
        """Watch a store from now on."""
        self.sent: list[str] = []
        self.begun = 0
        store.on_statement(self._note)

    def _note(self, statement: str) -> Callable[[BaseException | None], None]:
        if statement.startswith("BEGIN"):
            self.begun += 1
        else:
            self.sent.append(statement)
        return lambda _error: None

    def of(self, read: Callable[[], object]) -> list[str]:
        """Return the statements of one read."""
        self.sent.clear()
        read()
        return list(self.sent)


def finished(play: SimulatedDispatcher) -> str:
    """Return the id of a completed study of two arms."""
    run = play.run()
    for arm in run.writer.plan().arms:
        for trial in run.begin(*range(run.study.spec.budget.trials_per_arm), arm=arm.name):
            run.complete(trial, 0.9)
    run.writer.close(StudyMove.FINISH)
    return run.claim.study_id


@pytest.mark.parametrize(
    ("name", "count"),
    [("study", 2), ("arms", 5), ("curves", 2), ("trials", 3), ("state", 1), ("closed_study_stamp", 1)],
)
def test_a_read_takes_few_statements_and_no_plan(
    play: SimulatedDispatcher, database_url: str, name: str, count: int
) -> None:
    study_id = finished(play)
    reader = Store.open(database_url, migrate=False)
    statements = Statements(reader)

    def read() -> object:
        return getattr(reader, name)(study_id)

    first, again = statements.of(read), statements.of(read)
    is_single = name in {"state", "closed_study_stamp"}
    assert sum("study.resolved" in statement for statement in first) == (not is_single)
    # SQLite begins a transaction for a single statement too, which costs it nothing.
    assert statements.begun == (0 if is_single and database_url.startswith("postgresql") else 2)
    assert len(again) == count
    assert not any("study.resolved" in statement for statement in again)
    reader.close()


def test_a_plan_that_another_process_has_changed_is_read_again(
    play: SimulatedDispatcher, database_url: str
) -> None:
    run = play.run()
    reader = Store.open(database_url, migrate=False)
    study_id, planned = run.claim.study_id, run.study.spec.budget.trials_per_arm
    assert [arm.progress.trials for arm in reader.arms(study_id)] == [planned, planned]
    run.writer.plan_trials({"adamw": planned + 4})
    assert [arm.progress.trials for arm in reader.arms(study_id)] == [planned, planned + 4]
    assert reader.study(study_id).progress.trials == 2 * planned + 4
    assert [arm.trials for arm in run.writer.plan().arms] == [planned, planned + 4]
    reader.close()


def test_a_plan_of_a_change_that_failed_is_not_kept(play: SimulatedDispatcher) -> None:
    study_id = finished(play)
    with commits(play.store, kill=("before", 1)), pytest.raises(Killed):
        play.store.extend(study_id, Extension(seeds=7))
    # It has the version that the change above would have had, and as many trials.
    play.store.extend(study_id, Extension(seeds=9))
    assert play.store.study(study_id).spec.confirmation.seeds == 9
