"""Notes of studies: every version is kept, and nothing else of the study changes."""

import pytest
from catalogs import study_body

from studies.actors import Actor
from studies.errors import Forbidden, NotesInvalid, NotFound, NotOwner, StudyNotFound, VersionConflict
from studies.notes import MAX_CHARACTERS, StudyNotes
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.webhooks import WebhookSpec

__all__: list[str] = []

ADA, BOB = Actor(name="ada", role="submitter"), Actor(name="bob", role="submitter")
VERA, ROOT = Actor(name="vera", role="viewer"), Actor(name="root", role="admin")


def submitted(store: Store) -> str:
    return store.submit(parse_spec(study_body()), by=ADA).id


def versions(notes: StudyNotes) -> list[tuple[int, str | None, int]]:
    return [(each.version, each.by, each.characters) for each in notes.history]


def test_every_version_is_kept_with_its_author_and_is_an_event(store: Store) -> None:
    webhook = store.create_webhook(
        WebhookSpec(url="https://hooks.example/x", events=("study.noted",)), by=ADA
    )
    study_id = submitted(store)
    store.move(study_id, StudyMove.CANCEL, by=ADA)
    before, stamps = store.study(study_id), store.change_stamps([study_id])
    assert store.notes(study_id) == StudyNotes(study_id=study_id, version=0, text="", history=())
    assert store.set_notes(study_id, "", by=ADA).version == 0, "there is nothing to remove"
    first = store.set_notes(study_id, "Größe\r\n\0", by=ADA, if_version=0)
    assert (first.text, versions(first)) == ("Größe\n?", [(1, "ada", 7)])
    assert store.set_notes(study_id, first.text, by=ADA).version == 1, "the same text changes nothing"
    store.set_notes(study_id, "second", by=ROOT, if_version=1)
    removed = store.set_notes(study_id, "", by=ADA)
    assert (removed.text, versions(removed)) == ("", [(3, "ada", 0), (2, "root", 6), (1, "ada", 7)])
    assert (store.notes(study_id, version=1).text, store.notes(study_id, version=1).newest) == ("Größe\n?", 3)
    events = [event for event in store.events(study_id) if event.kind == "study.noted"]
    assert [event.data for event in events] == [
        {"version": n, "by": by, "characters": length} for n, by, length in reversed(versions(removed))
    ]
    assert [entry.verb for entry in store.audit(study_id=study_id).items][:3] == ["note"] * 3
    assert [each.event for each in store.webhook(webhook.id).deliveries] == ["study.noted"] * 3
    delivery, *_ = store.claim_deliveries(lease_s=60.0)
    assert '"state_before":"cancelled","state":"cancelled"' in delivery.body
    assert store.study(study_id) == before.model_copy(update={"notes_version": 3})
    assert store.change_stamps([study_id]) == stamps, "no analysis is computed again"
    assert store.contents(study_id).notes == 3
    store.delete(study_id, by=ADA)
    with pytest.raises(StudyNotFound):
        store.notes(study_id)


def test_only_the_owner_and_admins_write_and_nothing_is_replaced_unread(store: Store) -> None:
    study_id = submitted(store)
    for actor, refusal in ((BOB, NotOwner), (VERA, Forbidden)):
        with pytest.raises(refusal):
            store.set_notes(study_id, "mine", by=actor)
    store.set_notes(study_id, "x" * MAX_CHARACTERS, by=ADA)
    with pytest.raises(NotesInvalid, match="at most 20,000 characters, got 20,001"):
        store.set_notes(study_id, "x" * (MAX_CHARACTERS + 1), by=ADA)
    with pytest.raises(VersionConflict, match="at version 1, not 0"):
        store.set_notes(study_id, "mine", by=ADA, if_version=0)
    with pytest.raises(NotFound, match="no version 2"):
        store.notes(study_id, version=2)
    with pytest.raises(StudyNotFound):
        store.set_notes("unknown", "mine")
    assert _texts(store, study_id) == ["x" * MAX_CHARACTERS]


def _texts(store: Store, study_id: str) -> list[str]:
    history = store.notes(study_id).history
    return [store.notes(study_id, version=each.version).text for each in history]
