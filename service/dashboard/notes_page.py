"""The notes of a study, as a section of its page and as a page of their own."""

__all__ = ["notes_context", "notes_page_html", "rejected_notes_html"]

from typing import Any, Final

from service.dashboard.markdown_html import user_html
from service.dashboard.rendering import address, render
from studies.actors import Actor, may_change
from studies.errors import NotesInvalid, NotPermitted, VersionConflict
from studies.notes import MAX_CHARACTERS, MOST_LISTED, StudyNotes
from studies.store import Store
from studies.views import StudyView

_MOST_VERSIONS: Final = 10


def notes_context(store: Store, study: StudyView, *, reader: Actor) -> dict[str, Any]:
    """Return the variables of the section in a study's page.

    Raises:
        StudyNotFound: the study does not exist any more.
    """
    has_notes = study.notes_version > 0
    notes = (
        store.notes(study.id) if has_notes else StudyNotes(study_id=study.id, version=0, text="", history=())
    )
    return {
        "notes": notes,
        "notes_html": user_html(notes.text, name="notes"),
        "draft": notes.text,
        "replaced": notes.newest,
        "may_note": may_change(reader, study.owner),
        "is_editing": False,
        "is_own_page": False,
        "most_characters": MAX_CHARACTERS,
        "most_versions": _MOST_VERSIONS,
    }


def notes_page_html(store: Store, study_id: str, *, reader: Actor, version: int | None = None) -> str:
    """Return the page of a study's notes, with the text of a version or of the current one.

    Raises:
        StudyNotFound: the study does not exist.
        NotFound: the notes do not have this version.
    """
    return _page(store, study_id, store.notes(study_id, version=version), reader)


def rejected_notes_html(
    store: Store,
    study_id: str,
    text: str,
    error: NotesInvalid | NotPermitted | VersionConflict,
    *,
    replaced: int | None,
    reader: Actor,
) -> str:
    """Return the page that says why a text was not stored, with the text in its form.

    Args:
        store: the studies.
        study_id: the study.
        text: the text.
        error: why it was not stored.
        replaced: the version that it was to replace; None for any.
        reader: who wrote it.

    Raises:
        StudyNotFound: the study does not exist.
    """
    notes = store.notes(study_id)
    if isinstance(error, NotesInvalid):
        problem = f"The notes were not saved: {error.problems[0].message}."
    elif isinstance(error, NotPermitted):
        problem = f"The notes were not saved: {error}. Your text is in the form, so that you can copy it."
    else:
        by = f" by {notes.history[0].by}" if notes.history and notes.history[0].by else ""
        problem = (
            "The notes were not saved, because they have changed since you opened them. "
            f"Version {notes.newest}{by} is shown here, and your text is in the form. Saving it now replaces "
            "that version, which stays in the history."
        )
        replaced = notes.newest
    # Who may not save the text any more still sees it.
    form = {"draft": text, "replaced": notes.newest if replaced is None else replaced, "may_note": True}
    return _page(store, study_id, notes, reader, problem=problem, form=form)


def _page(
    store: Store,
    study_id: str,
    notes: StudyNotes,
    reader: Actor,
    *,
    problem: str | None = None,
    form: dict[str, Any] | None = None,
) -> str:
    study = store.study(study_id)
    is_old = notes.version != notes.newest
    path = f"/v1/studies/{study_id}/notes"
    context = notes_context(store, study, reader=reader) | {
        "notes": notes,
        "notes_html": user_html(notes.text, name="notes"),
        "draft": notes.text,
        "replaced": notes.newest,
        "is_editing": not is_old,
        "is_own_page": True,
        "most_versions": MOST_LISTED,
        **(form or {}),
    }
    return render(
        "notes.html",
        **context,
        study=study,
        problem=problem,
        json_url=address(path, version=notes.version if is_old else None),
    )
