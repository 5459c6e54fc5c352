"""Labelling, archiving and deleting studies."""

__all__ = ["archive_router"]

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.bodies import LabelBody
from service.api.etags import version_in
from service.api.openapi import BODY_FAULTS, body_description, problem_responses
from service.api.parameters import ETAG, IfMatch, StudyId
from service.api.responses import json_response, study_response
from service.auth import CurrentActor
from service.write_threads import WriteRoute
from studies.deletion import StudyContents
from studies.store import Store
from studies.views import StudyView

_FAULTS = (
    errors.STUDY_NOT_FOUND,
    errors.ILLEGAL_MOVE,
    errors.VERSION_CONFLICT,
    errors.PARAMETER_INVALID,
    errors.CROSS_SITE,
    errors.NOT_OWNER,
)
_LABEL = body_description(
    "The suite.",
    {"$ref": "#/components/schemas/SuiteLabel-Input"},
    {"suite": ("Into a suite", {"suite": "small-vision"}), "none": ("Out of its suite", {"suite": None})},
    is_required=True,
)
_CHANGED = {
    200: {"description": "The study after the change.", "headers": ETAG},
    **problem_responses(*_FAULTS),
}


def archive_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["studies"], route_class=WriteRoute)

    @router.post(
        "/studies/{study_id}:label",
        response_model=StudyView,
        summary="Put a study into a suite, or out of it",
        openapi_extra=_LABEL,
        responses={
            200: {"description": "The study after the change.", "headers": ETAG},
            **problem_responses(
                errors.STUDY_NOT_FOUND,
                errors.VERSION_CONFLICT,
                *BODY_FAULTS,
                errors.CROSS_SITE,
                errors.NOT_OWNER,
            ),
        },
    )
    def label_study(
        request: Request, caller: CurrentActor, study_id: StudyId, label: LabelBody, if_match: IfMatch = None
    ) -> Response:
        """Change the label by which a study in any state belongs to a suite; nothing is trained again."""
        store: Store = request.app.state.store
        store.label([study_id], label.suite, by=caller, if_version=version_in(if_match))
        return study_response(store.study(study_id))

    @router.post(
        "/studies/{study_id}:archive",
        response_model=StudyView,
        summary="Archive a closed study",
        responses=_CHANGED,
    )
    def archive_study(
        request: Request, caller: CurrentActor, study_id: StudyId, if_match: IfMatch = None
    ) -> Response:
        """Hide a study from the list; everything is kept, and `?archived=true` lists it.

        An extension returns it to the list.
        """
        store: Store = request.app.state.store
        return study_response(store.archive(study_id, by=caller, if_version=version_in(if_match)))

    @router.post(
        "/studies/{study_id}:unarchive",
        response_model=StudyView,
        summary="Return a study from the archive",
        responses=_CHANGED,
    )
    def unarchive_study(
        request: Request, caller: CurrentActor, study_id: StudyId, if_match: IfMatch = None
    ) -> Response:
        """Show an archived study in the list again."""
        store: Store = request.app.state.store
        return study_response(
            store.archive(study_id, is_archived=False, by=caller, if_version=version_in(if_match))
        )

    @router.get(
        "/studies/{study_id}/contents",
        response_model=StudyContents,
        summary="What deleting a study would remove",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def get_contents(request: Request, study_id: StudyId) -> Response:
        """Return how much of everything a study has."""
        store: Store = request.app.state.store
        return json_response(store.contents(study_id))

    @router.delete(
        "/studies/{study_id}",
        response_model=StudyContents,
        summary="Delete a closed study",
        response_description="What was removed.",
        responses=problem_responses(*_FAULTS),
    )
    def delete_study(
        request: Request, caller: CurrentActor, study_id: StudyId, if_match: IfMatch = None
    ) -> Response:
        """Delete a study with its trials, measurements, files and deliveries for good.

        The audit log keeps who deleted it. Each dispatcher deletes the files that it can reach within
        minutes, or when it starts next.
        """
        store: Store = request.app.state.store
        return json_response(store.delete(study_id, by=caller, if_version=version_in(if_match)))

    _ = label_study, archive_study, unarchive_study, get_contents, delete_study
    return router
