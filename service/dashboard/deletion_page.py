"""The page that says what deleting a study removes, and asks for the study's id or name."""

__all__ = ["deletion_html", "is_confirmed"]

from service.dashboard.rendering import render
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store


def deletion_html(store: Store, study_id: str, *, problem: str | None = None) -> str:
    """Return the page.

    Args:
        store: the studies.
        study_id: the study.
        problem: why the form that was sent did not delete the study.

    Raises:
        StudyNotFound: the study does not exist.
    """
    contents, study = store.contents(study_id), store.study(study_id)
    return render(
        "delete.html",
        contents=contents,
        version=study.version,
        is_archived=study.archived_at is not None,
        is_closed=contents.state in CLOSED_STUDY_STATES,
        problem=problem,
        json_url=f"/v1/studies/{study_id}/contents",
    )


def is_confirmed(store: Store, study_id: str, text: str) -> bool:
    """Return whether a text is the study's id or name.

    Raises:
        StudyNotFound: the study does not exist.
    """
    return text.strip() in {study_id, store.study(study_id).name.strip()}
