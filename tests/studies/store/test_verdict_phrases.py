"""Stored verdicts in a phrase: only of closed studies, and only until they change."""

from simulated_dispatch import SimulatedDispatcher

from studies.extension import more_seeds
from studies.states import StudyMove

__all__: list[str] = []


def test_a_phrase_is_kept_while_its_study_stays_as_it_was(play: SimulatedDispatcher) -> None:
    store, run = play.store, play.run(confirmation={"seeds": 1})
    study_id = run.claim.study_id

    def write(text: str, events_without_notes: int) -> None:
        store.store_verdict_phrase(study_id, text, events_without_notes=events_without_notes, program="1")

    def read(program: str = "1") -> dict[str, str]:
        return store.verdict_phrases([study_id, "unknown"], program=program)

    def events() -> int:
        return store.change_stamps([study_id])[study_id][1]

    write("of an open study", events())
    assert read() == {}
    run.complete(run.begin(0)[0], 0.9)
    store.move(study_id, StudyMove.STOP)
    before = events()
    run.writer.close(StudyMove.FINISH)
    write("of an earlier state", before)
    assert read() == {}
    write("first\0", events())
    write("second", events())
    store.archive(study_id)
    store.set_notes(study_id, "why")
    assert (read(), read("2")) == ({study_id: "second"}, {})
    store.extend(study_id, more_seeds(run.study.spec, seeds=2))
    assert read() == {}
    store.move(study_id, StudyMove.CANCEL)
    write("third", events())
    assert read() == {study_id: "third"}
    store.delete(study_id)
    write("of a deleted study", before)
    assert read() == {}
