"""The end of what workers print is stored once for a pack, and a trial keeps its newest."""

import pytest
from simulated_dispatch import SimulatedDispatcher
from sqlalchemy import func, select

from studies.errors import Superseded, TrialNotFound
from studies.states import StudyMove
from studies.store import tables

__all__: list[str] = []


def test_the_trials_of_a_pack_share_its_output_and_a_later_pack_replaces_it(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    first, second = (trial.id for trial in run.create(0, 1))
    run.writer.record_output("p1", {first: 1, second: 1, "unknown": 1}, text="both", size=4)
    assert [play.store.trial_output(id_).text for id_ in (first, second)] == ["both", "both"]
    assert play.store.trial_output(first).trials == 2
    run.writer.record_output("p1", {first: 1, second: 1}, text="both again", size=10**10)
    found = play.store.trial_output(first)
    assert (found.text, found.size, found.attempt) == ("both again", 10**10, 1)
    run.writer.record_output("p2", {first: 2}, text="alone", size=5)
    assert (play.store.trial_output(first).text, play.store.trial_output(first).trials) == ("alone", 1)
    assert play.store.trial_output(second).text == "both again"
    run.writer.record_output("p3", {second: 1}, text="last", size=5)
    with play.store._database.read() as connection:
        kept = connection.scalar(select(func.count()).select_from(tables.pack_output))
    assert kept == 2, "the output of the first pack belongs to no trial"


def test_output_of_an_older_attempt_is_not_stored(play: SimulatedDispatcher) -> None:
    run = play.run()
    (trial,) = run.create(0)
    run.writer.record_output("p2", {trial.id: 2}, text="new", size=3)
    run.writer.record_output("p1", {trial.id: 1}, text="old", size=3)
    assert play.store.trial_output(trial.id).text == "new"


def test_a_trial_without_output_has_an_empty_one_and_an_unknown_trial_none(play: SimulatedDispatcher) -> None:
    (trial,) = play.run().create(0)
    found = play.store.trial_output(trial.id)
    assert (found.text, found.size, found.trials, found.written_at) == ("", 0, 1, None)
    with pytest.raises(TrialNotFound):
        play.store.trial_output("nothing.adamp.0")


def test_text_that_a_database_cannot_hold_is_stored_readable(play: SimulatedDispatcher) -> None:
    run = play.run()
    (trial,) = run.create(0)
    run.writer.record_output("p", {trial.id: 1}, text="a\0b\ud800c", size=5)
    assert play.store.trial_output(trial.id).text == "a?b?c"


def test_a_superseded_run_stores_no_output(play: SimulatedDispatcher) -> None:
    run = play.run()
    (trial,) = run.create(0)
    run.writer.close(StudyMove.FINISH)
    with pytest.raises(Superseded):
        run.writer.record_output("p", {trial.id: 1}, text="late", size=4)
