"""Events are numbered from 1 without gaps, however many writers there are."""

import threading

from simulated_dispatch import SimulatedDispatcher, report

from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []


def test_a_studys_events_are_in_order(play: SimulatedDispatcher) -> None:
    run = play.run(arms=["adamp"], budget={"trials_per_arm": 1, "epochs": 2})
    trial = run.begin(0)[0]
    run.complete(trial, 0.9)
    run.writer.close(StudyMove.FINISH)
    events = play.store.events(run.claim.study_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == [
        "study.submitted",
        "study.state",
        "trial.started",
        "trial.finished",
        "progress",
        "study.state",
    ]
    assert sorted(event.at for event in events) == [event.at for event in events]
    progress = events[-2].data
    assert progress["study"] == run.study.progress.model_dump()
    assert progress["arms"] == {"adamp": {**run.study.progress.model_dump(), "best": 0.9}}


def test_progress_without_a_result_has_no_best_value(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.writer.report_progress()
    kind, data = run.every_event()[-1]
    assert kind == "progress"
    arms = data["arms"]
    assert isinstance(arms, dict)
    assert [(name, arm["best"], arm["trials"]) for name, arm in arms.items()] == [
        ("adamp", None, 3),
        ("adamw", None, 3),
    ]


def test_a_reader_resumes_after_its_last_event(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.begin(*range(10))
    study_id = run.claim.study_id
    whole = play.store.events(study_id)
    assert play.store.events(study_id, after=5) == whole[5:]
    assert play.store.events(study_id, after=5, limit=3) == whole[5:8]
    assert play.store.events(study_id, after=len(whole)) == ()
    assert play.store.events(study_id, after=10**9) == ()


def test_concurrent_writers_leave_no_gap_in_the_event_numbers(
    play: SimulatedDispatcher, database_url: str
) -> None:
    run = play.run(budget={"trials_per_arm": 100, "epochs": 2})
    study_id = run.claim.study_id
    trials = run.begin(*range(40))
    gaps: list[list[int]] = []
    is_done = threading.Event()

    def say(own: int) -> None:
        store = Store.open(database_url, migrate=False)
        writer = store.run_writer(run.claim, lease_s=60)
        for trial in trials[own::4]:
            writer.record([report(trial, 1, ended="diverged")])
        store.close()

    def move() -> None:
        for _ in range(10):
            play.store.move(study_id, StudyMove.PAUSE)
            play.store.move(study_id, StudyMove.RESUME)
            run.writer.resume_running()

    def watch() -> None:
        while not is_done.is_set():
            ids = [event.id for event in play.store.events(study_id)]
            if ids != list(range(1, len(ids) + 1)):
                gaps.append(ids)

    writers = [
        *(threading.Thread(target=say, args=(own,)) for own in range(4)),
        threading.Thread(target=move),
    ]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    is_done.set()
    watcher.join(60)
    assert gaps == []
    events = play.store.events(study_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert len(events) == 2 + 40 + 40 + 30


def test_each_study_counts_its_own_events(play: SimulatedDispatcher) -> None:
    first, second = play.run(), play.run()
    second.begin(0)
    assert [event.id for event in play.store.events(first.claim.study_id)] == [1, 2]
    assert [event.id for event in play.store.events(second.claim.study_id)] == [1, 2, 3]
