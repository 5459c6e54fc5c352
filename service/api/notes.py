"""The notes of a study."""

__all__ = ["notes_router"]

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from service import errors
from service.api.bodies import NotesBody
from service.api.etags import IF_MATCH, etag_of, matches_etag, version_in
from service.api.openapi import BODY_FAULTS, body_description, problem_responses
from service.api.parameters import IfNoneMatch, StudyId
from service.auth import CurrentActor
from service.write_threads import WriteRoute
from studies.notes import StudyNotes
from studies.store import Store

_BODY = body_description(
    "The whole new text.",
    {"$ref": "#/components/schemas/NotesText-Input"},
    {
        "text": ("A text", {"text": "AdamP wins by **0.4 points**.\n\nNext: the same with `cosine`."}),
        "none": ("No notes", {"text": ""}),
    },
    is_required=True,
)
_ETAG = {
    "ETag": {
        "description": "Changes with the notes; send it in `If-Match` or `If-None-Match`.",
        "schema": {"type": "string"},
    }
}
_NotesMatch = Annotated[
    str | None,
    Header(
        pattern=IF_MATCH,
        description=(
            "The ETag of the notes, or only their version. The request is refused if the notes have changed "
            "since then; changes of the study do not count."
        ),
        examples=['"3"'],
    ),
]
_Version = Annotated[
    int | None,
    Query(ge=0, le=999_999_999, description="The version whose text to return; by default the current one."),
]


def notes_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["studies"], route_class=WriteRoute)

    @router.get(
        "/studies/{study_id}/notes",
        response_model=StudyNotes,
        summary="Notes of a study",
        responses={
            200: {"headers": _ETAG},
            304: {"description": "The copy named in `If-None-Match` is current.", "headers": _ETAG},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.NOT_FOUND, errors.PARAMETER_INVALID),
        },
    )
    def get_notes(
        request: Request, study_id: StudyId, version: _Version = None, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Return a study's notes in Markdown, with who wrote which version when.

        Version 0 is the empty text before the first notes.
        """
        store: Store = request.app.state.store
        response = _response(store.notes(study_id, version=version))
        if matches_etag(if_none_match, response.headers["etag"]):
            return Response(status_code=304, headers={"etag": response.headers["etag"]})
        return response

    @router.put(
        "/studies/{study_id}/notes",
        response_model=StudyNotes,
        summary="Replace the notes of a study",
        response_description="The notes after the change.",
        openapi_extra=_BODY,
        responses={
            200: {"headers": _ETAG},
            **problem_responses(
                errors.STUDY_NOT_FOUND,
                errors.VERSION_CONFLICT,
                *(kind for kind in BODY_FAULTS if kind is not errors.SPEC_INVALID),
                errors.NOTES_INVALID,
                errors.CROSS_SITE,
                errors.NOT_OWNER,
            ),
        },
    )
    def put_notes(
        request: Request,
        caller: CurrentActor,
        study_id: StudyId,
        text: NotesBody,
        if_match: _NotesMatch = None,
    ) -> Response:
        """Write notes about a study in any state; all versions are kept until the study is deleted.

        Each change is an event `study.noted`. The same text again changes nothing.
        """
        store: Store = request.app.state.store
        return _response(store.set_notes(study_id, text, by=caller, if_version=version_in(if_match)))

    _ = get_notes, put_notes
    return router


def _response(notes: StudyNotes) -> Response:
    body = notes.model_dump_json().encode()
    headers = {"etag": etag_of(notes.version, body)}
    return Response(body, media_type="application/json", headers=headers)
