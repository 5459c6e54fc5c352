"""An arm keeps one file of weights for its best and one for its defaults, until the study says otherwise."""

from datetime import timedelta
from typing import Any

import pytest
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report
from sqlalchemy import update

from studies.artifacts import NewArtifact
from studies.errors import ArtifactNotFound, StudyNotFound, TrialNotFound
from studies.states import StudyMove
from studies.store import tables
from studies.trials import PendingTrial

__all__: list[str] = []

KEEP: dict[str, Any] = {"keep": {"weights": "best", "days": 3}, "confirmation": {"seeds": 3}}


def weights(number: int, **changed: Any) -> NewArtifact:
    """Return kept weights; the number makes the id."""
    id_ = f"{number:032x}"
    fields: dict[str, Any] = {
        "name": "adamp-best.pt",
        "size": 10,
        "sha256": "ab" * 32,
        "url": f"/kept/{id_}",
        "weights_of": "best",
    }
    return NewArtifact(id=id_, kind="weights", **{**fields, **changed})


def complete(run: SimulatedRun, trial: PendingTrial, *artifacts: NewArtifact) -> None:
    """Complete a trial in its first report, with artifacts."""
    run.writer.start([trial])
    last = run.study.epochs
    run.writer.record([report(trial, last, ended="completed", value=0.5, artifacts=artifacts)])


def kept(play: SimulatedDispatcher, run: SimulatedRun) -> list[tuple[str, bool]]:
    return [(each.id[-1], each.is_kept) for each in play.store.artifacts(run.claim.study_id)]


def test_the_first_seed_that_completes_holds_the_weights_of_its_configuration(
    play: SimulatedDispatcher,
) -> None:
    run = play.run(**KEEP)
    run.complete(run.begin(0)[0], 0.9)
    first, second, third = run.confirm(0, seeds=3)
    complete(run, second, weights(2))
    assert kept(play, run) == [("2", True)]
    complete(run, third, weights(3))
    assert kept(play, run) == [("2", True)], "a later seed replaces nothing"
    complete(run, first, weights(1, url=None, sha256=None, reason="too large"))
    assert kept(play, run) == [("2", True)], "weights that were not kept replace none"
    view, url = play.store.artifact_location(weights(2).id)
    assert (view.trial_id, view.arm, url) == (second.id, "adamp", weights(2).url)
    assert play.store.artifacts(run.claim.study_id, kind="weights") == (view,)
    assert play.store.artifacts(run.claim.study_id, kind="file") == ()
    assert play.store.artifacts(run.claim.study_id, most=0) == ()


def test_weights_of_another_configuration_take_the_place_of_those_before(play: SimulatedDispatcher) -> None:
    run = play.run(**KEEP)
    run.begin(0, 1)
    (old,) = run.confirm(0, seeds=1)
    (new,) = run.confirm(1, seeds=1, first=1)
    complete(run, old, weights(1))
    complete(run, new, weights(2))
    assert kept(play, run) == [("2", True)]
    with pytest.raises(ArtifactNotFound):
        play.store.artifact_location(weights(1).id)


def test_a_file_that_was_not_kept_is_listed_with_its_reason(play: SimulatedDispatcher) -> None:
    run = play.run(**KEEP)
    run.begin(0)
    (trial,) = run.confirm(0, seeds=1)
    complete(run, trial, weights(1, url=None, sha256=None, reason="too large"))
    (found,) = play.store.trial_artifacts(trial.id)
    assert (found.is_kept, found.reason, found.sha256) == (False, "too large", None)
    with pytest.raises(ArtifactNotFound, match="too large"):
        play.store.artifact_location(found.id)
    for read, error in ((play.store.artifacts, StudyNotFound), (play.store.trial_artifacts, TrialNotFound)):
        with pytest.raises(error):
            read("nothing")


def test_a_report_that_is_rejected_or_repeated_stores_no_file_twice(play: SimulatedDispatcher) -> None:
    run = play.run(**KEEP)
    run.begin(0)
    (trial,) = run.confirm(0, seeds=1)
    complete(run, trial, weights(1))
    complete(run, trial, weights(1), weights(2))
    assert kept(play, run) == [("1", True)]


def test_artifacts_end_with_their_time_after_the_study(play: SimulatedDispatcher) -> None:
    run = play.run(**KEEP)
    run.begin(0)
    (trial,) = run.confirm(0, seeds=1)
    complete(run, trial, weights(1))
    study_id = run.claim.study_id
    assert play.store.kept_artifact_ids(study_id) is None, "an open study's files are not cleaned up"
    run.writer.close(StudyMove.FINISH)
    assert play.store.expire_artifacts() == 0
    assert play.store.kept_artifact_ids(study_id) == {weights(1).id}
    with play.store._database.write() as connection:
        s = tables.study.c
        ended = play.store.study(study_id).ended_at
        assert ended is not None
        connection.execute(
            update(tables.study).where(s.id == study_id).values(ended_at=ended - timedelta(days=3))
        )
    assert play.store.expire_artifacts() == 1
    assert play.store.kept_artifact_ids(study_id) == frozenset()
